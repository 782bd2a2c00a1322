/**
 * What a stranger costs: under each flood a dial-only member of a closed mesh links within three seconds and `/health` answers
 * within one. Four seconds of each here; a minute of each in flood-minute.long.ts.
 */
import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { existsSync } from "node:fs";
import { buildGodwit } from "../../scripts/build.ts";
import { binaryPath, Lab } from "../../scripts/lab.ts";
import { metricOf } from "./watch.ts";
import { floods, Siege } from "./siege.ts";

const FLOOD_MS = 4_000;
const LINK_MS_MAX = 3_000;
const HEALTH_MS_MAX = 1_000;
const NO_PORTS = { tcp: 0, udp: 0, ws: 0, api: 0 };

let lab: Lab;
let siege: Siege;
beforeAll(async () => {
  if (!existsSync(binaryPath)) await buildGodwit(undefined, binaryPath);
  lab = await Lab.create();
  siege = await Siege.begin(lab);
  const quiet = await siege.endure("tcp", [], 1_000);
  console.log(`without a flood: links in ${quiet.links.join(", ")} ms, health ${quiet.health} ms`);
}, 60_000);
afterAll(() => lab.close());

describe("members link and health answers under", () => {
  for (const [index, { name, way }] of floods(NO_PORTS, FLOOD_MS).entries())
    test(
      name,
      async () => {
        const met = await siege.endure(way, floods(siege.ports, FLOOD_MS)[index]!.orders, FLOOD_MS);
        console.log(`${name}: ${JSON.stringify(met)}`);
        expect(Math.max(...met.links)).toBeLessThan(LINK_MS_MAX);
        expect(met.health).toBeLessThan(HEALTH_MS_MAX);
        expect(met.control).toBeLessThan(HEALTH_MS_MAX);
      },
      60_000,
    );

  test("all that: nothing is left of it", async () => {
    const isCalm = async () =>
      (await metricOf(siege.node, "godwit_link_half_open")) === 0 &&
      (await metricOf(siege.node, "godwit_http_connections")) <= 2;
    await siege.node.until("the crowds to be gone", isCalm, 20_000);
    const warnings = siege.node.logLines.filter((line) => line.includes('"descriptors run out"'));
    expect(warnings.length).toBeLessThanOrEqual(1);
  }, 30_000);
});
