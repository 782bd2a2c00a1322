/** A store of a hundred thousand rows, and one that is killed. */
import { describe, afterEach, expect, test } from "bun:test";
import { rmSync, statSync } from "node:fs";
import { join } from "node:path";
import type { StoreOp } from "./types.ts";
import { put, directories, scratch, open, moduleHead } from "./testing-sqlite.ts";

afterEach(() => {
  for (const directory of directories.splice(0)) rmSync(directory, { recursive: true, force: true });
});

describe("the sqlite store", () => {
  test("100,000 rows load in under a second of processor time, and space of deleted rows is given back", async () => {
    const path = join(scratch(), "a.db");
    const store = await open(path);
    const ops = Array.from({ length: 100_000 }, (_, i) => put(`k${(i * 7_919) % 100_003}`, 200));
    for (let at = 0; at < ops.length; at += 5_000) void store.commit(ops.slice(at, at + 5_000));
    await store.load("setting");
    const before = process.cpuUsage();
    const rows = await store.load("outbox");
    const { user, system } = process.cpuUsage(before);
    expect((user + system) / 1_000).toBeLessThan(1_000);
    expect(rows.length).toBe(100_000);
    const drop: StoreOp[] = rows.map(({ key }) => ({ op: "delete", in: "outbox", key }));
    await Promise.all([store.commit(drop.slice(0, 60_000)), store.commit(drop.slice(60_000))]);
    expect((await store.usage()).bytes).toBe(0);
    const full = statSync(path).size;
    expect(full).toBeGreaterThan(16 * 1024 * 1024);
    // It is given back in quiet moments, which come and go while nothing is committed.
    const deadlineMs = performance.now() + 50_000;
    while (statSync(path).size >= 8 * 1024 * 1024 && performance.now() < deadlineMs) await store.usage();
    expect(statSync(path).size).toBeLessThan(8 * 1024 * 1024);
    await store.close();
  }, 60_000);
});

describe("kill -9", () => {
  const KILLS = 4;

  test.each([
    ["without a clock", false],
    ["with one", true],
  ])(
    `what was acknowledged survives ${KILLS} kills, and groups are whole: a store %s`,
    async (_, hasClock) => {
      const path = join(scratch(), "a.db");
      const acked = new Set<string>();
      for (let kill = 0; kill < KILLS; kill++) {
        const child = Bun.spawn([process.execPath, "-e", writerSource(path, kill, hasClock)], {
          stdout: "pipe",
          stderr: "inherit",
        });
        const before = acked.size;
        let rest = "";
        for await (const chunk of child.stdout) {
          const lines = (rest + new TextDecoder().decode(chunk)).split("\n");
          rest = lines.pop()!;
          for (const line of lines) acked.add(line);
          if (acked.size - before > 300 * (kill + 1)) child.kill("SIGKILL");
        }
        await child.exited;
        expect(acked.size).toBeGreaterThan(before);
        const store = await open(path);
        const groups = new Map<string, number>();
        for (const { key, bodyBytes } of await store.load("outbox")) {
          const group = key.slice(0, key.lastIndexOf("/"));
          groups.set(group, (groups.get(group) ?? 0) + 1);
          expect(bodyBytes).toBe(300);
        }
        for (const group of acked) expect(groups.get(group)).toBe(3);
        expect([...groups.values()].every((count) => count === 3)).toBe(true);
        expect((await store.usage()).bytes).toBe(groups.size * 3 * 302);
        await store.close();
      }
    },
  );
});
const writerSource = (path: string, run: number, hasClock: boolean): string => `${moduleHead}
  import { writeSync } from "node:fs";
  const store = await openSqliteStore({ path: ${JSON.stringify(path)}, log: silentLog${hasClock ? ", clock: systemClock" : ""} });
  const body = new Uint8Array(300);
  const lane = async (name) => {
    for (let i = 0; ; i++) {
      const group = "${run}/" + name + "/" + i;
      await store.commit([0, 1, 2].map((part) => ({ op: "put", in: "outbox", key: group + "/" + part, meta: "{}", body })));
      writeSync(1, group + "\\n");
    }
  };
  await Promise.all(Array.from({ length: 40 }, (_, name) => lane(name)));
`;
