/** Disks of real nodes that fill, rot or refuse: small file systems of their own, and files changed behind a node's back. */
import { afterAll, describe, expect, test } from "bun:test";
import { closeSync, openSync, readdirSync, readFileSync, statfsSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { binaryPath, type LabNode } from "../../scripts/lab.ts";
import { closeClusters, Cluster, type ClusterOptions, type Message } from "./cluster.ts";
import { makeBody } from "./ledger.ts";
import { whyNoMount } from "./tmp-disk.ts";

afterAll(closeClusters);

const CASE_TIMEOUT_MS = 90_000;
const noMount = whyNoMount();
const PAIR: ClusterOptions = { callsigns: ["DUN-A", "LON-B"], links: [["DUN-A", "LON-B"]] };
const SMALL: ClusterOptions = { ...PAIR, disk: { callsign: "DUN-A", megabytes: 24 } };
const LINE: ClusterOptions = {
  callsigns: ["DUN-A", "LON-B", "NYC-C"],
  links: [
    ["DUN-A", "LON-B"],
    ["LON-B", "NYC-C"],
  ],
};

async function play(options: ClusterOptions, work: (mesh: Cluster) => Promise<void>): Promise<void> {
  const mesh = await Cluster.open(options);
  try {
    await work(mesh);
  } finally {
    await mesh.close();
  }
}

interface Health {
  readonly status: string;
  readonly checks: readonly { readonly name: string; readonly status: string; readonly reason: string }[];
}

const troubles = async (node: LabNode): Promise<string> => {
  const { status, checks } = await node.json<Health>("/health");
  const reasons = checks
    .filter((check) => check.status !== "ok")
    .map(({ name, reason }) => `${name}: ${reason}`);
  return [status, ...reasons].join("\n");
};
const untilHealth = (node: LabNode, wanted: RegExp) =>
  node.until(`health ${wanted}`, async () => wanted.test(await troubles(node)), 20_000, 100);
const accepts = (node: LabNode, to: string, bytes: number) =>
  node.sendBytes(makeBody("filler0000", bytes), { to }).then(
    (id) => id,
    (error: unknown) => (/ (507|503) /.test(String(error)) ? undefined : Promise.reject(error)),
  );
const remove = async (node: LabNode, id: string) =>
  (await node.api(`/messages/${id}`, { method: "DELETE" })).status;
const freeBytes = (path: string): number => {
  const { bavail, bsize } = statfsSync(path);
  return bavail * bsize;
};
/** Of a node that is not running: every copy of some text in its database gets one other byte. */
function rot(node: LabNode, text: string): void {
  const path = join(node.stateDir, "godwit.db");
  const bytes = readFileSync(path);
  let found = 0;
  for (let at = bytes.indexOf(text); at >= 0; at = bytes.indexOf(text, at + 1), found++) bytes[at + 2]! ^= 1;
  expect(found).toBeGreaterThan(0);
  writeFileSync(path, bytes);
}
const cli = async (node: LabNode, args: string[], stdout: number | "pipe" = "pipe") => {
  const child = Bun.spawn([binaryPath, ...args, "--socket", node.socketPath], {
    stdin: "ignore",
    stdout,
    stderr: "pipe",
  });
  const err = await new Response(child.stderr).text();
  return { code: await child.exited, err };
};
/** Types of the events of a family, as they come. */
function listen(node: LabNode, family: string): { types: string[]; close(): void } {
  const types: string[] = [];
  const controller = new AbortController();
  void (async () => {
    const response = await node.api(`/events?family=${family}`, { signal: controller.signal });
    const decoder = new TextDecoder();
    for await (const chunk of response.body as unknown as AsyncIterable<Uint8Array>)
      for (const [, type] of decoder.decode(chunk).matchAll(/"type":"([^"]+)"/g)) types.push(type!);
  })().catch(() => {});
  return { types, close: () => controller.abort() };
}

describe.skipIf(noMount !== undefined)(
  `small disks${noMount === undefined ? "" : ` [skipped: ${noMount}]`}`,
  () => {
    test(
      "a node on 24 MiB does not fill its own disk, and mail that comes meanwhile is delivered",
      () =>
        play(SMALL, async (mesh) => {
          const [small, other] = [mesh.node("DUN-A"), mesh.node("LON-B")];
          let held = 0;
          while (held < 40 && (await accepts(small, "ZZZ-Z", 1_000_000)) !== undefined) held++;
          expect(held).toBeGreaterThan(3);
          expect(held).toBeLessThan(12);
          expect(freeBytes(mesh.disk!.path)).toBeGreaterThan(6_000_000);
          expect(await troubles(small)).toBe("ok");
          const id = await other.sendBytes(makeBody("incoming00", 1_000_000), { to: "DUN-A" });
          expect((await mesh.outcome("LON-B", id)).state).toBe("delivered");
        }),
      CASE_TIMEOUT_MS,
    );

    test(
      "others fill the disk: it is told, everything can be deleted, kill -9 and start work, and room is noticed without a restart",
      () =>
        play(SMALL, async (mesh) => {
          const [small, other, disk] = [mesh.node("DUN-A"), mesh.node("LON-B"), mesh.disk!];
          const ids: string[] = [];
          for (let i = 0; i < 4; i++) ids.push((await accepts(small, "ZZZ-Z", 1_000_000))!);
          const events = listen(small, "store");
          disk.fill();
          await untilHealth(
            small,
            /degraded\n.*store: the disk is full, \d+ bytes are missing: free some space/s,
          );
          const refused = await small.api("/messages?to=LON-B", {
            method: "POST",
            headers: { "content-type": "application/octet-stream" },
            body: makeBody("toolarge00", 2_000_000) as Uint8Array<ArrayBuffer>,
          });
          expect([refused.status, ((await refused.json()) as { detail: string }).detail]).toEqual([
            507,
            expect.stringMatching(/the disk is full; free \d+ KiB/),
          ]);
          expect(await remove(small, ids[0]!)).toBe(204);
          disk.fill();
          await small.kill("SIGKILL");
          disk.fill();
          await small.start();
          await small.kill("SIGTERM");
          disk.fill();
          await small.start();
          disk.fill();
          await untilHealth(small, /store: the disk is full/);
          for (const id of ids.slice(1)) {
            expect(await remove(small, id)).toBe(204);
            disk.fill();
          }
          const again = listen(small, "store");
          const waiting = await other.sendBytes(makeBody("waiting000", 3_000_000), { to: "DUN-A" });
          await other.until(
            "a reason",
            async () => /refused by/.test((await other.json<Message>(`/messages/${waiting}`)).reason ?? ""),
            20_000,
          );
          const pid = small.pid;
          await disk.drain();
          await untilHealth(small, /^ok$/);
          expect((await mesh.outcome("LON-B", waiting, 70_000)).state).toBe("delivered");
          expect(await accepts(small, "ZZZ-Z", 1_000_000)).toBeDefined();
          expect(small.pid).toBe(pid);
          expect(events.types).toContain("store.full");
          expect(again.types).toContain("store.room");
          events.close();
          again.close();
          expect(small.logLines.filter((line) => line.includes('"disk full"')).length).toBeGreaterThan(0);
          expect(small.logLines.some((line) => line.includes('"disk has room again"'))).toBe(true);
        }),
      CASE_TIMEOUT_MS,
    );

    test(
      "what a node on a full disk holds is delivered and deleted",
      () =>
        play({ ...LINE, disk: { callsign: "LON-B", megabytes: 24 } }, async (mesh) => {
          const [sender, relay, disk] = [mesh.node("DUN-A"), mesh.node("LON-B"), mesh.disk!];
          mesh.wire("LON-B", "NYC-C").silence("both");
          const ids: string[] = [];
          for (let i = 0; i < 4; i++)
            ids.push(await sender.sendBytes(makeBody(`through00${i}`, 600_000), { to: "NYC-C" }));
          for (let i = 0; i < 3; i++)
            ids.push(await relay.sendBytes(makeBody(`fromhere0${i}`, 600_000), { to: "NYC-C" }));
          await relay.until("custody", async () => (await relay.box("transit")).length === 4, 20_000);
          disk.fill();
          await relay.kill("SIGKILL");
          disk.fill();
          await relay.start();
          mesh.wire("LON-B", "NYC-C").cut();
          mesh.wire("LON-B", "NYC-C").heal();
          for (const [index, id] of ids.entries())
            expect((await mesh.outcome(index < 4 ? "DUN-A" : "LON-B", id)).state).toBe("delivered");
          await relay.until("an empty queue", async () => (await relay.box("transit")).length === 0, 20_000);
          expect((await mesh.node("NYC-C").box("inbox")).length).toBe(7);
        }),
      CASE_TIMEOUT_MS,
    );
  },
);

test(
  "one flipped byte in a stored body is not shown as the sender's words; the message is named, and the others are read",
  () =>
    play(PAIR, async (mesh) => {
      const [sender, recipient] = [mesh.node("DUN-A"), mesh.node("LON-B")];
      const sent = new Map<string, string>();
      for (const words of ["meet me at the harbour at nine", "the ferry leaves at ten, be there"]) {
        const id = await sender.send({ to: "LON-B", body: words });
        expect((await mesh.outcome("DUN-A", id)).state).toBe("delivered");
        sent.set(words, id);
      }
      await recipient.kill("SIGTERM");
      rot(recipient, "meet me at the harbour");
      await recipient.start();
      const [bad, good] = [...sent.values()] as [string, string];
      const shown = await recipient.api(`/messages/${bad}/body`);
      expect([shown.status, await shown.text()]).toEqual([
        410,
        expect.stringContaining("GODWIT_MESSAGE_DAMAGED"),
      ]);
      const read = await cli(recipient, ["inbox", "read", bad]);
      expect([read.code, /no message|damaged/.test(read.err)]).toEqual([1, true]);
      expect(await (await recipient.api(`/messages/${good}/body`)).text()).toBe(
        "the ferry leaves at ten, be there",
      );
      expect((await recipient.box<Message>("inbox")).map(({ id }) => id)).toEqual([good]);
      expect(await troubles(recipient)).toContain(`lost: inbox ${bad}`);
      expect(
        recipient.logLines.some((line) => line.includes("damaged row set aside") && line.includes(bad)),
      ).toBe(true);
    }),
  CASE_TIMEOUT_MS,
);

test(
  "bad pages in a relay's database: it starts, keeps the damaged file, and what was lost is brought again and delivered once",
  () =>
    play(LINE, async (mesh) => {
      const [sender, relay, recipient] = [mesh.node("DUN-A"), mesh.node("LON-B"), mesh.node("NYC-C")];
      mesh.wire("LON-B", "NYC-C").silence("both");
      const bodies = Array.from({ length: 12 }, (_, i) => `mail ${i} ${"x".repeat(3_000)}`);
      const ids: string[] = [];
      for (const body of bodies) ids.push(await sender.send({ to: "NYC-C", body }));
      await relay.until("custody", async () => (await relay.box("transit")).length === 12, 20_000);
      await relay.kill("SIGTERM");
      const path = join(relay.stateDir, "godwit.db");
      const bytes = readFileSync(path);
      // The first page, and every fifth of the rest.
      for (let at = 0; at < bytes.length; at += 5 * 4_096) bytes.fill(0xee, at, at + 4_096);
      writeFileSync(path, bytes);
      await relay.start();
      expect(
        readdirSync(relay.stateDir).filter((name) => name.startsWith("godwit.db.damaged-")).length,
      ).toBeGreaterThan(0);
      expect(await troubles(relay)).toMatch(/degraded\n.*store: the disk damaged what was stored \(lost: /s);
      mesh.wire("LON-B", "NYC-C").cut();
      mesh.wire("LON-B", "NYC-C").heal();
      for (const id of ids) expect((await mesh.outcome("DUN-A", id, 60_000)).state).toBe("delivered");
      const inbox = await recipient.box<Message>("inbox");
      const texts = await Promise.all(
        inbox.map(async ({ id }) => await (await recipient.api(`/messages/${id}/body`)).text()),
      );
      expect(texts.toSorted()).toEqual(bodies.toSorted());
    }),
  CASE_TIMEOUT_MS,
);

test(
  "a damaged key still ends the start",
  () =>
    play(PAIR, async (mesh) => {
      const node = mesh.node("LON-B");
      await node.kill("SIGTERM");
      const key = readdirSync(node.stateDir).find(
        (name) => /key/.test(name) && !name.startsWith("godwit.db"),
      )!;
      writeFileSync(join(node.stateDir, key), "not a key\n");
      expect(
        await node.start().then(
          () => "started",
          () => "refused",
        ),
      ).toBe("refused");
      expect(node.logTail).toContain("key");
    }),
  CASE_TIMEOUT_MS,
);

test(
  "a command whose output finds no room fails and says so: whole or not at all",
  () =>
    play(PAIR, async (mesh) => {
      const [sender, recipient] = [mesh.node("DUN-A"), mesh.node("LON-B")];
      const id = await sender.sendBytes(makeBody("toofull000", 300_000), { to: "LON-B" });
      expect((await mesh.outcome("DUN-A", id)).state).toBe("delivered");
      const commands = [
        ["inbox", "read", id, "--raw"],
        ["inbox", "read", id],
        ["inbox"],
        ["status"],
        ["status", "--json"],
        ["health"],
        ["peers"],
        ["config", "schema"],
        ["token", "list"],
        ["send", "LON-B", "again"],
        ["version"],
        ["--help"],
      ];
      for (const command of commands) {
        const full = openSync("/dev/full", "w");
        const { code, err } = await cli(recipient, command, full);
        closeSync(full);
        expect([command.join(" "), code, err.includes("standard output did not take all of it")]).toEqual([
          command.join(" "),
          1,
          true,
        ]);
      }
    }),
  CASE_TIMEOUT_MS,
);
