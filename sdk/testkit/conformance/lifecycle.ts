/** What is asked of every plugin, whatever it does: its configuration, its start, its stop, what it leaves. */
import type { Plugin } from "../../src/index.ts";
import { configIssues, TestHost, type TestHostOptions } from "../context.ts";
import { describeSocket, openSockets } from "../leak.ts";
import {
  type Check,
  type ClockStep,
  demand,
  demandNothing,
  quiet,
  settled,
  stepBy,
  stopHost,
  until,
} from "./check.ts";

export interface PluginSetup {
  readonly plugin: Plugin;
  /** A table with which it starts. */
  readonly config: Readonly<Record<string, unknown>>;
  /** Tables that its schema must refuse. */
  readonly badConfigs?: readonly unknown[];
  /**
   * Milliseconds by which the manual clock goes on at each turn while a check waits, default 0; `"real time"` where daemons answer. A
   * turn takes a microsecond or many: a number says nothing about how fast the clock goes.
   */
  readonly clockStepMs?: ClockStep;
  /** What the instance of that number, from 0, needs of its host beyond clock, randomness and name. */
  hostOptions?(number: number): HostNeeds;
  dispose?(): void | Promise<void>;
}

/** They are those of the whole process, and a busy machine closes late. */
const SOCKETS_MS = 4_000;

export type HostNeeds = Omit<TestHostOptions, "clock" | "random" | "instance">;

export const stepOf = ({ clock }: TestHost, { clockStepMs }: { readonly clockStepMs?: ClockStep }) =>
  stepBy(clock, clockStepMs);

/** Fails when sockets are open that were not before. */
export async function demandSockets(before: ReadonlySet<string> | undefined, when: string): Promise<void> {
  if (before === undefined) return;
  const left = () => [...(openSockets() ?? [])].filter((name) => !before.has(name));
  const what = () => `${when}: sockets are closed; open are ${left().map(describeSocket).join("; ")}`;
  await until(() => left().length === 0, what, undefined, SOCKETS_MS);
}

/** Fails when it does not start. */
export async function start(host: TestHost, config: unknown, step: () => void): Promise<void> {
  const end = await settled(host.start(config), "start comes to an end", step);
  demand(end.isFulfilled, `start failed: ${end.isFulfilled ? "" : String(end.error)}`);
}

/** A call that must succeed. */
export async function succeeds<T>(promise: Promise<T>, what: string, step: () => void): Promise<T> {
  const end = await settled(promise, `${what} comes to an end`, step);
  demand(end.isFulfilled, `${what} rejects: ${end.isFulfilled ? "" : String(end.error)}`);
  return end.value;
}

export const hostOf = ({ plugin, hostOptions }: PluginSetup): TestHost =>
  new TestHost(plugin, hostOptions?.(0));

/** Runs `body` on a started instance, and fails when that leaves anything after its stop. */
export async function onHost(
  setup: PluginSetup,
  body: (host: TestHost, step: () => void) => Promise<void>,
): Promise<void> {
  const sockets = openSockets();
  const host = hostOf(setup);
  const step = stepOf(host, setup);
  try {
    await start(host, setup.config, step);
    await body(host, step);
    await stopHost(host, step);
    await quiet(step);
    demandNothing(host.leaks(), "after stop");
    await demandSockets(sockets, "after stop");
  } finally {
    await host.stop().catch(() => {});
  }
}

async function checkConfig({ plugin, config, badConfigs = [] }: PluginSetup): Promise<void> {
  const good = await configIssues(plugin, config);
  demand(good.issues === undefined, `its own configuration is refused: ${good.issues?.[0]?.message}`);
  const odd = await configIssues(plugin, { ...config, "no-such-key": 1 });
  demand(
    (odd.issues?.length ?? 0) > 0,
    "an unknown key is accepted; a mistyped one would be lost in silence",
  );
  for (const bad of [7, "text", null, [], ...badConfigs]) {
    const { issues } = await configIssues(plugin, bad);
    demand((issues?.length ?? 0) > 0, `accepts as configuration: ${JSON.stringify(bad)}`);
  }
}

async function checkDuringStart(setup: PluginSetup): Promise<void> {
  const sockets = openSockets();
  const host = hostOf(setup);
  const step = stepOf(host, setup);
  const starting = host.start(setup.config);
  await Promise.resolve();
  await Promise.resolve();
  const stopping = host.stop();
  await settled(starting, "a start that was interrupted comes to an end", step);
  demand((await settled(stopping, "stop comes to an end", step)).isFulfilled, "stop failed");
  await quiet(step);
  demandNothing(host.leaks(), "stopped while it started");
  demand(
    host.endpoints.length === 0 && host.hints.size === 0,
    "stopped while it started, it still registers things",
  );
  await demandSockets(sockets, "stopped while it started");
}

async function checkStop(setup: PluginSetup): Promise<void> {
  const sockets = openSockets();
  const host = hostOf(setup);
  const step = stepOf(host, setup);
  await start(host, setup.config, step);
  await quiet(step);
  await stopHost(host, step);
  demandNothing(host.leaks(), "stopped");
  await quiet(step);
  demandNothing(host.leaks(), "some time after stop");
  await demandSockets(sockets, "stopped");
}

async function checkTwice(setup: PluginSetup): Promise<void> {
  for (const life of ["first", "second"]) {
    const host = hostOf(setup);
    const step = stepOf(host, setup);
    await start(host, setup.config, step);
    demand(
      host.health.every(({ state }) => state !== "down"),
      `its ${life} life is down from the start`,
    );
    await Promise.all([stopHost(host, step), stopHost(host, step)]);
    await stopHost(host, step);
  }
}

export const lifecycleChecks: readonly Check<PluginSetup>[] = [
  { name: "config: unknown keys and what is no table are refused", run: checkConfig },
  { name: "stop during start leaves nothing", run: checkDuringStart },
  { name: "stop leaves no timer, task, listener or socket", run: checkStop },
  { name: "stopped twice, and started again with the same configuration", run: checkTwice },
];
