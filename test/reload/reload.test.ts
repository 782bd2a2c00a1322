/** A running node reads its configuration anew: plugins come and go, links and other plugins stay. */
import { afterAll, beforeAll, expect, test } from "bun:test";
import { existsSync } from "node:fs";
import { writeFile } from "node:fs/promises";
import type { ReloadView } from "../../runtime/view/contract/node.ts";
import { buildGodwit } from "../../scripts/build.ts";
import { binaryPath, freePort, Lab, type LabNode } from "../../scripts/lab.ts";

let lab: Lab;
let a: LabNode;
let b: LabNode;

beforeAll(async () => {
  if (!existsSync(binaryPath)) await buildGodwit(undefined, binaryPath);
  lab = await Lab.create();
  a = await lab.add({ callsign: "REL-A" });
  b = await lab.add({ callsign: "REL-B", peers: [a.endpoint] });
  await Promise.all([a.start(), b.start()]);
  await a.until("B", async () => (await links(a)) === 1, 10_000);
});

afterAll(async () => {
  await lab?.close();
});

const links = async (node: LabNode): Promise<number> =>
  (await node.json<{ peers: { connected: number } }>("/mesh/status")).peers.connected;
const reload = (node: LabNode) => node.json<ReloadView>("/reload", { method: "POST" });
const telex = (port: number) => `[services.telex]\ntype = "telex"\nlisten = "127.0.0.1:${port}"\n`;

async function answers(port: number): Promise<boolean> {
  try {
    const socket = await Bun.connect({ hostname: "127.0.0.1", port, socket: { data() {} } });
    socket.terminate();
    return true;
  } catch {
    return false;
  }
}

/** Drops of links that the other end saw. */
async function countingDrops(work: () => Promise<void>): Promise<number> {
  const since = async () =>
    (await b.json<{ peers: { links: { up_seconds: number }[] }[] }>("/mesh/peers")).peers.flatMap((peer) =>
      peer.links.map((link) => link.up_seconds),
    );
  const before = await since();
  await work();
  const after = await since();
  return after.length === before.length && after.every((up, i) => up >= before[i]!) ? 0 : 1;
}

test("services are added, moved and removed by SIGHUP and by the API; links stay", async () => {
  const [first, second] = [freePort(), freePort()];
  const drops = await countingDrops(async () => {
    await a.reconfigure({ extra: telex(first) });
    a.signal("SIGHUP");
    await a.until("the telex port", () => answers(first), 10_000);
    await a.reconfigure({ extra: telex(second) });
    const report = await reload(a);
    expect(report).toEqual({
      changed: [{ section: "services", name: "telex", change: "changed" }],
      applied: [],
      restart_needed: [],
      restart_because: {},
    });
    expect([await answers(first), await answers(second)]).toEqual([false, true]);
    await a.reconfigure({ extra: "" });
    expect((await reload(a)).changed).toMatchObject([{ change: "removed" }]);
    expect(await answers(second)).toBe(false);
    expect((await reload(a)).changed).toEqual([]);
  });
  expect(drops).toBe(0);
}, 30_000);

test("a bad configuration is refused with the place of the mistake, and nothing changes", async () => {
  const port = freePort();
  await a.reconfigure({ extra: telex(port) });
  await reload(a);
  await a.reconfigure({ extra: telex(port).replace("listen", "lisen") });
  const response = await a.api("/reload", { method: "POST" });
  expect(response.status).toBeGreaterThanOrEqual(400);
  expect(await response.text()).toContain("services.telex.lisen");
  a.signal("SIGHUP");
  await a.until(
    "the refusal in the log",
    async () => a.logTail.includes("configuration not reloaded"),
    10_000,
  );
  expect(await answers(port)).toBe(true);
  await writeFile(a.configPath, "[node\n");
  expect((await a.api("/reload", { method: "POST" })).ok).toBe(false);
  expect(await answers(port)).toBe(true);
}, 30_000);
