/** Row 19: the HTTP API at a fixed rate while the node relays. */
import { join } from "node:path";
import { Lab, type LabNode } from "../../scripts/lab.ts";
import { GODWIT, quantile, type Bench } from "./bench.ts";
import { contest, type Turns } from "./contest.ts";
import type { Offered } from "./http-client.ts";
import { costFigures, costSample, meter } from "./process.ts";
import { flow } from "./relay.ts";

const PER_SECOND = 5_000;
const RELAYED_PER_SECOND = 5_000;
/** Within what the relayed traffic lasts. */
const SECONDS = 4;
const PATHS = { status: "/mesh/status", health: "/health" } as const;

async function offered(node: LabNode, path: string): Promise<Offered> {
  const child = Bun.spawn(
    [process.execPath, join(import.meta.dir, "http-client.ts")].concat([
      node.socketPath,
      path,
      String(PER_SECOND),
      String(SECONDS),
    ]),
    { stdin: "ignore", stdout: "pipe", stderr: "inherit" },
  );
  const text = await new Response(child.stdout).text();
  if ((await child.exited) !== 0) throw new Error("the client failed");
  return JSON.parse(text) as Offered;
}

async function openGodwit(): Promise<Turns> {
  const lab = await Lab.create();
  const node = await lab.add({ callsign: "MID-A" });
  await node.start();
  // The first requests run before the compiler has seen them.
  await offered(node, PATHS.status);
  return {
    async run() {
      const sample: Record<string, readonly number[]> = {};
      for (const [key, path] of Object.entries(PATHS)) {
        const cost = meter(node.pid!);
        const [relayed, { latenciesMs, failures, seconds }] = await Promise.all([
          flow(node, RELAYED_PER_SECOND),
          offered(node, path),
        ]);
        if (failures > 0) throw new Error(`${failures} requests failed`);
        Object.assign(sample, costSample(key, cost(), latenciesMs.length));
        sample[`${key}50`] = [quantile(latenciesMs, 0.5)];
        sample[`${key}99`] = [quantile(latenciesMs, 0.99)];
        sample[`${key}Rate`] = [latenciesMs.length / seconds];
        sample["relayed"] = [...(sample["relayed"] ?? []), relayed.perSecond];
      }
      return sample;
    },
    close: () => lab.close(),
  };
}

const figures = (key: keyof typeof PATHS) => ({
  [`${key}50`]: { what: `GET ${PATHS[key]}: median`, unit: "ms" },
  [`${key}99`]: {
    what: `GET ${PATHS[key]}: p99`,
    unit: "ms",
    goal: { of: "median" as const, atMost: 10 },
  },
  [`${key}Rate`]: { what: `GET ${PATHS[key]}: answered`, unit: "1/s" },
  ...costFigures(key, "the node", `a GET ${PATHS[key]}, the packets that it relays meanwhile among it`),
});

export const api: Bench = contest({
  name: "api",
  row: 19,
  how:
    `${PER_SECOND} requests/s for ${SECONDS} s from a process of its own over 64 connections to the unix socket, latency from when a request was due (open loop), ` +
    `while ${RELAYED_PER_SECOND} packets/s of 240 B are relayed; client, source, sink and node on two cores`,
  figures: {
    ...figures("status"),
    ...figures("health"),
    relayed: { what: "relayed meanwhile", unit: "1/s" },
  },
  contestants: [{ name: GODWIT, open: openGodwit }],
});
