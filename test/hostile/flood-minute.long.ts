/** A minute of each flood of floods.test.ts, and honest traffic meanwhile, relative to the same minute without one. */
import { afterAll, beforeAll, expect, test } from "bun:test";
import { existsSync } from "node:fs";
import { buildGodwit } from "../../scripts/build.ts";
import { binaryPath, Lab } from "../../scripts/lab.ts";
import { floods, Siege } from "./siege.ts";

const FLOOD_MS = 60_000;
const LINK_MS_MAX = 3_000;
const HEALTH_MS_MAX = 1_000;
/** Members that come in a minute under a flood, of those that come without one. */
const LINKS_SHARE_MIN = 0.1;
const NO_PORTS = { tcp: 0, udp: 0, ws: 0, api: 0 };

let lab: Lab;
let siege: Siege;
let quiet = 0;
beforeAll(async () => {
  if (!existsSync(binaryPath)) await buildGodwit(undefined, binaryPath);
  lab = await Lab.create();
  siege = await Siege.begin(lab);
  const met = await siege.endure("tcp", [], FLOOD_MS / 4);
  quiet = met.links.length * 4;
  console.log(`without a flood: ${quiet} links a minute, the slowest ${Math.max(...met.links)} ms`);
}, 60_000);
afterAll(() => lab.close());

for (const [index, { name, way }] of floods(NO_PORTS, FLOOD_MS).entries())
  test(
    name,
    async () => {
      const { links, health, control, crowd } = await siege.endure(
        way,
        floods(siege.ports, FLOOD_MS)[index]!.orders,
        FLOOD_MS,
      );
      const slowest = Math.max(...links);
      console.log(
        `${name}: ${links.length} links (${quiet} without), the slowest ${slowest} ms, health ${health} ms, over the socket ${control} ms; crowd ${crowd}`,
      );
      expect(slowest).toBeLessThan(LINK_MS_MAX);
      expect(Math.max(health, control)).toBeLessThan(HEALTH_MS_MAX);
      expect(links.length / quiet).toBeGreaterThan(LINKS_SHARE_MIN);
    },
    2 * FLOOD_MS,
  );
