/**
 * Peers from the DNS: addresses of configured host names, and names that stand for whole meshes (SRV, and TXT with
 * endpoints). Asks again when an answer runs out; keeps the last one for as long as no server says otherwise.
 */
import { isIPv4, isIPv6 } from "node:net";
import type { Answer } from "dns-packet";
import type { PluginContext } from "@godwit/sdk";
import type { Board } from "./board.ts";
import { ENTRIES_MAX, formatEndpoint, namedHost, parseEntry, type Entry } from "./entry.ts";
import { resolveName, type QueryType, type ResolverDeps } from "./resolver.ts";

export const TTL_MIN_MS = 30_000;
export const TTL_MAX_MS = 3_600_000;
/** After a failure. */
export const RETRY_MS = 30_000;
/** Targets of one SRV name that are resolved further. */
const TARGETS_MAX = 32;

interface Answered {
  readonly entries: readonly Entry[];
  readonly ttlMs: number;
}

type Ask = (name: string, type: QueryType) => ReturnType<typeof resolveName>;

/** One watcher for each name; they end with the plugin. */
export function watchDns(
  ctx: PluginContext,
  board: Board,
  wanted: {
    readonly names: readonly string[];
    readonly peers: readonly Entry[];
    readonly servers: readonly string[];
  },
): void {
  const deps: ResolverDeps = { clock: ctx.clock, random: ctx.random, servers: wanted.servers };
  const ask: Ask = (name, type) => resolveName(deps, name, type, ctx.signal);
  for (const entry of wanted.peers) {
    const named = namedHost(entry.endpoint);
    if (named === undefined) continue;
    const { scheme, host, port } = named;
    const source = `dns ${entry.endpoint}`;
    const look = async (): Promise<Answered> => {
      const { hosts, ttlMs } = await addressesOf(ask, host);
      return {
        ttlMs,
        entries: hosts.map((address) => ({
          endpoint: formatEndpoint(scheme, address, port),
          nodeId: entry.nodeId,
        })),
      };
    };
    // No fault of the node's: the name may stand in a hosts file, which the transport reads, where there is no DNS at all.
    watch(ctx, board, source, look, (reason) => {
      if (reason !== undefined) ctx.log.debug("name not resolved", { source, reason });
    });
  }
  for (const name of wanted.names) {
    const source = `dns ${name}`;
    watch(
      ctx,
      board,
      source,
      () => meshAt(ask, name),
      (reason) => board.report(source, reason),
    );
  }
}

function watch(
  ctx: PluginContext,
  board: Board,
  source: string,
  look: () => Promise<Answered>,
  onTrouble: (reason: string | undefined) => void,
): void {
  ctx.spawn(source, async (signal) => {
    while (!signal.aborted) {
      let waitMs = RETRY_MS;
      try {
        const { entries, ttlMs } = await look();
        board.publish(source, entries.slice(0, ENTRIES_MAX), false);
        onTrouble(undefined);
        waitMs = Math.min(Math.max(ttlMs, TTL_MIN_MS), TTL_MAX_MS);
      } catch (error) {
        if (signal.aborted) return;
        onTrouble(`${error instanceof Error ? error.message : String(error)}; the last answer stands`);
      }
      await pause(ctx, waitMs, signal);
    }
  });
}

/** Resolves early when the signal aborts. */
export function pause(ctx: PluginContext, delayMs: number, signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    const end = (): void => {
      timer.cancel();
      signal.removeEventListener("abort", end);
      resolve();
    };
    const timer = ctx.clock.after(delayMs, end);
    signal.addEventListener("abort", end, { once: true });
    if (signal.aborted) end();
  });
}

async function addressesOf(ask: Ask, host: string): Promise<{ hosts: string[]; ttlMs: number }> {
  const results = await Promise.allSettled([ask(host, "A"), ask(host, "AAAA")]);
  const answers = results.flatMap((result) => (result.status === "fulfilled" ? result.value : []));
  // One family without an answer is common; both silent means that the DNS is down.
  const failure = results.find((result) => result.status === "rejected");
  if (answers.length === 0 && failure !== undefined) throw failure.reason;
  const hosts = answers.flatMap((answer) =>
    "data" in answer && typeof answer.data === "string" && (isIPv4(answer.data) || isIPv6(answer.data))
      ? [answer.data]
      : [],
  );
  return { hosts, ttlMs: shortest(answers) };
}

/** SRV targets in order of priority, then what TXT records say. */
async function meshAt(ask: Ask, name: string): Promise<Answered> {
  const [srv, txt] = await Promise.allSettled([ask(name, "SRV"), ask(name, "TXT")]);
  if (srv.status === "rejected" && txt.status === "rejected") throw srv.reason;
  const services = srv.status === "fulfilled" ? srv.value : [];
  const texts = txt.status === "fulfilled" ? txt.value : [];
  const targets = services
    .flatMap((answer) => (answer.type === "SRV" ? [answer.data] : []))
    .filter(({ target }) => target !== "." && target !== "")
    .sort((a, b) => (a.priority ?? 0) - (b.priority ?? 0))
    .slice(0, TARGETS_MAX);
  const resolved = await Promise.all(
    targets.map(async ({ target, port }) => {
      const { hosts, ttlMs } = await addressesOf(ask, target);
      return {
        ttlMs,
        entries: hosts.map((host) => ({ endpoint: formatEndpoint("tcp", host, port), nodeId: undefined })),
      };
    }),
  );
  const said = texts
    .flatMap((answer) => (answer.type === "TXT" ? [textOf(answer.data)] : []))
    .flatMap((text) => text.split(/[\s,;]+/))
    .flatMap((word) => parseEntry(word) ?? []);
  return {
    entries: [...said, ...resolved.flatMap(({ entries }) => entries)],
    ttlMs: Math.min(shortest([...services, ...texts]), ...resolved.map(({ ttlMs }) => ttlMs)),
  };
}

/** The strings of one TXT record make one text. */
const textOf = (data: unknown): string =>
  Buffer.concat([data].flat().map((part) => Buffer.from(part as string | Uint8Array))).toString("utf8");

const shortest = (answers: readonly Answer[]): number =>
  answers.length === 0
    ? TTL_MIN_MS
    : Math.min(...answers.map((answer) => ("ttl" in answer ? (answer.ttl ?? 0) * 1_000 : 0)));
