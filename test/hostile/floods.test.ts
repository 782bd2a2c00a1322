/**
 * What a stranger costs: under each flood a dial-only member of a closed mesh links within three seconds and `/health` answers
 * within one. Four seconds of each here; a minute of each in flood-minute.long.ts.
 */
import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { existsSync, readFileSync } from "node:fs";
import { buildGodwit } from "../../scripts/build.ts";
import { binaryPath, Lab } from "../../scripts/lab.ts";
import { metricOf } from "./watch.ts";
import { floods, openCrowd, Siege } from "./siege.ts";

const FLOOD_MS = 4_000;
const LINK_MS_MAX = 3_000;
const HEALTH_MS_MAX = 1_000;
const SPIN_MS = 2_000;
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

test("a node with 64 descriptors neither spins nor is silent while a crowd knocks, and is well by itself after it", async () => {
  const node = await lab.add({
    callsign: "NYC-C",
    command: ["/bin/sh", "-c", `ulimit -n 64; exec "${binaryPath}" "$@"`, "godwit"],
  });
  await node.start();
  const isShort = async () => {
    const { checks } = (await (await node.api("/health")).json()) as { checks: { name: string }[] };
    return checks.some(({ name }) => name === "descriptors");
  };
  const ticks = () => {
    const [user, system] = readFileSync(`/proc/${node.pid!}/stat`, "latin1")
      .split(") ")[1]!
      .split(" ")
      .slice(11, 13);
    return Number(user) + Number(system);
  };
  expect(await isShort()).toBe(false);
  const crowd = openCrowd({
    what: "connections",
    ports: [node.linkPort, node.apiPort],
    sources: 2,
    count: 400,
    perSecond: 400,
    say: "",
    ms: FLOOD_MS,
  });
  try {
    await node.until("the shortage to be told", isShort, FLOOD_MS);
    const before = ticks();
    await Bun.sleep(SPIN_MS);
    // A hundred a second are one processor.
    expect(ticks() - before).toBeLessThan(SPIN_MS / 20);
    expect(await isShort()).toBe(true);
    await crowd.exited;
    await node.until("it to be over", async () => !(await isShort()), 15_000);
  } finally {
    crowd.kill("SIGKILL");
  }
  const told = (event: string) => node.logLines.filter((line) => line.includes(`"event":"${event}"`)).length;
  expect([told("descriptors run out"), told("descriptors free again")]).toEqual([1, 1]);
  await node.kill("SIGTERM");
}, 60_000);
