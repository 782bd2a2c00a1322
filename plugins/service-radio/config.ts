/** `[services.NAME] type = "radio"`: what may stand there. */
import { type HostPort, parseHostPort } from "@godwit/sdk";
import { type Secret, secretField } from "@godwit/sdk/secret";
import { z } from "zod/mini";
import { KEY_BYTES } from "./ciphers.ts";
import { TCP_PORT } from "./wire.ts";

export type RadioPlace =
  ({ readonly kind: "tcp" } & HostPort) | { readonly kind: "serial"; readonly path: string };

/** As Meshtastic's apps allow. */
const CHANNELS_MAX = 32;
const NAME_BYTES_MAX = 11;
/** In base64, 32 bytes. */
const KEY_TEXT_BYTES_MAX = 44;

/** Undefined: no place of a radio. */
export function parsePlace(text: string): RadioPlace | undefined {
  const path = /^serial:(?:\/\/)?(\/dev\/[^\0\s]{1,200})$/.exec(text)?.[1];
  if (path !== undefined) return { kind: "serial", path };
  const host = /^tcp:\/\/(.+)$/.exec(text)?.[1];
  return host === undefined ? undefined : placeAt("tcp", host, TCP_PORT);
}

function placeAt<K extends string>(
  kind: K,
  text: string,
  defaultPort: number,
): ({ readonly kind: K } & HostPort) | undefined {
  try {
    const { host, port } = parseHostPort(/^(\[.+\]|[^:]+)$/.test(text) ? `${text}:${defaultPort}` : text);
    return port > 0 ? { kind, host, port } : undefined;
  } catch {
    return undefined;
  }
}

/** Undefined: no key of that many bytes in base64. */
function keyOf(text: Uint8Array, lengths: readonly number[]): Uint8Array | undefined {
  const words = new TextDecoder().decode(text);
  const key = Buffer.from(words, "base64");
  return key.toString("base64") === words && lengths.includes(key.length) ? new Uint8Array(key) : undefined;
}

const PSK_LENGTHS = [1, 16, KEY_BYTES];
const keyField = (what: string, lengths: readonly number[]) =>
  secretField(what, {
    bytesMin: 4,
    bytesMax: KEY_TEXT_BYTES_MAX,
    judge: (text) => (keyOf(text, lengths) === undefined ? "with something else" : undefined),
    suggestion: "copy the key as the app of Meshtastic shows it",
  });

const channel = z.strictObject({
  name: z.string().check(
    z.refine((name) => name.length > 0 && Buffer.byteLength(name) <= NAME_BYTES_MAX, {
      error: `expected the name of a channel, 1 to ${NAME_BYTES_MAX} bytes`,
    }),
  ),
  key: z.optional(keyField("a key of 1, 16 or 32 bytes in base64", PSK_LENGTHS)),
});

const nodeNumber = z.string().check(z.regex(/^![0-9a-f]{8}$/, { error: 'expected a node like "!0a1b2c3d"' }));

export const radioConfig = z.strictObject({
  /** Where the radio is: `serial:/dev/...`, best by its name under `/dev/serial/by-id`, or `tcp://HOST`, port 4403 unless it says otherwise. */
  connect: z.pipe(
    z.string(),
    z.transform((value, ctx): RadioPlace => {
      const place = parsePlace(value);
      if (place !== undefined) return place;
      ctx.issues.push({
        code: "custom",
        message:
          'expected the place of a radio, like "serial:/dev/serial/by-id/usb-..." or "tcp://192.0.2.7"',
        input: value,
      });
      return z.NEVER;
    }),
  ),
  /** Channels to read beside those that the radio itself has, each `{ name, key }`: the name as people see it, the key as a secret in base64; without a key, the one that everybody has. */
  channels: z._default(z.array(channel).check(z.maxLength(CHANNELS_MAX)), []),
  /** The private key of a radio of yours, to read what others seal for it: `file:/path`, `env:NAME` or `credential:NAME`, 32 bytes in base64. */
  private_key: z.optional(keyField("a private key of 32 bytes in base64", [KEY_BYTES])),
  /** The node whose `private_key` that is, like `!0a1b2c3d`, where firmware before 2.8 gave it another number than that of its key. */
  private_key_node: z.optional(nodeNumber),
});

export interface RadioConfig {
  readonly connect: RadioPlace;
  readonly channels: readonly { readonly name: string; readonly key?: Secret | undefined }[];
  readonly private_key?: Secret | undefined;
  readonly private_key_node?: string | undefined;
}

/** The key that everybody has. */
const DEFAULT_PSK = Uint8Array.of(1);

/** What can be read by it. */
export const keysOf = ({ channels, private_key: own, private_key_node: node }: RadioConfig) => ({
  channels: channels.map(({ name, key }) => ({
    name,
    psk: key === undefined ? DEFAULT_PSK : keyOf(key.reveal(), PSK_LENGTHS)!,
  })),
  privateKey: own && keyOf(own.reveal(), [KEY_BYTES]),
  number: node === undefined ? undefined : Number.parseInt(node.slice(1), 16),
});

export const formatPlace = (place: RadioPlace): string =>
  place.kind === "serial"
    ? place.path
    : `tcp://${place.host.includes(":") ? `[${place.host}]` : place.host}:${place.port}`;
