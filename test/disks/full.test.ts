/** Disks that somebody else fills, block by block, whenever one becomes free: a small tmpfs in a mount namespace of its own. */
import { expect, test } from "bun:test";
import { join } from "node:path";
import { onSmallDisk, whyNoSmallDisk } from "../../runtime/store/small-disk.ts";

const head = `
  import { openSqliteStore } from ${JSON.stringify(join(import.meta.dir, "../../runtime/store/sqlite.ts"))};
  import { silentLog } from ${JSON.stringify(join(import.meta.dir, "../../runtime/kernel/log.ts"))};
  import { Ballast } from ${JSON.stringify(join(import.meta.dir, "../../runtime/store/small-disk.ts"))};
  import { openSync, writeSync, closeSync } from "node:fs";
  const folder = process.argv.at(-1);
  const open = () => openSqliteStore({ path: folder + "/state/godwit.db", log: silentLog });
  const works = (...ops) => store.commit(ops).then(() => true, (error) => {
    if (error.code !== "GODWIT_STORE_FAILED") throw error;
    return false;
  });
  const put = (key, bytes) => works({ op: "put", in: "outbox", key, meta: "{}", body: new Uint8Array(bytes).fill(1) });
  const say = (key, meta) => works({ op: "put", in: "outbox", key, meta });
  const remove = (key) => works({ op: "delete", in: "outbox", key });
  const ballast = new Ballast(folder);
  const fill = () => ballast.fill();
  const free = () => ballast.freeBytes;
  const until = async (is) => { for (let i = 0; i < 400 && !is(); i++) await Bun.sleep(25); return is(); };
  let store = await open();
`;

const play = (sizeMiB: number, source: string): Promise<Record<string, unknown>> =>
  onSmallDisk(sizeMiB, ["-e", head + source]);

const full = (name: string, body: () => Promise<void>): void =>
  test.skipIf(whyNoSmallDisk !== undefined)(
    `${name}${whyNoSmallDisk === undefined ? "" : ` (${whyNoSmallDisk})`}`,
    body,
    60_000,
  );

full(
  "on a disk that others fill to the last block, again and again, every message can be deleted",
  async () => {
    const seen = await play(
      24,
      `
    let held = 0;
    while (held < 200 && (await put("k" + held, 300_000))) held++;
    fill();
    let said = 0, deleted = 0;
    for (let i = 0; i < held; i++) {
      if (await say("k" + i, JSON.stringify({ state: "delivered", receipt: "r".repeat(600) }))) said++;
      fill();
      if (await remove("k" + i)) deleted++;
      fill();
    }
    console.log(JSON.stringify({ held, all: said === held && deleted === held, left: (await store.load("outbox")).length, short: store.state.missingBytes }));
    await store.close();
  `,
    );
    expect(seen).toMatchObject({ all: true, left: 0 });
    expect(seen["held"]).toBeGreaterThan(30);
  },
);

full(
  "what was accepted while there was room finds room in the database, although others fill the disk to the last block right after",
  async () => {
    const seen = await play(
      24,
      `
    let accepted = 0, brought = 0;
    for (let round = 0; round < 5; round++) {
      ballast.drain();
      await until(() => store.state.missingBytes === 0);
      for (let i = 0; i < 60; i++) if (await put(round + "/" + i, 2_000)) accepted++;
      fill();
      await store.usage().then(() => brought++);
      fill();
    }
    console.log(JSON.stringify({ accepted, brought, rows: (await store.load("outbox")).length }));
    await store.close();
  `,
    );
    expect(seen).toEqual({ accepted: 300, brought: 5, rows: 300 });
  },
);

full("a store closes and opens on a full disk, and one that was killed there opens as well", async () => {
  const seen = await play(
    24,
    `
    for (let i = 0; i < 20; i++) await put("k" + i, 300_000);
    fill();
    await store.close();
    fill();
    store = await open();
    const opened = (await store.load("outbox")).length;
    const isDeleted = await remove("k0");
    const isRaised = await works({ op: "put", in: "setting", key: "boot-epoch", meta: "7" });
    fill();
    const code = ${JSON.stringify("")} + \`
      import { openSqliteStore } from ${join(import.meta.dir, "../../runtime/store/sqlite.ts")
        .replaceAll("\\", "/")
        .replace(/^/, '"')
        .replace(/$/, '"')};
      import { silentLog } from ${join(import.meta.dir, "../../runtime/kernel/log.ts")
        .replace(/^/, '"')
        .replace(/$/, '"')};
      const store = await openSqliteStore({ path: "\${folder}/state/godwit.db", log: silentLog });
      await store.commit([{ op: "delete", in: "outbox", key: "k1" }]);
      process.kill(process.pid, "SIGKILL");
    \`;
    await store.close();
    fill();
    await Bun.spawn([process.execPath, "-e", code], { stderr: "inherit" }).exited;
    fill();
    store = await open();
    const rows = (await store.load("outbox")).map((row) => row.key);
    console.log(JSON.stringify({ opened, isDeleted, isRaised, rows: rows.length, k1: rows.includes("k1"), free: free() }));
    await store.close();
  `,
  );
  expect(seen).toEqual({ opened: 20, isDeleted: true, isRaised: true, rows: 18, k1: false, free: 0 });
});

full(
  "room that comes back is noticed without a commit and without a restart, and so is room that goes",
  async () => {
    const seen = await play(
      24,
      `
    await put("k", 300_000);
    const before = store.state.missingBytes;
    fill();
    const refused = !(await put("more", 2_000_000));
    const isShort = await until(() => store.state.missingBytes > 0);
    ballast.close();
    const isBack = await until(() => store.state.missingBytes === 0);
    const again = await put("more", 2_000_000);
    console.log(JSON.stringify({ before, refused, isShort, isBack, again }));
    await store.close();
  `,
    );
    expect(seen).toEqual({ before: 0, refused: true, isShort: true, isBack: true, again: true });
  },
);

full(
  "a store that filled its own disk and was emptied takes as much again, and gives space back",
  async () => {
    const seen = await play(
      24,
      `
    const round = async (name) => { let held = 0; while (held < 300 && (await put(name + held, 100_000))) held++; return held; };
    const first = await round("a");
    const least = free();
    for (let i = 0; i < first; i++) await remove("a" + i);
    const isGiven = await until(() => free() > 16 << 20);
    const second = await round("b");
    console.log(JSON.stringify({ first, second, least, isGiven }));
    await store.close();
  `,
    );
    expect(seen["isGiven"]).toBe(true);
    expect(seen["first"]).toBeGreaterThan(120);
    expect(seen["second"]).toBeGreaterThanOrEqual((seen["first"] as number) - 5);
    expect(seen["least"]).toBeGreaterThan(1_000_000);
  },
);

full(
  "a damaged database on a full disk: what is readable is kept, although there is no room for the damaged file",
  async () => {
    const seen = await play(
      8,
      `
    let held = 0;
    while (held < 300 && (await put("k" + held, 50_000))) held++;
    await store.close();
    const db = openSync(folder + "/state/godwit.db", "r+");
    writeSync(db, new Uint8Array(4096).fill(0xee), 0, 4096, 4096 * 9);
    writeSync(db, new Uint8Array(4096).fill(0xee), 0, 4096, 0);
    closeSync(db);
    fill();
    store = await open();
    const rows = await store.load("outbox");
    console.log(JSON.stringify({ held, rows: rows.length, lost: store.state.damageCount, aside: store.state.asideFile, deleted: await remove(rows[0].key) }));
    await store.close();
  `,
    );
    expect(seen).toMatchObject({ aside: null, deleted: true });
    expect(seen["held"]).toBeGreaterThan(60);
    expect(seen["rows"]).toBeGreaterThan((seen["held"] as number) - 5);
  },
);

full(
  "on a disk that had plenty of room until others took all of it at once, messages can be deleted, whatever the log held then",
  async () => {
    const seen = await play(
      24,
      `
    const { StoreThread } = await import(${JSON.stringify(join(import.meta.dir, "../../runtime/store/sqlite-thread.ts"))});
    await store.close();
    // As on a disk of any size, up to the moment in which it is full.
    let isAmple = true;
    const grant = (answer) => (isAmple ? { ...answer, grantBytes: Number.POSITIVE_INFINITY } : answer);
    for (const name of ["open", "ask", "fold"]) {
      const before = StoreThread.prototype[name];
      StoreThread.prototype[name] = async function (...asked) { return grant(await before.apply(this, asked)); };
    }
    store = await openSqliteStore({ path: folder + "/state/godwit.db", log: silentLog, logBytes: 6 << 20 });
    for (let i = 0; i < 900; i++) await put("k" + i, 2_500);
    fill();
    isAmple = false;
    // It has what its files had already, and no more.
    let more = 0;
    while (more < 100 && await put("more" + more, 100_000)) { more++; fill(); }
    const isFull = more < 100;
    let deleted = 0;
    for (let i = 0; i < more; i++) await remove("more" + i);
    for (let i = 0; i < 900; i++) {
      if (await remove("k" + i)) deleted++;
      fill();
    }
    const isWell = await store.usage().then(() => true, () => false);
    console.log(JSON.stringify({ isFull, deleted, isWell, rows: (await store.load("outbox")).length }));
    await store.close();
  `,
    );
    expect(seen).toEqual({ isFull: true, deleted: 900, isWell: true, rows: 0 });
  },
);

full("what is deleted while the log is being written gives its room back as well", async () => {
  const seen = await play(
    24,
    `
    const { StoreThread } = await import(${JSON.stringify(join(import.meta.dir, "../../runtime/store/sqlite-thread.ts"))});
    const { fold } = StoreThread.prototype;
    let folds = 0;
    StoreThread.prototype.fold = async function (...asked) {
      folds++;
      await Bun.sleep(100);
      return fold.apply(this, asked);
    };
    for (let i = 0; i < 60; i++) await put("k" + i, 100_000);
    const before = free();
    for (let i = 0; i < 60; i++) await remove("k" + i);
    const isGiven = await until(() => free() > before + (3 << 20));
    console.log(JSON.stringify({ isGiven, isFewFolds: folds < 20 }));
    await store.close();
  `,
  );
  expect(seen).toEqual({ isGiven: true, isFewFolds: true });
});
