/**
 * What the daemon says of itself, in the words of 0.4 (since 0.4.5; seen: 0.4.7) or 0.5 (src/admin of its source, 0.5.0 to
 * 0.5.14; not seen). Pure; whatever does not fit throws GODWIT_PLUGIN_FAILED and is believed by nobody.
 */
import { z } from "zod/mini";
import { failed } from "./admin.ts";
import { isOverlayAddress, shownPeer } from "./endpoint.ts";

const PEERS_MAX = 4_096;
const COMMANDS_MAX = 256;
const TEXT_CHARS_MAX = 300;
const NS_PER_MS = 1_000_000;

const overlayAddress = z.string().check(z.refine(isOverlayAddress));
const text = z.string().check(z.maxLength(TEXT_CHARS_MAX));
const amount = z.number().check(z.minimum(0));

const listSchema = z.object({
  list: z.array(z.object({ command: text })).check(z.maxLength(COMMANDS_MAX)),
});
const selfSchema = z.object({
  address: overlayAddress,
  subnet: z.string().check(z.regex(/^0?3[0-9a-fA-F]{2}:[0-9a-fA-F:]{2,36}\/64$/)),
  build_version: z.optional(text),
});
const tunSchema = z.object({ enabled: z.boolean(), mtu: z.optional(amount), name: z.optional(text) });
const peersSchema = z.object({
  peers: z
    .array(
      z.object({
        address: z.optional(z.string()),
        remote: z.optional(text),
        // Both only of 0.5, which lists those as well that are not connected.
        up: z.optional(z.boolean()),
        inbound: z.optional(z.boolean()),
        uptime: z.optional(amount),
        bytes_recvd: z.optional(amount),
        bytes_sent: z.optional(amount),
        // Nanoseconds under either name: 0.5.4 called them milliseconds, 0.5.13 no more.
        latency_ms: z.optional(amount),
        latency: z.optional(amount),
      }),
    )
    .check(z.maxLength(PEERS_MAX)),
});
const sessionsSchema = z.object({ sessions: z.array(z.unknown()).check(z.maxLength(PEERS_MAX)) });

function read<Schema extends z.ZodMiniType>(
  schema: Schema,
  response: unknown,
  what: string,
): z.infer<Schema> {
  const { success, data } = schema.safeParse(response);
  if (!success) throw failed(what);
  return data;
}

export type Dialect = "0.4" | "0.5";

/** By what it can be asked: its version is "unknown" in builds of distributions. */
export function parseDialect(response: unknown): Dialect {
  const { list } = read(listSchema, response, "list answered no commands");
  const commands = new Set(list.map(({ command }) => command.toLowerCase()));
  if (commands.has("gettree")) return "0.5";
  if (commands.has("getdht")) return "0.4";
  throw failed("the daemon speaks neither 0.4 nor 0.5");
}

export interface DaemonSelf {
  readonly address: string;
  /** /64 that this node may give out. */
  readonly subnet: string;
  readonly version: string;
}

export function parseSelf(response: unknown): DaemonSelf {
  const { address, subnet, build_version } = read(
    selfSchema,
    response,
    "getself answered no address of 200::/7 (0.4.4 and earlier are not understood)",
  );
  return { address, subnet, version: build_version ?? "unknown" };
}

export interface DaemonTun {
  readonly isEnabled: boolean;
  readonly mtu: number | undefined;
}

export function parseTun(response: unknown): DaemonTun {
  const { enabled, mtu } = read(tunSchema, response, "gettun answered nothing of use");
  return { isEnabled: enabled, mtu };
}

export interface DaemonPeer {
  readonly address: string | undefined;
  /** As the daemon writes it, without what may be secret. */
  readonly remote: string;
  readonly isUp: boolean;
  readonly isInbound: boolean | undefined;
  readonly upMs: number | undefined;
  readonly latencyMs: number | undefined;
  readonly receivedBytes: number | undefined;
  readonly sentBytes: number | undefined;
}

export const parsePeers = (response: unknown): DaemonPeer[] =>
  read(peersSchema, response, "getpeers answered no list").peers.map((peer) => ({
    // A peer that was never reached has none, or the address of a key of zeros.
    address: peer.address !== undefined && isOverlayAddress(peer.address) ? peer.address : undefined,
    remote: shownPeer(peer.remote ?? ""),
    isUp: peer.up ?? true,
    isInbound: peer.inbound,
    upMs: peer.uptime === undefined ? undefined : Math.round(peer.uptime * 1_000),
    latencyMs: latencyOf(peer.latency ?? peer.latency_ms),
    receivedBytes: peer.bytes_recvd,
    sentBytes: peer.bytes_sent,
  }));

const latencyOf = (nanoseconds: number | undefined): number | undefined =>
  nanoseconds === undefined ? undefined : nanoseconds / NS_PER_MS;

export const parseSessionCount = (response: unknown): number =>
  read(sessionsSchema, response, "getsessions answered no list").sessions.length;
