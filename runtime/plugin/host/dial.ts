/**
 * Dials an endpoint by the transports that claim its scheme, in turn: the first that can dial does. Owns the time that each may
 * take; must never leave a pipe open that came when nobody waited for it.
 */
import type { Clock, Pipe, TransportDriver } from "@godwit/sdk";
import { asGodwitError, godwitError } from "../../kernel/errors.ts";

/** What a transport may ask for its dials, and what it gets when it asks for nothing. */
const DIAL_TIMEOUT_MS = { min: 1_000, default: 20_000, max: 30 * 86_400_000 } as const;

export interface Candidate {
  readonly instance: string;
  readonly driver: TransportDriver;
}

/** Of all of them together: what the most patient asks for. Undefined: the default, because there is one that asked for nothing. */
export function dialTimeoutMs(candidates: readonly Candidate[]): number | undefined {
  if (candidates.length === 1 && candidates[0]!.driver.dialTimeoutMs === undefined) return undefined;
  return Math.max(...candidates.map(({ driver }) => ownTimeoutMs(driver)));
}

const ownTimeoutMs = ({ dialTimeoutMs: wanted = DIAL_TIMEOUT_MS.default }: TransportDriver): number =>
  Math.min(DIAL_TIMEOUT_MS.max, Math.max(DIAL_TIMEOUT_MS.min, wanted));

/**
 * One after the other, all within the time of one dial: each has an even part of what is left, at most what it asks for, and the last all the rest. Rejects with the signal's reason, with the error of the
 * only one, or with GODWIT_DIAL_FAILED that names each with its own.
 */
export async function dialInTurn(
  candidates: readonly Candidate[],
  clock: Clock,
  endpoint: string,
  signal: AbortSignal,
  expected: string | undefined,
): Promise<Pipe> {
  const errors: string[] = [];
  const endsAtMs = clock.monotonicMs() + (dialTimeoutMs(candidates) ?? DIAL_TIMEOUT_MS.default);
  for (const [index, { instance, driver }] of candidates.entries()) {
    const left = candidates.length - index;
    const partMs = Math.min(ownTimeoutMs(driver), Math.max(0, endsAtMs - clock.monotonicMs()) / left);
    try {
      return left === 1
        ? await driver.dial(endpoint, signal, expected)
        : await dialWithin(driver, partMs, clock, endpoint, signal, expected);
    } catch (error) {
      if (signal.aborted || candidates.length === 1) throw error;
      errors.push(`${instance}: ${asGodwitError(error).message}`);
    }
  }
  throw godwitError("GODWIT_DIAL_FAILED", `no transport reaches ${endpoint}: ${errors.join("; ")}`);
}

/** By one after which another waits. */
async function dialWithin(
  driver: TransportDriver,
  withinMs: number,
  clock: Clock,
  endpoint: string,
  signal: AbortSignal,
  expected: string | undefined,
): Promise<Pipe> {
  const controller = new AbortController();
  const over = Promise.withResolvers<never>();
  const giveUp = (reason: unknown) => {
    controller.abort(reason);
    over.reject(reason);
  };
  const onAbort = () => giveUp(signal.reason);
  signal.throwIfAborted();
  signal.addEventListener("abort", onAbort, { once: true });
  const timer = clock.after(withinMs, () =>
    giveUp(godwitError("GODWIT_DIAL_FAILED", `no answer within ${withinMs / 1_000} s`)),
  );
  try {
    const dialling = driver.dial(endpoint, controller.signal, expected);
    dialling.then(
      (pipe) => void (controller.signal.aborted && pipe.close()),
      () => {},
    );
    return await Promise.race([dialling, over.promise]);
  } finally {
    timer.cancel();
    signal.removeEventListener("abort", onAbort);
  }
}
