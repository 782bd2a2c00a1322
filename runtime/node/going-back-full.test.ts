/** A disk that is full in the middle of a conversion: the store stays as it was. A small tmpfs in a mount namespace of its own. */
import { afterEach, expect, test } from "bun:test";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

const directories: string[] = [];
afterEach(() => {
  for (const directory of directories.splice(0)) rmSync(directory, { recursive: true, force: true });
});

const canMount =
  Bun.which("unshare") !== null &&
  Bun.spawnSync(["unshare", "-rm", "mount", "-t", "tmpfs", "none", "/mnt"], { stderr: "ignore" }).exitCode ===
    0;

const ROWS = 1_200;
const source = (folder: string): string => `
  import { closeSync, openSync, readdirSync, rmSync, statfsSync, writeSync } from "node:fs";
  import { convertStore } from ${JSON.stringify(join(import.meta.dir, "going-back.ts"))};
  import { openSqliteStore } from ${JSON.stringify(join(import.meta.dir, "../store/sqlite.ts"))};
  import { silentLog } from ${JSON.stringify(join(import.meta.dir, "../kernel/log.ts"))};
  import { systemClock } from ${JSON.stringify(join(import.meta.dir, "../kernel/clock.ts"))};
  const folder = ${JSON.stringify(folder)};
  const path = folder + "/godwit.db";
  const open = () => openSqliteStore({ path, log: silentLog });
  const rows = async () => {
    const store = await open();
    const found = (await store.load("plugin")).length;
    const last = (await store.body("plugin", "k${ROWS - 1}"))?.length;
    await store.close();
    return [found, last];
  };
  let store = await open();
  for (let index = 0; index < ${ROWS}; index++)
    await store.commit([{ op: "put", in: "plugin", key: "k" + index, meta: "", body: new Uint8Array(2_100) }]);
  await store.close();
  const convert = () => convertStore({ stateDir: folder, clock: systemClock, log: silentLog }, "0.2", false);
  const free = () => { const { bavail, bsize } = statfsSync(folder); return bavail * bsize; };
  const ballast = openSync(folder + "/ballast", "a");
  const leave = (bytes) => { while (free() > bytes + 65_536) writeSync(ballast, new Uint8Array(65_536)); };
  const failure = async () => convert().then(() => undefined, ({ code, message }) => ({ code, message }));
  const names = () => readdirSync(folder).filter((name) => name.includes(".back") || name.includes(".before"));
  // Enough by the sizes of the rows, and not for the pages that they take.
  leave(4_200_000);
  const middle = [await failure(), names(), await rows()];
  leave(600_000);
  const start = [await failure(), names(), await rows()];
  closeSync(ballast);
  rmSync(folder + "/ballast");
  const { keptFile } = await convert();
  console.log(JSON.stringify({ middle, start, kept: keptFile !== undefined, after: await rows() }));
`;

test.skipIf(!canMount)(
  `a disk that fills up leaves the store as it was${canMount ? "" : " (SKIPPED: this user may not mount a tmpfs)"}`,
  async () => {
    const folder = mkdtempSync(join(tmpdir(), "godwit-back-full-"));
    directories.push(folder);
    const mount = `mount -t tmpfs -o size=24m none "$1" && exec "$2" -e "$3"`;
    const child = Bun.spawn(
      ["unshare", "-rm", "sh", "-c", mount, "sh", folder, process.execPath, source(folder)],
      { stdout: "pipe", stderr: "inherit" },
    );
    const text = await new Response(child.stdout).text();
    expect(await child.exited).toBe(0);
    const { middle, start, kept, after } = JSON.parse(text) as Record<string, unknown[]>;
    for (const [failure, names, rows] of [middle!, start!]) {
      expect(failure).toMatchObject({ code: "GODWIT_STORE_FAILED" });
      expect((failure as { message: string }).message).toContain("the store is as it was");
      expect([names, rows]).toEqual([[], [ROWS, 2_100]]);
    }
    // The one knew before it began how much is missing.
    expect((start![0] as { message: string }).message).toMatch(/free \d+ KiB/);
    expect((middle![0] as { message: string }).message).toContain("free some space");
    expect([kept, after]).toEqual([true as never, [ROWS, 2_100]]);
  },
  60_000,
);
