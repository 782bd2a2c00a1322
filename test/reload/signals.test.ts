/** Signals at the wrong moment, and signals that mean nothing, against the compiled binary. */
import { afterAll, beforeAll, expect, test } from "bun:test";
import { existsSync, readFileSync } from "node:fs";
import { buildGodwit } from "../../scripts/build.ts";
import { binaryPath, Lab, type LabNode } from "../../scripts/lab.ts";

const SIGTERM = 15;
const UNUSED = ["SIGUSR1", "SIGUSR2", "SIGALRM", "SIGVTALRM", "SIGPROF", "SIGIO", "SIGPIPE"] as const;

let lab: Lab;

beforeAll(async () => {
  if (!existsSync(binaryPath)) await buildGodwit(undefined, binaryPath);
  lab = await Lab.create();
});
afterAll(async () => {
  await lab?.close();
});

const childrenOf = (pid: number): number[] =>
  readFileSync(`/proc/${pid}/task/${pid}/children`, "utf8").split(" ").filter(Boolean).map(Number);

/** Whether the process has a handler of its own for a signal. */
function catches(pid: number, signal: number): boolean {
  const mask = /^SigCgt:\s*([0-9a-f]+)$/m.exec(readFileSync(`/proc/${pid}/status`, "utf8"))?.[1] ?? "0";
  return ((BigInt(`0x${mask}`) >> BigInt(signal - 1)) & 1n) === 1n;
}

/** Sends SIGHUP at every look from the moment on that the node is a node and no program that starts, until `isOver`. */
async function hangUpUntil(node: LabNode, isOver: () => boolean): Promise<number> {
  let count = 0;
  while (!isOver()) {
    if (node.pid !== undefined && node.isRunning && catches(node.pid, SIGTERM)) {
      node.signal("SIGHUP");
      count++;
    }
    await new Promise((resolve) => setImmediate(resolve));
  }
  return count;
}

test("SIGHUP while a node starts does not kill it, and the configuration is read once more", async () => {
  const node = await lab.add({ callsign: "HUP-A" });
  let isUp = false;
  const starting = node.start().finally(() => (isUp = true));
  const hangups = await hangUpUntil(node, () => isUp);
  await starting;
  expect(hangups).toBeGreaterThan(0);
  expect(node.isRunning).toBe(true);
  await node.until("the reload", async () => node.logTail.includes("configuration reloaded"), 10_000);
  await node.kill("SIGTERM");
}, 30_000);

test("SIGHUP while a node stops does not take its goodbye away", async () => {
  const node = await lab.add({ callsign: "HUP-B" });
  await node.start();
  node.signal("SIGTERM");
  let isOver = false;
  const ended = node.ended().finally(() => (isOver = true));
  await hangUpUntil(node, () => isOver);
  expect(await ended).toBe(0);
  expect(node.logTail).toContain('"event":"stopped"');
}, 30_000);

test("signals that mean nothing to a node do not end it", async () => {
  const node = await lab.add({ callsign: "SIG-A" });
  await node.start();
  for (const signal of UNUSED) node.signal(signal);
  expect((await node.api("/health")).ok).toBe(true);
  expect(node.isRunning).toBe(true);
  await node.kill("SIGTERM");
}, 30_000);

test.each(["SIGQUIT", "SIGXCPU", "SIGINT"] as const)(
  "a node ends with a goodbye on %s",
  async (signal) => {
    const node = await lab.add({ callsign: "SIG-B", folder: signal });
    await node.start();
    node.signal(signal);
    expect(await node.ended()).toBe(0);
    expect(node.logTail).toContain('"event":"stopped"');
  },
  30_000,
);

const lacksNamespaces = process.getuid?.() !== 0 ? "needs root for a namespace of processes" : undefined;
test.skipIf(lacksNamespaces !== undefined)(
  `orphans of a container whose first process is a node do not stay zombies${lacksNamespaces === undefined ? "" : ` [skipped: ${lacksNamespaces}]`}`,
  async () => {
    const node = await lab.add({
      callsign: "ORP-A",
      command: ["unshare", "--pid", "--fork", "--mount-proc", "--kill-child", binaryPath],
    });
    await node.start();
    const [first] = childrenOf(node.pid!);
    const inside = ["nsenter", "--target", String(first), "--pid", "--mount", "sh", "-c"];
    for (let i = 0; i < 20; i++) Bun.spawnSync([...inside, "(sleep 0.1 &)"]);
    await node.until("all of them", async () => childrenOf(first!).length > 0, 5_000);
    await node.until("none of them", async () => childrenOf(first!).length === 0, 10_000);
    process.kill(first!, "SIGTERM");
    expect(await node.ended()).toBe(0);
  },
  40_000,
);

test("the memory of a node with its keys does not get into a core dump", async () => {
  const node = await lab.add({ callsign: "COR-A" });
  await node.start();
  const limits = readFileSync(`/proc/${node.pid!}/limits`, "utf8");
  expect(/^Max core file size\s+(\d+|unlimited)\s+(\d+|unlimited)/m.exec(limits)?.slice(1)).toEqual([
    "0",
    "0",
  ]);
  await node.kill("SIGTERM");
}, 30_000);
