/** `[services.NAME] type = "radio"`: what may stand there. */
import { type HostPort, parseHostPort } from "@godwit/sdk";
import { type Secret, secretField } from "@godwit/sdk/secret";
import { z } from "zod/mini";
import { KEY_BYTES } from "./ciphers.ts";
import { TCP_PORT } from "./wire.ts";

export type RadioPlace =
  ({ readonly kind: "tcp" } & HostPort) | { readonly kind: "serial"; readonly path: string };
/** Where packets are heard, and nothing can be sent. */
export type TapPlace =
  ({ readonly kind: "udp" } & HostPort) | ({ readonly kind: "mqtt"; readonly isTls: boolean } & HostPort);
export type SourcePlace = RadioPlace | TapPlace;

const UDP_PORT = 4_403;
const MQTT_PORT = 1_883;
const MQTTS_PORT = 8_883;
const TOPICS_MAX = 16;
const TOPIC_BYTES_MAX = 256;
/** Bytes of a user's name, a password, a certificate. */
const CREDENTIAL_BYTES_MAX = 256;
const PATH_MAX = 4_096;
const INTERFACES_MAX = 16;

/** As Meshtastic's apps allow. */
const CHANNELS_MAX = 32;
const NAME_BYTES_MAX = 11;
/** In base64, 32 bytes. */
const KEY_TEXT_BYTES_MAX = 44;

/** Undefined: no place of a radio. */
export function parsePlace(text: string): RadioPlace | undefined {
  const place = parseSource(text);
  return place?.kind === "tcp" || place?.kind === "serial" ? place : undefined;
}

/** Undefined: neither that nor where packets are heard. */
function parseSource(text: string): SourcePlace | undefined {
  const path = /^serial:(?:\/\/)?(\/dev\/[^\0\s]{1,200})$/.exec(text)?.[1];
  if (path !== undefined) return { kind: "serial", path };
  const [, scheme, at = ""] = /^(tcp|udp|mqtts?):\/\/(.+)$/.exec(text) ?? [];
  switch (scheme) {
    case "tcp":
      return placeAt("tcp", at, TCP_PORT);
    case "udp": {
      const place = placeAt("udp", at, UDP_PORT);
      return place !== undefined && isGroup(place.host) ? place : undefined;
    }
    case "mqtt":
    case "mqtts": {
      const isTls = scheme === "mqtts";
      const place = placeAt("mqtt", at, isTls ? MQTTS_PORT : MQTT_PORT);
      return place && { ...place, isTls };
    }
    default:
      return undefined;
  }
}

/** A multicast address of IPv4. */
const isGroup = (host: string): boolean => {
  const parts = host.split(".").map(Number);
  const isAddress =
    parts.length === 4 && parts.every((part) => Number.isInteger(part) && part >= 0 && part < 256);
  return isAddress && parts[0]! >= 224 && parts[0]! < 240;
};

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

const topic = z.string().check(
  z.refine((text) => Buffer.byteLength(text) <= TOPIC_BYTES_MAX && /(?:^|\/)2\/e\/[^\0]+$/.test(text), {
    error: 'expected topics of packets, like "msh/EU_868/2/e/LongFast/+"',
  }),
);

export const radioConfig = z
  .strictObject({
    /** Where the radio is: `serial:/dev/...`, best by its name under `/dev/serial/by-id`, or `tcp://HOST`, port 4403 unless it says otherwise. To hear alone: `udp://224.0.0.69` for what radios in the LAN multicast, `mqtt://HOST` or `mqtts://HOST` for what gateways publish. */
    connect: z.pipe(
      z.string(),
      z.transform((value, ctx): SourcePlace => {
        const place = parseSource(value);
        if (place !== undefined) return place;
        ctx.issues.push({
          code: "custom",
          message:
            'expected the place of a radio, like "serial:/dev/serial/by-id/usb-..." or "tcp://192.0.2.7", or of what is heard: "udp://224.0.0.69", "mqtts://broker.example"',
          // Errors end up in logs.
          ...(value.includes("@")
            ? {
                params: {
                  isSecret: true,
                  found: "a place with a user or a password in it (not shown)",
                  suggestion: "user and password have keys of their own",
                },
                input: "[secret]",
              }
            : { input: value }),
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
    /** UDP: names of the interfaces to hear on; by default all but loopback. */
    interfaces: z.optional(
      z.array(z.string().check(z.regex(/^[\w.-]{1,15}$/))).check(z.minLength(1), z.maxLength(INTERFACES_MAX)),
    ),
    /** MQTT: what to subscribe to; by default `msh/+/2/e/#`. */
    topics: z.optional(z.array(topic).check(z.minLength(1), z.maxLength(TOPICS_MAX))),
    /** MQTT: the user that the broker asks for. */
    user: z.optional(z.string().check(z.minLength(1), z.maxLength(CREDENTIAL_BYTES_MAX))),
    /** MQTT: its password, `file:/path`, `env:NAME` or `credential:NAME`. */
    password: z.optional(
      secretField(`a password of 1 to ${CREDENTIAL_BYTES_MAX} bytes`, {
        bytesMin: 1,
        bytesMax: CREDENTIAL_BYTES_MAX,
      }),
    ),
    /** MQTT: path of the certificates, as PEM, that sign the broker's; by default those that the system trusts. */
    ca: z.optional(z.string().check(z.regex(/^\/[^\0]+$/), z.maxLength(PATH_MAX))),
  })
  .check(
    z.refine((table) => misplacedOf(table) === undefined, {
      error: ({ input }) => misplacedOf(input as RadioConfig)!,
    }),
  );

/** What a table says that its source has no use for: it was meant otherwise. */
function misplacedOf({ connect, interfaces, topics, user, password, ca }: RadioConfig): string | undefined {
  if (connect.kind !== "udp" && interfaces !== undefined)
    return "expected interfaces only where connect is udp://";
  if (connect.kind === "mqtt")
    return !connect.isTls && ca !== undefined ? "expected ca only where connect is mqtts://" : undefined;
  const found = Object.entries({ topics, user, password, ca }).find(([, value]) => value !== undefined);
  return found && `expected ${found[0]} only where connect is mqtt:// or mqtts://`;
}

export interface RadioConfig {
  readonly connect: SourcePlace;
  readonly interfaces?: readonly string[] | undefined;
  readonly topics?: readonly string[] | undefined;
  readonly user?: string | undefined;
  readonly password?: Secret | undefined;
  readonly ca?: string | undefined;
  readonly channels: readonly { readonly name: string; readonly key?: Secret | undefined }[];
  readonly private_key?: Secret | undefined;
  readonly private_key_node?: string | undefined;
}

/** Whatever a broker has of any region. */
export const DEFAULT_TOPICS = ["msh/+/2/e/#"];

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

export function formatPlace(place: SourcePlace): string {
  if (place.kind === "serial") return place.path;
  const scheme = place.kind === "mqtt" && place.isTls ? "mqtts" : place.kind;
  return `${scheme}://${place.host.includes(":") ? `[${place.host}]` : place.host}:${place.port}`;
}
