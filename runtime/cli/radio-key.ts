/** The key of a radio channel, in a file that its owner alone may read: all radios of a channel need the same one. Never on a command line, never shown. */
import { existsSync, mkdirSync } from "node:fs";
import { dirname, join } from "node:path";
import { type Environment, readSecret, Secret, SECRET_REFERENCE } from "@godwit/sdk/secret";
import { godwitError } from "../kernel/errors.ts";
import { systemRandom } from "../kernel/random.ts";
import { writeConfig } from "./starter.ts";

const KEY_BYTES = 32;
/** Base64 of 16 and of 32 bytes, as the apps of Meshtastic show a key. */
const TEXT_BYTES = { min: 22, max: 44 } as const;

export interface ChannelKey {
  readonly bytes: Uint8Array;
  /** Where it is kept, or will be. */
  readonly file: string;
  readonly isNew: boolean;
}

/** Of `--key`, of the file where an earlier setup left it, or a new one, which no file holds yet. Throws GODWIT_USAGE and GODWIT_SECRET_UNREADABLE. */
export function channelKey(
  given: string | undefined,
  channel: string,
  configPath: string,
  env: Environment,
): ChannelKey {
  const plain = channel.toLowerCase().replaceAll(/[^a-z0-9]+/g, "-");
  // Names that share a file would share a key.
  const slug = plain === channel ? plain : `${plain}-${Buffer.from(channel).toString("hex")}`;
  const file = join(dirname(configPath), `radio-${slug}.key`);
  const reference = given ?? (existsSync(file) ? `file:${file}` : undefined);
  if (reference === undefined) return { bytes: systemRandom.bytes(KEY_BYTES), file, isNew: true };
  // What was typed there may be the key itself, and is not repeated.
  if (!SECRET_REFERENCE.test(reference))
    throw godwitError("GODWIT_USAGE", "--key says where the key is: file:/path, credential:NAME or env:NAME");
  const read = readSecret(reference, env, {
    bytesMin: TEXT_BYTES.min,
    bytesMax: TEXT_BYTES.max,
    judge: (bytes) => (keyIn(bytes) === undefined ? "that is no key of 16 or 32 bytes in base64" : undefined),
  });
  if (!(read instanceof Secret)) {
    const advice = read.suggestion === undefined ? "" : `: ${read.suggestion}`;
    throw godwitError("GODWIT_SECRET_UNREADABLE", `the channel's key is named as ${read.found}${advice}`);
  }
  return { bytes: keyIn(read.reveal())!, file: reference.replace(/^file:/, ""), isNew: false };
}

/** Before a radio has it: what is in a radio alone could not be given to another. */
export function keepKey({ bytes, file, isNew }: ChannelKey): void {
  if (!isNew) return;
  mkdirSync(dirname(file), { recursive: true });
  writeConfig(file, `${Buffer.from(bytes).toString("base64")}\n`, 0o600);
}

function keyIn(text: Uint8Array): Uint8Array | undefined {
  const words = new TextDecoder().decode(text).trim();
  if (!/^[A-Za-z0-9+/]+={0,2}$/.test(words)) return undefined;
  const bytes = new Uint8Array(Buffer.from(words, "base64"));
  return bytes.length === 16 || bytes.length === KEY_BYTES ? bytes : undefined;
}
