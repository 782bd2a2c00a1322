/** The table of an instance, and what it means. */
import { isListen, parseHostPort, type HostPort, type ListenAddress, planListen } from "@godwit/sdk";
import type { HostAddress } from "@godwit/sdk";
import { type Secret, secretField } from "@godwit/sdk/secret";
import { z } from "zod/mini";
import { parseKey } from "./wire/keyring.ts";
import { encodeTags, type Tags } from "./wire/serf-messages.ts";
import { META_BYTES_MAX, NAME_BYTES_MAX } from "./wire/types.ts";

export const DEFAULT_PORT = 7_946;
const JOIN_MAX = 64;
/** As they are encoded. Who the node is, and two places at its own address where it is reached, take the rest of Serf's 512. */
const TAGS_BYTES_MAX = 340;
/** The one that carries who the node is. */
export const IDENTITY_TAG = "godwit";
/** What the machine is, as the node's record says. */
export const CAPABILITIES_TAG = "capabilities";

const hostPort = (what: string) =>
  z.string().check(
    z.refine((text) => seedOf(text) !== undefined, {
      error: `expected ${what}: a name or address, with :port unless it is ${DEFAULT_PORT}, such as "192.0.2.7" or "[2001:db8::7]:7946"`,
    }),
    z.maxLength(260),
  );

/** `host`, `host:port`, `[IPv6]` or `[IPv6]:port`; undefined for what is none. */
export function seedOf(text: string): HostPort | undefined {
  for (const candidate of [text, `${text}:${DEFAULT_PORT}`, `[${text}]:${DEFAULT_PORT}`])
    try {
      const found = parseHostPort(candidate);
      if (found.port > 0) return found;
    } catch {
      // The next spelling.
    }
  return undefined;
}

/** So many bytes, as they are encoded. */
export function haveRoom(tags: Tags, bytesMax = META_BYTES_MAX): boolean {
  try {
    return encodeTags(tags).length <= bytesMax;
  } catch {
    return false;
  }
}

export const serfConfig = z.strictObject({
  /** One address, or an interface, to listen on: datagrams and streams on one port. */
  listen: z._default(
    z.string().check(
      z.refine(isListen, {
        error: 'expected address:port, [IPv6]:port or interface:port, e.g. "0.0.0.0:7946" or "eth0:7946"',
      }),
    ),
    `0.0.0.0:${DEFAULT_PORT}`,
  ),
  /** Where others reach this node, where that is not where it listens. */
  advertise: z.optional(hostPort("an address")),
  /** Take the next free port where that of `listen` is taken. */
  port_search: z._default(z.boolean(), false),
  /** Members to call: at the start, and again for as long as they are not among the members. */
  join: z._default(z.array(hostPort("a member")).check(z.maxLength(JOIN_MAX)), []),
  /** Of this node in the cluster; by default its callsign, else its id's first letters. */
  name: z.optional(
    z
      .string()
      .check(
        z.regex(/^[A-Za-z0-9._-]+$/, { error: "expected letters, digits, dots, dashes and underscores" }),
        z.maxLength(NAME_BYTES_MAX),
      ),
  ),
  /** The gossip key in base64, as `serf keygen` prints it; without one everything goes in the clear. */
  encrypt_key: z.optional(
    secretField("a gossip key of 16, 24 or 32 bytes in base64", {
      bytesMin: 1,
      bytesMax: 128,
      judge: (bytes) =>
        parseKey(new TextDecoder().decode(bytes)) === undefined
          ? "which is no such key in base64"
          : undefined,
      suggestion: "serf keygen, or: head -c 32 /dev/urandom | base64",
    }),
  ),
  /** Separates clusters that share a network; the same on all members. Serf before 0.10 has none. */
  label: z._default(z.string().check(z.maxLength(255)), ""),
  /** How fast: `lan`, `wan` or `local`; the same on all members. */
  profile: z._default(z.enum(["lan", "wan", "local"]), "lan"),
  /** False: nothing over UDP. News are slower then: a second and more. */
  udp: z._default(z.boolean(), true),
  /** What others are told of this node beside who it is. */
  tags: z._default(
    z
      .record(
        z.string().check(z.minLength(1), z.maxLength(64)),
        z.string().check(z.maxLength(TAGS_BYTES_MAX)),
      )
      .check(
        z.refine((tags) => !(IDENTITY_TAG in tags), {
          error: `expected no tag "${IDENTITY_TAG}": that one says who the node is`,
        }),
        z.refine((tags) => haveRoom(new Map(Object.entries(tags)), TAGS_BYTES_MAX), {
          error: `expected at most ${TAGS_BYTES_MAX} bytes of tags in all, names included: Serf has ${META_BYTES_MAX}, and who the node is takes the rest`,
        }),
      ),
    {},
  ),
});

export type SerfConfig = z.infer<typeof serfConfig> & { readonly encrypt_key?: Secret | undefined };

/** The one socket of `listen`; undefined: its interface has no address now. */
export const listenAt = (
  { listen }: Pick<SerfConfig, "listen">,
  addresses: readonly HostAddress[],
): ListenAddress | undefined => planListen([listen], addresses)[0];
