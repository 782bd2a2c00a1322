/** Row 5: the middle of a line is killed with SIGKILL and started again at once. */
import { Lab, type LabNode } from "../../scripts/lab.ts";
import type { Bench, BenchOptions, Measure } from "./bench.ts";
import { Traffic, untilWhole } from "./probe.ts";

const EVERY_MS = 10;
const TIMEOUT_MS = 60_000;
const SETTLE_MS = 6_000;

async function run({ runs, note }: BenchOptions): Promise<Measure[]> {
  const [fromKill, fromApi]: [number[], number[]] = [[], []];
  const lab = await Lab.create();
  try {
    const middle = await lab.add({ callsign: "LIN-B" });
    const left = await lab.add({ callsign: "LIN-A", peers: [middle.endpoint] });
    const right = await lab.add({ callsign: "LIN-C", peers: [middle.endpoint] });
    const nodes: LabNode[] = [left, middle, right];
    await Promise.all(nodes.map((node) => node.start()));
    for (let i = 0; i < runs; i++) {
      await untilWhole(nodes);
      await Bun.sleep(SETTLE_MS);
      const traffic = await Traffic.start(left, right, EVERY_MS);
      await traffic.arrivalAfter(performance.now(), TIMEOUT_MS);
      const killMs = performance.now();
      await middle.kill("SIGKILL");
      const apiMs = middle.start().then(() => performance.now());
      const backMs = await traffic.arrivalAfter(killMs, TIMEOUT_MS);
      fromKill.push(backMs - killMs);
      fromApi.push(backMs - (await apiMs));
      traffic.stop();
      note(`kill -9 ${i + 1}/${runs}: ${Math.round(backMs - killMs)} ms`);
    }
  } finally {
    await lab.close();
  }
  return [
    {
      what: "first message through again, from the kill",
      unit: "ms",
      values: fromKill,
      goal: { of: "p95", atMost: 1_000 },
    },
    { what: "the same, after the relay's API answered", unit: "ms", values: fromApi },
  ];
}

export const restart: Bench = {
  name: "restart",
  row: 5,
  how: "line A - B - C, the ends dial the middle; kill -9 of B and start at once, a message from A to C every 10 ms",
  run,
};
