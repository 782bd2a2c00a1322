/**
 * Dialling by RFC 8305: all addresses of a name, families in turn, the next one started when the one before has not
 * answered within a quarter of a second or has failed; the first to connect wins and the others go.
 */
import { lookup } from "node:dns/promises";
import type { Clock, Timer } from "../clock.ts";
import { GodwitError } from "../errors.ts";

export const STAGGER_MS = 250;
/** Of a name with more addresses the rest is not tried. */
export const ADDRESSES_MAX = 16;

export interface Resolved {
  readonly address: string;
  readonly family: number;
}

/** One connection that is being made; `cancel` before it is there leaves nothing. */
export interface Attempt<T> {
  readonly connected: Promise<T>;
  cancel(): void;
}

export interface DialSeams<T> {
  readonly clock: Clock;
  resolve(host: string): Promise<readonly Resolved[]>;
  connect(address: string): Attempt<T>;
  /** Of one that connected when another had already won. */
  discard(connection: T): void;
}

/** The addresses of a name, in the resolver's order; an IPv6 address, with its zone or without, is its own. Rejects with the resolver's error. */
export const resolveHost = (host: string): Promise<readonly Resolved[]> =>
  host.includes(":")
    ? Promise.resolve([{ address: host, family: 6 }])
    : lookup(host, { all: true, verbatim: true });

/** Families in turn, beginning with that of the first address: the resolver has sorted them by RFC 6724. */
export function interleave(found: readonly Resolved[]): string[] {
  const first = found.filter(({ family }) => family === found[0]?.family);
  const second = found.filter(({ family }) => family !== found[0]?.family);
  const out: string[] = [];
  for (let i = 0; i < Math.max(first.length, second.length); i++)
    for (const entry of [first[i], second[i]]) if (entry !== undefined) out.push(entry.address);
  return [...new Set(out)].slice(0, ADDRESSES_MAX);
}

/** Rejects with the signal's reason, or with GODWIT_DIAL_FAILED that names what was tried. */
export function dialAny<T>(
  endpoint: string,
  host: string,
  signal: AbortSignal,
  seams: DialSeams<T>,
): Promise<T> {
  return new Promise((resolve, reject) => {
    if (signal.aborted) return reject(signal.reason);
    const attempts = new Set<Attempt<T>>();
    const failures: string[] = [];
    let waiting: string[] = [];
    let timer: Timer | undefined;
    let isOver = false;
    const finish = () => {
      isOver = true;
      timer?.cancel();
      signal.removeEventListener("abort", onAbort);
      for (const attempt of attempts) attempt.cancel();
    };
    const onAbort = () => {
      finish();
      reject(signal.reason);
    };
    const fail = (cause: unknown) => {
      finish();
      // Nothing was tried: it is not that the place cannot be reached.
      if (cause instanceof GodwitError && cause.code === "GODWIT_ENDPOINT_REFUSED") return reject(cause);
      const why = failures.length > 0 ? failures.join("; ") : reasonOf(cause);
      reject(
        new GodwitError("GODWIT_DIAL_FAILED", `${endpoint} cannot be reached: ${why}`, {
          kind: "transport",
          retry: "later",
          cause,
        }),
      );
    };
    const tryNext = () => {
      timer?.cancel();
      const address = waiting.shift();
      if (address === undefined) return;
      if (waiting.length > 0) timer = seams.clock.after(STAGGER_MS, tryNext);
      const attempt = seams.connect(address);
      attempts.add(attempt);
      attempt.connected.then(
        (connection) => {
          attempts.delete(attempt);
          if (isOver) return seams.discard(connection);
          finish();
          resolve(connection);
        },
        (error: unknown) => {
          attempts.delete(attempt);
          if (isOver) return;
          failures.push(`${address}: ${reasonOf(error)}`);
          if (waiting.length > 0) tryNext();
          else if (attempts.size === 0) fail(error);
        },
      );
    };
    signal.addEventListener("abort", onAbort, { once: true });
    seams.resolve(host).then((found) => {
      if (isOver) return;
      waiting = interleave(found);
      if (waiting.length === 0) fail(new Error("the name has no address"));
      else tryNext();
    }, fail);
  });
}

/** Bun says "Failed to connect" of everything, and ECONNREFUSED of nearly everything; a sandbox's refusal it tells by the code alone. */
function reasonOf(error: unknown): string {
  if (!(error instanceof Error)) return String(error);
  const code = "code" in error ? error.code : undefined;
  const isToldByCode = (code === "EACCES" || code === "EPERM") && !error.message.includes(code);
  return isToldByCode ? `${error.message} (${code})` : error.message;
}
