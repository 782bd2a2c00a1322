/**
 * The update from 0.2 on a disk that is full, with the real binaries: refused, and the earlier release goes on with the store; then brought here while
 * others fill the disk again. Nothing of any state is lost or comes twice. Needs root, for a small disk of its own.
 */
import { Database } from "bun:sqlite";
import { afterAll, beforeAll, expect, test } from "bun:test";
import { existsSync } from "node:fs";
import { join } from "node:path";
import { buildGodwit } from "../../scripts/build.ts";
import { binaryPath, Lab, type LabNode } from "../../scripts/lab.ts";
import { lastOfSchemaTwo, releaseBinary } from "../../scripts/releases.ts";
import { TmpDisk, whyNoMount } from "../chaos/tmp-disk.ts";

const DELIVERY_MS = 30_000;
/** Copies of what was received, so that the conversion takes a while. */
const PLANTED = 3_000;
const noMount = whyNoMount();
let lab: Lab;
let disk: TmpDisk | undefined;

beforeAll(async () => {
  if (noMount !== undefined) return;
  if (!existsSync(binaryPath)) await buildGodwit(undefined, binaryPath);
  await releaseBinary(lastOfSchemaTwo);
  lab = await Lab.create();
}, 240_000);

afterAll(async () => {
  await lab?.close();
  await disk?.unmount();
});

const bodyOf = (what: string, index: number): string =>
  `${what} ${index}${index % 4 === 0 ? "x".repeat(40_000) : ""}`;
const all = (what: string, count: number): string[] =>
  Array.from({ length: count }, (_, index) => bodyOf(what, index));
const areDelivered = async (node: LabNode, ids: readonly string[]): Promise<boolean> => {
  for (const id of ids)
    if ((await node.json<{ state: string }>(`/messages/${id}`)).state !== "delivered") return false;
  return true;
};
const bodiesOf = async (node: LabNode): Promise<string[]> => {
  const bodies: string[] = [];
  for (const { id } of await node.box<{ id: string }>("inbox"))
    bodies.push(await (await node.api(`/messages/${id}/body`)).text());
  return bodies.sort();
};

function plant(path: string): void {
  const db = new Database(path);
  const [key, meta] = db.query("SELECT key, meta FROM inbox LIMIT 1").values()[0] as [string, string];
  const put = db.prepare("INSERT INTO inbox (key, meta, body) VALUES (?, ?, ?)");
  db.transaction(() => {
    for (let index = 0; index < PLANTED; index++) {
      const id = (index + 1).toString(16).padStart(key.length, "0");
      put.run(id, JSON.stringify({ ...JSON.parse(meta), id, size: 7 }), Buffer.from("planted"));
    }
  })();
  put.finalize();
  db.close();
}

test.skipIf(noMount !== undefined)(
  `a store of 0.2 on a full disk is refused as it was, and brought here once there is room, although others fill it again${noMount === undefined ? "" : ` [skipped: ${noMount}]`}`,
  async () => {
    const small = (disk = await TmpDisk.mount(40));
    const old = await releaseBinary(lastOfSchemaTwo);
    const oldOptions = { command: [old], linksWanted: null } as const;
    const nowOptions = { command: [binaryPath], linksWanted: 0 } as const;
    const network = "full";
    const self = await lab.add({ callsign: "FULL-A", network, stateDir: small.stateDir, ...oldOptions });
    const peers = [self.endpoint];
    const far = await lab.add({ callsign: "FULL-B", network, peers, ...nowOptions });
    const beyond = await lab.add({ callsign: "FULLX-C", network, peers, ...nowOptions });
    const newcomer = await lab.add({ callsign: "FULLY-N", network, peers, ...nowOptions });
    const send = async (from: LabNode, to: string, bodies: readonly string[]): Promise<string[]> => {
      const ids: string[] = [];
      for (const body of bodies) ids.push(await from.send({ to, body }));
      return ids;
    };

    await Promise.all([self, far, beyond].map((node) => node.start()));
    const first = [
      ...(await send(far, self.callsign, all("received", 20))),
      ...(await send(far, beyond.callsign, ["hello"])),
    ];
    await far.until("receipts", () => areDelivered(far, first), DELIVERY_MS);
    beyond.signal("SIGSTOP");
    const carried = await send(far, beyond.callsign, all("carried", 12));
    const isCarried = async (): Promise<boolean> => (await self.box("transit")).length >= carried.length;
    await self.until("bundles", isCarried, DELIVERY_MS);
    await Promise.all([beyond.kill("SIGKILL"), far.kill("SIGTERM")]);
    const open = [
      ...(await send(self, far.callsign, all("queued", 20))),
      ...(await send(self, newcomer.callsign, all("unsealed", 12))),
    ];
    await self.kill("SIGTERM");
    plant(join(self.stateDir, "godwit.db"));

    small.fill();
    await self.reconfigure(nowOptions);
    await expect(self.start()).rejects.toThrow(/the disk is full; free \d+ KiB, and the node starts/);
    await small.drain();
    await self.reconfigure(oldOptions);
    await self.start();
    expect((await self.box("inbox")).length).toBe(20 + PLANTED);
    await self.kill("SIGKILL");

    await self.reconfigure(nowOptions);
    await self.start();
    small.fill();
    const degraded = async (): Promise<boolean> =>
      (await (await self.api("/health")).text()).includes("disk is full");
    await self.until("health to say so", degraded, DELIVERY_MS);
    await self.kill("SIGKILL");
    small.fill();
    await self.start();
    expect((await self.box("inbox")).length).toBe(20 + PLANTED);
    const planted = (await self.box<{ id: string; size: number }>("inbox")).find(({ size }) => size === 7)!;
    expect((await self.api(`/messages/${planted.id}`, { method: "DELETE" })).status).toBe(204);
    await self.kill("SIGKILL");
    await small.drain();
    await self.start();
    const leftToConvert = async (): Promise<number> =>
      (await self.json<{ conversions: unknown[] }>("/mesh/status")).conversions.length;
    await self.until("the conversion", async () => (await leftToConvert()) === 0, DELIVERY_MS);

    await Promise.all([far, beyond, newcomer].map((node) => node.start()));
    await self.until("receipts", () => areDelivered(self, open), DELIVERY_MS);
    await far.until("receipts of what was carried", () => areDelivered(far, carried), DELIVERY_MS);
    expect(await bodiesOf(far)).toEqual(all("queued", 20).sort());
    expect(await bodiesOf(newcomer)).toEqual(all("unsealed", 12).sort());
    expect(await bodiesOf(beyond)).toEqual([...all("carried", 12), "hello"].sort());
    const received = await bodiesOf(self);
    expect(received.filter((body) => body !== "planted")).toEqual(all("received", 20).sort());
    expect(received.length).toBe(20 + PLANTED - 1);
  },
  180_000,
);
