import { expect, test } from "bun:test";
import { mkdtempSync, rmSync, truncateSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { ManualClock } from "../kernel/clock.ts";
import { exposed } from "./testing-process-facts.ts";

const valueIn = (text: string, line: string): number =>
  Number(
    text
      .split("\n")
      .find((found) => found.startsWith(`${line} `))
      ?.slice(line.length) ?? Number.NaN,
  );

test("a scrape says what the process takes, in base units, and that it grew", async () => {
  const metrics = exposed();
  const before = await metrics.render();
  expect(before).toContain(`godwit_build_info{version="1.2.3",bun="${Bun.version}",platform="linux-`);
  const blocks: Uint8Array[] = [];
  let after = before;
  const grew = (line: string) => valueIn(after, line) - valueIn(before, line);
  // What other tests of this process left may be given back meanwhile.
  do {
    const block = new Uint8Array(64 * 2 ** 20).fill(7);
    blocks.push(block);
    for (const endMs = performance.now() + 60; performance.now() < endMs;) block.reverse();
    after = await metrics.render();
  } while (grew("process_resident_memory_bytes") <= 32 * 2 ** 20 && blocks.length < 8);
  expect(grew("process_cpu_seconds_total")).toBeGreaterThan(0.02);
  expect(grew("process_cpu_seconds_total")).toBeLessThan(10);
  expect(grew('godwit_thread_cpu_seconds_total{thread="main"}')).toBeGreaterThan(0.02);
  expect(valueIn(after, 'godwit_thread_cpu_seconds_total{thread="others"}')).toBeGreaterThanOrEqual(0);
  expect(grew("process_resident_memory_bytes")).toBeGreaterThan(32 * 2 ** 20);
  expect(valueIn(after, "godwit_memory_peak_bytes")).toBeGreaterThanOrEqual(
    valueIn(before, "process_resident_memory_bytes") + 32 * 2 ** 20,
  );
  for (const line of ["godwit_memory_proportional_bytes", "godwit_heap_size_bytes", "godwit_heap_used_bytes"])
    expect([line, valueIn(after, line) > 2 ** 20]).toEqual([line, true]);
  expect(
    Math.abs(valueIn(after, "process_start_time_seconds") - (Date.now() / 1_000 - process.uptime())),
  ).toBeLessThan(5);
  expect(valueIn(after, "process_max_fds")).toBeGreaterThan(valueIn(after, "process_open_fds"));
});

test("descriptors, files of the store and the disk are those of this moment", async () => {
  const stateDir = mkdtempSync(join(tmpdir(), "godwit-facts-"));
  try {
    const databasePath = join(stateDir, "godwit.db");
    const metrics = exposed({ stateDir, databasePath });
    const fds = valueIn(await metrics.render(), "process_open_fds");
    writeFileSync(databasePath, "");
    truncateSync(databasePath, 8_192);
    writeFileSync(`${databasePath}-log`, "log");
    const held = Array.from({ length: 20 }, () =>
      Bun.listen({ hostname: "127.0.0.1", port: 0, socket: { data() {} } }),
    );
    const text = await metrics.render();
    for (const server of held) server.stop(true);
    expect(valueIn(text, "process_open_fds") - fds).toBe(20);
    expect(valueIn(text, 'godwit_store_file_bytes{file="database"}')).toBe(8_192);
    expect(valueIn(text, 'godwit_store_file_bytes{file="log"}')).toBe(3);
    expect(valueIn(text, 'godwit_store_file_bytes{file="wal"}')).toBe(0);
    expect(valueIn(text, "godwit_disk_size_bytes")).toBeGreaterThan(valueIn(text, "godwit_disk_free_bytes"));
  } finally {
    rmSync(stateDir, { recursive: true, force: true });
  }
});

test("between scrapes nothing is looked at: no timer is set", async () => {
  const clock = new ManualClock();
  const metrics = exposed({ clock });
  await metrics.render();
  expect(clock.nextAtMs()).toBeUndefined();
});

test("a state directory that is not there hides the disk and nothing else", async () => {
  const text = await exposed({ stateDir: "/none/at/all" }).render();
  expect(text).not.toMatch(/^godwit_disk_free_bytes /m);
  expect(valueIn(text, "process_cpu_seconds_total")).toBeGreaterThan(0);
});
