/** What Godwit expects of every transport: `TransportDriver` and `Pipe` of the SDK, sentence by sentence. */
import { openSockets } from "../leak.ts";
import { onBench, type TransportSetup } from "./bench.ts";
import { type Check, demandNothing, register, type Runner } from "./check.ts";
import { demandSockets, lifecycleChecks } from "./lifecycle.ts";
import { dialChecks } from "./transport-dial.ts";
import { mediumChecks } from "./transport-medium.ts";
import { closeChecks, flowChecks } from "./transport-pipe.ts";

async function checkLeftovers(setup: TransportSetup): Promise<void> {
  const sockets = openSockets();
  await onBench(async (bench) => {
    const { near, far, atNear, atFar } = await bench.observed();
    near.write(new Uint8Array(100));
    far.write(new Uint8Array(100));
    if (setup.kind === "stream")
      await bench.until(() => atNear.bytes === 100 && atFar.bytes === 100, "100 bytes each way");
    near.close();
    far.close();
    await bench.until(() => atNear.closes + atFar.closes === 2, "both ends hear that it is closed");
    await bench.stopAll();
    await demandSockets(sockets, "after use");
    demandNothing(bench.leaks(), "after use");
  })(setup);
}

export const transportChecks: readonly Check<TransportSetup>[] = [
  ...dialChecks,
  ...flowChecks,
  ...closeChecks,
  ...mediumChecks,
  { name: "after use and stop nothing is left", run: checkLeftovers },
  ...lifecycleChecks.map(({ name, run }) => ({
    name,
    run: (setup: TransportSetup) => run({ ...setup, config: setup.listenConfig }),
  })),
];

export interface TransportSubject {
  readonly name: string;
  /** Of its pipes; checks of the other kind are not registered. */
  readonly kind: TransportSetup["kind"];
  setup(): Omit<TransportSetup, "kind"> | Promise<Omit<TransportSetup, "kind">>;
}

/** Registers the suite with bun:test, or with the runner given. */
export function transportConformance(subject: TransportSubject, runner?: Runner): void {
  const { name, kind } = subject;
  const fitting = transportChecks.filter((check) => check.kind === undefined || check.kind === kind);
  const setup = async (): Promise<TransportSetup> => ({ ...(await subject.setup()), kind });
  register("transport conformance", fitting, { name, setup }, runner);
}
