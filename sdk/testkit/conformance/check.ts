/**
 * What a check is: a name and a function that throws when the plugin is at fault. Checks are data, so that they can be
 * registered with a test runner, run one by one, and be shown to catch a plugin that is broken on purpose.
 */
import { appendFileSync } from "node:fs";
import { createRequire } from "node:module";
import type { GodwitError } from "../../src/index.ts";
import type { ManualClock } from "../clock.ts";
import type { TestHost } from "../context.ts";

export interface Check<Setup> {
  readonly name: string;
  /** Kind of pipe that it is about; none: of both. */
  readonly kind?: "stream" | "datagram";
  /** False: it says nothing about such a plugin. */
  readonly applies?: (setup: Setup) => boolean;
  run(setup: Setup): Promise<void>;
}

/** What the suites need of a test runner. */
export interface Runner {
  describe(name: string, body: () => void): void;
  test(name: string, body: () => Promise<void>): void;
}

export interface Subject<Setup> {
  readonly name: string;
  /** Called for every check: a fresh plugin, network, folder. */
  setup(): Setup | Promise<Setup>;
}

export class CheckFailure extends Error {
  constructor(message: string) {
    super(message);
    this.name = "CheckFailure";
  }
}

/** Throws CheckFailure with `otherwise` unless `isTrue`. */
export function demand(isTrue: boolean, otherwise: string): asserts isTrue {
  if (!isTrue) throw new CheckFailure(otherwise);
}

export function demandNothing(leaks: readonly string[], when: string): void {
  demand(leaks.length === 0, `${when}: ${leaks.join("; ")}`);
}

/** Registers every check as a test of its own. */
export function register<Setup extends { dispose?(): void | Promise<void> }>(
  suite: string,
  checks: readonly Check<Setup>[],
  subject: Subject<Setup>,
  runner: Runner = bunRunner(),
): void {
  noteSuite(suite);
  runner.describe(`${suite}: ${subject.name}`, () => {
    for (const check of checks) runner.test(check.name, () => runCheck(check, subject));
  });
}

/** Tells `godwit plugin test` that the suite was there. */
function noteSuite(suite: string): void {
  const path = process.env["GODWIT_CONFORMANCE_SUITES"];
  if (path !== undefined) appendFileSync(path, `${suite}\n`);
}

/** Runs one; a check that does not apply passes. */
export async function runCheck<Setup extends { dispose?(): void | Promise<void> }>(
  check: Check<Setup>,
  subject: Subject<Setup>,
): Promise<void> {
  const setup = await subject.setup();
  try {
    if (check.applies?.(setup) ?? true) await check.run(setup);
  } finally {
    await setup.dispose?.();
  }
}

/** Not imported at the top, so that checks also run outside of a test. */
const bunRunner = (): Runner => createRequire(import.meta.url)("bun:test") as Runner;

/** One turn of the event loop: sockets are polled, promises react. */
export const turn = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));

const QUIET_TURNS = 40;
/** What must happen has so much real time: a plugin may run in a process of its own. */
export const DEADLINE_MS = 2_000;
/** Between two looks at what another process may be doing. */
export const PAUSE_MS = 1;

/** Where no manual clock must move. */
export const noStep = (): void => {};

/** How a manual clock goes on while a check waits: by so many ms at each look, or as time does, for plugins whose peers are processes of their own. */
export type ClockStep = number | "real time";

/** Steps that leave the processor to other processes between two looks. */
const unhurried = new WeakSet<() => void>();

export function stepBy(clock: ManualClock, by: ClockStep = 0): () => void {
  if (by !== "real time") return by > 0 ? () => clock.advance(by) : noStep;
  let lastMs = performance.now();
  const step = () => {
    const nowMs = performance.now();
    clock.advance(nowMs - lastMs);
    lastMs = nowMs;
  };
  unhurried.add(step);
  return step;
}

/** Long enough for what must not happen to happen. */
export async function quiet(step = noStep): Promise<void> {
  for (let i = 0; i < QUIET_TURNS; i++) {
    step();
    await (unhurried.has(step) ? Bun.sleep(PAUSE_MS) : turn());
  }
}

/** Waits until `isTrue`; fails after `withinMs` of real time. `step`, before each look, moves a manual clock where one must. */
export async function until(
  isTrue: () => boolean,
  what: string | (() => string),
  step = noStep,
  withinMs = DEADLINE_MS,
): Promise<void> {
  const endMs = performance.now() + withinMs;
  while (!isTrue()) {
    if (performance.now() >= endMs)
      throw new CheckFailure(`not within ${withinMs / 1_000} s: ${typeof what === "string" ? what : what()}`);
    step();
    // Without a clock to move, another process may do what is waited for, and needs the processor.
    await (step === noStep || unhurried.has(step) ? Bun.sleep(PAUSE_MS) : turn());
  }
}

export type Settled<T> =
  | { readonly isFulfilled: true; readonly value: T }
  | { readonly isFulfilled: false; readonly error: unknown };

/** How a promise ended; fails when it does not within two seconds. */
export async function settled<T>(promise: Promise<T>, what: string, step = noStep): Promise<Settled<T>> {
  const box: { outcome: Settled<T> | undefined } = { outcome: undefined };
  promise.then(
    (value) => (box.outcome = { isFulfilled: true, value }),
    (error: unknown) => (box.outcome = { isFulfilled: false, error }),
  );
  await until(() => box.outcome !== undefined, what, step);
  return box.outcome!;
}

/** By shape: a plugin may carry an SDK of its own. */
export const isGodwitError = (error: unknown): error is GodwitError =>
  error instanceof Error && "code" in error && "kind" in error && /^GODWIT_[A-Z_]+$/.test(String(error.code));

/** Stops a host and fails when that fails. */
export async function stopHost(host: TestHost, step = noStep): Promise<void> {
  const end = await settled(host.stop(), "stop comes to an end", step);
  demand(end.isFulfilled, `stop failed: ${end.isFulfilled ? "" : String(end.error)}`);
}
