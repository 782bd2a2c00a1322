/**
 * Plugins that throw, spin, leak, flood, exit or never answer, in a Worker and in a process: each costs its own function only, and
 * the node says so in /health, metrics and log, while a link and the other plugins stay.
 */
import { afterAll, beforeAll, expect, test } from "bun:test";
import { existsSync } from "node:fs";
import { rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { buildGodwit } from "../../scripts/build.ts";
import { binaryPath, Lab, type LabNode } from "../../scripts/lab.ts";
import { bundle, install } from "./lab.ts";

const levels = ["contained", "untrusted"] as const;
/** [fault, what the node says of it] */
const faults = [
  ["throws", /thrown by the plugin/],
  ["rejects", /rejected by the plugin/],
  ["throws_at_start", /thrown at its start/],
  ["spins", /did not answer for 5 s/],
  ["leaks", /heap|[Oo]ut of memory|memory|process ended/],
  // Whichever of both comes first.
  ["floods", /floods the node|did not answer/],
  ["exits", /ended/],
  ["never_starts", /did not start within 30 s/],
] as const;
const nameOf = (level: string, fault: string): string => `${level}_${fault}`;

interface Check {
  readonly name: string;
  readonly status: string;
  readonly reason: string | null;
}

let lab: Lab;
let node: LabNode;
let other: LabNode;
const seen = new Map<string, string>();
let slowestMs = 0;
let links = 1;
let watching: Promise<void>;
const state = { isOver: false };

const health = async (of: LabNode): Promise<Check[]> =>
  ((await (await of.api("/health")).json()) as { checks: Check[] }).checks;
const linksOf = async (of: LabNode): Promise<number> =>
  (await of.json<{ peers: { connected: number } }>("/mesh/status")).peers.connected;

/** A plugin that failed is started anew, so that each must be seen while it is down. */
async function watch(): Promise<void> {
  while (!state.isOver) {
    const atMs = performance.now();
    const checks = await health(node);
    slowestMs = Math.max(slowestMs, performance.now() - atMs);
    for (const { name, status, reason } of checks)
      if (status === "down" && reason !== null) seen.set(name.replace("discovery.", ""), reason);
    links = Math.min(links, await linksOf(node));
    await Bun.sleep(50);
  }
}

beforeAll(async () => {
  if (!existsSync(binaryPath)) await buildGodwit(undefined, binaryPath);
  lab = await Lab.create();
  other = await lab.add({ callsign: "LIF-B" });
  const table = (level: string, fault: string) =>
    `[discovery.${nameOf(level, fault)}]\ntype = "faults"\ntrust = "${level}"\nfault = "${fault}"\n`;
  node = await lab.add({
    callsign: "LIF-A",
    peers: [other.endpoint],
    extra: levels
      .flatMap((level) => ["none", ...faults.map(([fault]) => fault)].map((fault) => table(level, fault)))
      .join("\n"),
  });
  await install(node.stateDir, { id: "faults", namespace: "discovery", code: await bundle("faults") });
  await Promise.all([other.start(), node.start()]);
  await node.until("the link", async () => (await linksOf(node)) === 1, 60_000);
  watching = watch();
}, 90_000);

afterAll(async () => {
  state.isOver = true;
  await watching?.catch(() => {});
  await lab?.close();
});

for (const level of levels)
  for (const [fault, reason] of faults)
    test(`${level}: one that ${fault} goes down with its reason`, async () => {
      const name = nameOf(level, fault);
      await node.until(`${name} to go down`, async () => seen.has(name), 60_000);
      expect(seen.get(name)).toMatch(reason);
      expect(
        node.errorLines.some((line) => line.includes(`"name":"${name}"`) && line.includes("plugin failed")),
      ).toBe(true);
    }, 70_000);

test("the others, the link and the API never noticed", async () => {
  const all = levels.flatMap((level) => faults.map(([fault]) => nameOf(level, fault)));
  await node.until("every fault to show", async () => all.every((name) => seen.has(name)), 60_000);
  const checks = await health(node);
  for (const level of levels)
    expect(checks.find(({ name }) => name === `discovery.${nameOf(level, "none")}`)?.status).toBe("ok");
  expect(seen.has(nameOf("contained", "none")) || seen.has(nameOf("untrusted", "none"))).toBe(false);
  expect(links).toBe(1);
  // Both processors are busy with plugins that spin; the node's own work comes before theirs.
  expect(slowestMs).toBeLessThan(5_000);
  const metrics = await (await node.api("/metrics")).text();
  const failures = Number(/godwit_plugin_failures_total\{type="faults"\} (\d+)/.exec(metrics)?.[1]);
  expect(failures).toBeGreaterThanOrEqual(all.length);
}, 70_000);

test("a damaged package: the node starts, its table is down and says why", async () => {
  const hurt = await lab.add({
    callsign: "LIF-C",
    peers: [other.endpoint],
    extra: `[discovery.hurt]\ntype = "faults"\ngrant = ["net.udp"]\nfault = "none"\n`,
  });
  await install(hurt.stateDir, {
    id: "faults",
    namespace: "discovery",
    permissions: ["net.udp"],
    code: await bundle("faults"),
  });
  const path = join(hurt.stateDir, "plugins/faults/1.0.0/package.gwp");
  const bytes = new Uint8Array(await Bun.file(path).arrayBuffer());
  bytes[bytes.length - 1]! ^= 1;
  await writeFile(path, bytes);
  await hurt.start();
  await hurt.until("the link", async () => (await linksOf(hurt)) === 1, 20_000);
  const check = (await health(hurt)).find(({ name }) => name === "discovery.hurt");
  expect(check).toMatchObject({ status: "down" });
  expect(check?.reason).toContain("1.0.0 cannot be used");
  expect(check?.reason).toContain("altered");
  // Whole again, it runs after a reload, and the links stay.
  await rm(join(hurt.stateDir, "plugins/faults"), { recursive: true });
  await install(hurt.stateDir, {
    id: "faults",
    namespace: "discovery",
    permissions: ["net.udp"],
    code: await bundle("faults"),
  });
  await hurt.json("/reload", { method: "POST" });
  expect((await health(hurt)).find(({ name }) => name === "discovery.hurt")).toMatchObject({ status: "ok" });
  expect(await linksOf(hurt)).toBe(1);
}, 60_000);
