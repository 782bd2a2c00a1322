/** Checks of a transport's dialling half, and of what it publishes. */
import { openSockets, WatchedAbort } from "../leak.ts";
import { type Bench, Observer, onBench, type TransportSetup } from "./bench.ts";
import { type Check, demand, isGodwitError, settled, stepBy, stopHost } from "./check.ts";
import { demandSockets } from "./lifecycle.ts";

async function checkDescription(bench: Bench): Promise<void> {
  const { near, far, dialler } = await bench.connect();
  demand(near.direction === "outbound" && far.direction === "inbound", "direction is wrong");
  for (const pipe of [near, far]) {
    demand(pipe.kind === bench.setup.kind, `kind is ${pipe.kind}`);
    for (const url of [pipe.local, pipe.remote])
      demand(
        dialler.driver!.schemes.includes(url.slice(0, Math.max(0, url.indexOf("://")))),
        `"${url}" is no endpoint of a registered scheme`,
      );
    demand(["fast", "medium", "slow"].includes(pipe.linkClass), `linkClass is ${pipe.linkClass}`);
    demand(pipe.rateBitsPerSecond > 0 && Number.isFinite(pipe.rateBitsPerSecond), "the rate is no rate");
    demand(pipe.kind === "stream" ? pipe.mtu === 0 : pipe.mtu > 0, `mtu is ${pipe.mtu}`);
    demand(pipe.bufferedBytes === 0, "bytes are buffered that nobody wrote");
  }
}

async function checkPublished(bench: Bench): Promise<void> {
  const { listener, dialler } = await bench.pair();
  for (const endpoint of listener.endpoints) {
    const before = listener.accepted.length;
    const pipe = await bench.dial(dialler, endpoint);
    await bench.until(() => listener.accepted.length > before, `${endpoint} leads to the listener`);
    pipe.close();
  }
}

async function checkNobody(bench: Bench): Promise<void> {
  const { listener, dialler, endpoint } = await bench.pair();
  await stopHost(listener, bench.step);
  const { signal } = new AbortController();
  const { kind, nobody: configured, nobodyStepMs } = bench.setup;
  const step = nobodyStepMs === undefined ? bench.step : stepBy(bench.clock, nobodyStepMs);
  for (const nobody of [...(kind === "stream" ? [endpoint] : []), ...(configured ? [configured] : [])]) {
    const end = await settled(dialler.driver!.dial(nobody, signal), `a dial of ${nobody}`, step);
    if (end.isFulfilled) end.value.close();
    demand(!end.isFulfilled, `a dial of ${nobody}, where nobody listens, succeeded`);
    demand(isGodwitError(end.error), `the dial rejected with no GodwitError: ${String(end.error)}`);
    demand(end.error.kind === "transport", `the error is of kind ${end.error.kind}, not transport`);
  }
}

async function checkBadEndpoints(bench: Bench): Promise<void> {
  const dialler = await bench.start(bench.setup.dialConfig);
  for (const bad of bench.setup.badEndpoints) {
    let dialling: Promise<unknown> | undefined;
    try {
      dialling = dialler.driver?.dial(bad, new AbortController().signal);
    } catch (error) {
      demand(false, `a dial of "${bad}" throws instead of rejecting: ${String(error)}`);
    }
    const end = await settled(dialling ?? Promise.resolve(), `a dial of "${bad}"`, bench.step);
    demand(!end.isFulfilled, `a dial of "${bad}" succeeded`);
    const code = isGodwitError(end.error) ? end.error.code : String(end.error);
    demand(code === "GODWIT_ENDPOINT_INVALID", `a dial of "${bad}" rejects with ${code}`);
  }
}

async function checkAbortedBefore(bench: Bench): Promise<void> {
  const { listener, dialler, endpoint } = await bench.pair();
  const reason = new Error("no longer wanted");
  const abort = new WatchedAbort();
  abort.abort(reason);
  const end = await settled(dialler.driver!.dial(endpoint, abort.signal), "an aborted dial", bench.step);
  if (end.isFulfilled) end.value.close();
  demand(
    !end.isFulfilled && end.error === reason,
    "an aborted dial does not reject with the signal's reason",
  );
  await bench.quiet();
  demand(listener.accepted.length === 0, "a dial that was aborted before it began reached the listener");
}

async function checkAbortedDuring(setup: TransportSetup): Promise<void> {
  const sockets = openSockets();
  await onBench(async (bench) => {
    const { listener, dialler, endpoint } = await bench.pair();
    const reason = new Error("no longer wanted");
    for (const turns of [0, 1]) {
      const abort = new WatchedAbort();
      const dialling = dialler.driver!.dial(endpoint, abort.signal);
      for (let i = 0; i < turns; i++) await Promise.resolve();
      // What was there already when we changed our mind is a pipe like any other.
      const isOver = Bun.peek.status(dialling) === "fulfilled";
      abort.abort(reason);
      const end = await settled(dialling, "a dial that is aborted comes to an end");
      if (end.isFulfilled) end.value.close();
      else demand(end.error === reason, `it rejects with ${String(end.error)}, not the signal's reason`);
      demand(isOver || !end.isFulfilled, "a dial succeeded after it was aborted");
    }
    await bench.quiet();
    for (const pipe of listener.accepted) {
      const seen = new Observer(pipe);
      if (pipe.kind === "datagram") pipe.close();
      await bench.until(() => seen.closes === 1, "the far end of an aborted dial hears that it is gone");
    }
    await bench.stopAll();
    await demandSockets(sockets, "after aborted dials");
  })(setup);
}

async function checkAbortAfter(bench: Bench): Promise<void> {
  const { listener, dialler, endpoint } = await bench.pair();
  const abort = new WatchedAbort();
  const near = await bench.dial(dialler, endpoint, abort);
  await bench.until(() => listener.accepted.length > 0, "the listener accepts a pipe");
  const atNear = new Observer(near);
  abort.abort(new Error("too late"));
  await bench.quiet();
  demand(atNear.closes === 0, "the signal of a dial that is over closes its pipe");
}

export const dialChecks: readonly Check<TransportSetup>[] = [
  { name: "a dial reaches the listener, and both pipes say what they are", run: onBench(checkDescription) },
  { name: "every published endpoint can be dialled", run: onBench(checkPublished) },
  {
    name: "a dial of nobody, a stopped listener included, rejects with a transport error",
    applies: ({ kind, nobody }) => kind === "stream" || nobody !== undefined,
    run: onBench(checkNobody),
  },
  {
    name: "a bad endpoint rejects with GODWIT_ENDPOINT_INVALID",
    applies: ({ badEndpoints }) => badEndpoints.length > 0,
    run: onBench(checkBadEndpoints),
  },
  { name: "a dial aborted before it begins rejects with the reason", run: onBench(checkAbortedBefore) },
  {
    name: "a dial aborted while it runs rejects with the reason and leaves nothing",
    run: checkAbortedDuring,
  },
  { name: "the signal of a dial that is over means nothing", run: onBench(checkAbortAfter) },
];
