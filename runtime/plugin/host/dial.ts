/**
 * Dials an endpoint by the transports that claim its scheme, in turn: the first that can dial does. Owns the time that each may
 * take; must never leave a pipe open that came when nobody waited for it.
 */
import type { Clock, DialTerms, Pipe, TransportDriver } from "@godwit/sdk";
import { literalOf } from "../../kernel/address-kind.ts";
import { asGodwitError, type GodwitError, godwitError } from "../../kernel/errors.ts";

/** What a transport may ask for its dials, and what it gets when it asks for nothing. */
const DIAL_TIMEOUT_MS = { min: 1_000, default: 20_000, max: 30 * 86_400_000 } as const;

export interface DialWish {
  readonly expected: string | undefined;
  /** Undefined: the operator named it. */
  readonly terms: DialTerms | undefined;
}

/** Throws GODWIT_ENDPOINT_REFUSED where `place`, an endpoint, names an address that the terms of a dial to `endpoint` exclude. */
export function checkPlace(endpoint: string, place: string, terms: DialTerms): void {
  const address = literalOf(place);
  const why = address === undefined ? undefined : terms.refusal(address);
  if (why !== undefined)
    throw godwitError("GODWIT_ENDPOINT_REFUSED", `${endpoint} is not dialled: ${address} is ${why}`);
}

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
  wish: DialWish,
): Promise<Pipe> {
  // What names an address is judged here, whoever dials; names are judged by the transports, which resolve them.
  if (wish.terms !== undefined) checkPlace(endpoint, endpoint, wish.terms);
  const errors: string[] = [];
  const refusals: GodwitError[] = [];
  const endsAtMs = clock.monotonicMs() + (dialTimeoutMs(candidates) ?? DIAL_TIMEOUT_MS.default);
  for (const [index, { instance, driver }] of candidates.entries()) {
    const left = candidates.length - index;
    const partMs = Math.min(ownTimeoutMs(driver), Math.max(0, endsAtMs - clock.monotonicMs()) / left);
    try {
      return left === 1
        ? await driver.dial(endpoint, signal, wish.expected, wish.terms)
        : await dialWithin(driver, partMs, clock, endpoint, signal, wish);
    } catch (error) {
      if (signal.aborted || candidates.length === 1) throw error;
      const known = asGodwitError(error);
      if (known.code === "GODWIT_ENDPOINT_REFUSED") refusals.push(known);
      errors.push(`${instance}: ${known.message}`);
    }
  }
  // All of them were asked and none would: nobody tried.
  if (refusals.length === candidates.length) throw refusals[0]!;
  throw godwitError("GODWIT_DIAL_FAILED", `no transport reaches ${endpoint}: ${errors.join("; ")}`);
}

/** By one after which another waits. */
async function dialWithin(
  driver: TransportDriver,
  withinMs: number,
  clock: Clock,
  endpoint: string,
  signal: AbortSignal,
  { expected, terms }: DialWish,
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
    const dialling = driver.dial(endpoint, controller.signal, expected, terms);
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
