/** What Godwit expects of every service: messages come at least once, the mesh may fail, stop may come at any time. */
import { GodwitError } from "../../src/index.ts";
import type { TestHost } from "../context.ts";
import { openSockets } from "../leak.ts";
import {
  type Check,
  demand,
  demandNothing,
  quiet,
  register,
  type Runner,
  settled,
  stopHost,
  type Subject,
  until,
} from "./check.ts";
import { demandSockets, hostOf, lifecycleChecks, type PluginSetup, start, stepOf } from "./lifecycle.ts";

export interface ServiceSetup extends PluginSetup {
  /** Brings a started service to where messages matter to it (a caller on the line); answers how to undo that. */
  prepare?(host: TestHost): Promise<() => void>;
  /** Ids of messages that it is done with; where it is given, none may be missing in the end. */
  handled?(host: TestHost): readonly string[];
}

/** Retries of the mesh come after 1, 2, 4 s. */
const RETRIES_MS = 10_000;

async function onHost(setup: ServiceSetup, body: (host: TestHost, step: () => void) => Promise<void>) {
  const sockets = openSockets();
  const host = hostOf(setup);
  const step = stepOf(host, setup);
  host.mesh.receive("was there before");
  let undo: (() => void) | undefined;
  try {
    await start(host, setup.config, step);
    undo = await setup.prepare?.(host);
    await body(host, step);
    await stopHost(host, step);
    undo?.();
    undo = undefined;
    await quiet(step);
    demandNothing(host.leaks(), "after stop");
    await demandSockets(sockets, "after stop");
  } finally {
    undo?.();
    await host.stop().catch(() => {});
  }
}

async function demandHandled(setup: ServiceSetup, host: TestHost, ids: readonly string[], step: () => void) {
  const { handled } = setup;
  if (handled === undefined) return quiet(step);
  await until(() => ids.every((id) => handled(host).includes(id)), "every message is handled", step);
}

const checkMessages = (setup: ServiceSetup) =>
  onHost(setup, async (host, step) => {
    const ids = ["hello", "", "\u0000\u001b[2J\u{1F986}", "x".repeat(70_000)].map((body) =>
      host.mesh.receive(body, { subject: body.slice(0, 100) }),
    );
    await demandHandled(setup, host, ids, step);
    demand(host.mesh.refused.size === 0, "a handler rejects a message that is nothing special");
    demandNothing(host.violations, "while it ran");
  });

const checkTwice = (setup: ServiceSetup) =>
  onHost(setup, async (host, step) => {
    const id = host.mesh.receive("once or twice");
    await demandHandled(setup, host, [id], step);
    const sent = host.mesh.outgoing.length;
    for (let i = 0; i < 3; i++) {
      host.mesh.redeliver(id);
      await quiet(step);
    }
    const more = host.mesh.outgoing.length - sent;
    demand(more === 0, `a message that came 4 times was answered ${more + 1} times; use an idempotencyKey`);
    demand(host.mesh.refused.size === 0, "a handler rejects what it has seen before");
  });

const checkFailure = (setup: ServiceSetup) =>
  onHost(setup, async (host, step) => {
    await quiet(step);
    host.mesh.failure = new GodwitError("GODWIT_STORE_FAILED", "the disk is full", { kind: "capacity" });
    const id = host.mesh.receive("while the store fails");
    await quiet(step);
    host.mesh.failure = undefined;
    host.clock.advance(RETRIES_MS);
    await demandHandled(setup, host, [id], step);
  });

/** The host does not wait for a handler; what it does when its turn comes must not surprise anybody. */
const checkStopMidMessage = (setup: ServiceSetup) =>
  onHost(setup, async (host, step) => {
    await quiet(step);
    const gate = Promise.withResolvers<void>();
    host.mesh.gate = gate.promise;
    host.mesh.receive("in the middle of it");
    await quiet(step);
    const stray: unknown[] = [];
    const onStray = (error: unknown) => void stray.push(error);
    process.on("unhandledRejection", onStray);
    try {
      const stopping = host.stop();
      await quiet(step);
      gate.resolve();
      demand((await settled(stopping, "stop comes to an end", step)).isFulfilled, "stop failed");
      await quiet(step);
    } finally {
      process.off("unhandledRejection", onStray);
    }
    demand(stray.length === 0, `a promise was rejected and nobody heard: ${String(stray[0])}`);
  });

export const serviceChecks: readonly Check<ServiceSetup>[] = [
  { name: "messages of every kind are taken, those before the start too", run: checkMessages },
  { name: "the same message again does no harm", run: checkTwice },
  { name: "a mesh that fails once loses no message", run: checkFailure },
  { name: "stop in the middle of a message", run: checkStopMidMessage },
  ...lifecycleChecks,
];

/** Registers the suite with bun:test, or with the runner given. */
export const serviceConformance = (subject: Subject<ServiceSetup>, runner?: Runner): void =>
  register("service conformance", serviceChecks, subject, runner);
