/**
 * What plugins of two neighbours tell each other. docs/protocol/frames.md draws it.
 *
 *   frame 0x61 pluginMessage   | 0x61 | plugin, sized (<= 64) | message ... (<= 4,096) |
 */
import { decodeError, Writer } from "./bytes.ts";
import { FrameType, PLUGIN_MESSAGE_BYTES_MAX } from "./constants.ts";
import { frameReader } from "./peer-messages.ts";

const NAME_CHARS_MAX = 64;
const NAME = /^[a-z0-9-]+\.[a-z0-9-]+$/;

/** `plugin` is `namespace.plugin`. */
export const encodePluginMessage = (plugin: string, message: Uint8Array): Uint8Array =>
  new Writer(72 + message.length).u8(FrameType.pluginMessage).text(plugin).bytes(message).finish();

/** `message` is a copy, owned by the caller. Throws GODWIT_DECODE. */
export function decodePluginMessage(frame: Uint8Array): { plugin: string; message: Uint8Array } {
  const reader = frameReader(frame, FrameType.pluginMessage);
  const plugin = reader.text(NAME_CHARS_MAX);
  if (!NAME.test(plugin)) throw decodeError("plugin message without its plugin");
  const message = reader.rest().slice();
  if (message.length > PLUGIN_MESSAGE_BYTES_MAX) throw decodeError("plugin message is too long");
  return { plugin, message };
}
