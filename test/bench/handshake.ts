/** Row 9: bytes and rate of the link handshake. */
import { systemRandom } from "../../runtime/kernel/random.ts";
import type { OpenSessionOptions } from "../../runtime/link/handshake.ts";
import type { Bench, BenchOptions, Measure } from "./bench.ts";
import { measureHandshakes } from "./link.ts";

async function run({ runs, note }: BenchOptions): Promise<Measure[]> {
  const secrets = [systemRandom.bytes(32)];
  const patterns: readonly [string, Partial<OpenSessionOptions>, number][] = [
    ["IK", {}, 170],
    ["XX", { hideIdentity: true }, 220],
    ["IKpsk2", { secrets }, 170],
    ["XXpsk3", { secrets, hideIdentity: true }, 220],
  ];
  const measures: Measure[] = [];
  for (const [name, options, bytesMax] of patterns) {
    const results: { perSecond: number; bytes: number }[] = [];
    for (let i = 0; i < runs; i++) results.push(await measureHandshakes(options));
    note(`${name} measured`);
    measures.push(
      {
        what: `${name}: bytes on the wire`,
        unit: "B",
        values: results.map(({ bytes }) => bytes),
        goal: { of: "max", atMost: bytesMax },
      },
      {
        what: `${name}: handshakes`,
        unit: "1/s",
        values: results.map(({ perSecond }) => perSecond),
        goal: { of: "median", atLeast: 1_000 },
      },
    );
  }
  return measures;
}

export const handshake: Bench = {
  name: "handshake",
  row: 9,
  how: "both ends in one process on one core, pipes in memory; a node does one end, so its own rate is about twice this",
  run,
};
