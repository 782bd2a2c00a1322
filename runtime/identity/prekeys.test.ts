import { describe, expect, test } from "bun:test";
import { ManualClock } from "../kernel/clock.ts";
import { GodwitError } from "../kernel/errors.ts";
import type { Random } from "../kernel/random.ts";
import { seededRandom } from "../kernel/random.ts";
import { openMemoryStore, SimDisk } from "../store/memory.ts";
import { LIFETIME_MAX_MS } from "../wire/constants.ts";
import { openPrekeys, PREKEY_KEEP_MS, PREKEY_ROTATE_MS, PREKEY_TICK_MS, type Prekeys } from "./prekeys.ts";

const HOUR_MS = 3_600_000;

interface Life {
  readonly prekeys: Prekeys;
  readonly clock: ManualClock;
  readonly rotations: { count: number };
  stop(): Promise<void>;
}

async function boot(disk: SimDisk, random: Random, wallMs = 0, callsign?: string): Promise<Life> {
  const clock = new ManualClock(wallMs);
  const store = await openMemoryStore(disk, { clock, random, commitDelayMs: 1 });
  const rotations = { count: 0 };
  const opening = openPrekeys({ store, clock, random, callsign, onRotate: () => rotations.count++ });
  await clock.advance(2);
  const prekeys = await opening;
  return {
    prekeys,
    clock,
    rotations,
    async stop() {
      const stopping = prekeys.stop().then(() => store.close());
      await clock.advance(10);
      await stopping;
    },
  };
}

const rowsOf = (disk: SimDisk): string[] =>
  [...disk.rows("setting").keys()].filter((key) => key.startsWith("prekey/"));

describe("prekeys", () => {
  test("the first one is durable before it is known, and opens with its private half", async () => {
    const disk = new SimDisk();
    const clock = new ManualClock();
    const random = seededRandom(1);
    const store = await openMemoryStore(disk, { clock, random, commitDelayMs: 50 });
    let isOpen = false;
    const opening = openPrekeys({ store, clock, random, callsign: undefined }).then((prekeys) => {
      isOpen = true;
      return prekeys;
    });
    await clock.advance(49);
    expect(isOpen).toBe(false);
    await clock.advance(2);
    const { keyId, publicKey } = (await opening).current();
    expect(keyId).toBeGreaterThan(0);
    expect((await opening).find(keyId)?.publicKey).toEqual(publicKey);
    expect((await opening).find(0)).toBeUndefined();
    expect(rowsOf(disk).length).toBe(1);
  });

  test("a new one comes each seven days of running time, old ones open mail until their time is over", async () => {
    const disk = new SimDisk();
    const life = await boot(disk, seededRandom(2));
    const first = life.prekeys.current();
    await life.clock.advance(PREKEY_ROTATE_MS - HOUR_MS);
    expect(life.prekeys.current()).toEqual(first);
    await life.clock.advance(2 * HOUR_MS);
    const second = life.prekeys.current();
    expect(second.keyId).not.toBe(first.keyId);
    expect(life.rotations.count).toBe(2);
    await life.clock.advance(LIFETIME_MAX_MS);
    expect(life.prekeys.find(first.keyId)?.publicKey).toEqual(first.publicKey);
    await life.clock.advance(PREKEY_KEEP_MS - LIFETIME_MAX_MS + HOUR_MS);
    expect(life.prekeys.find(first.keyId)).toBeUndefined();
    expect(life.prekeys.find(second.keyId)).toBeDefined();
    expect(rowsOf(disk).some((key) => key.endsWith(first.keyId.toString(16).padStart(8, "0")))).toBe(false);
    expect(rowsOf(disk).length).toBeLessThanOrEqual(7);
    await life.stop();
  });

  test("restarts keep keys and ages, whatever the wall clock says; time off does not count", async () => {
    const disk = new SimDisk();
    const random = seededRandom(3);
    let life = await boot(disk, random);
    const first = life.prekeys.current();
    for (const wallMs of [0, 4e12, 1e12, 0, 2e12, 7]) {
      await life.clock.advance(PREKEY_ROTATE_MS / 6 - HOUR_MS / 2);
      await life.stop();
      life = await boot(disk, random, wallMs);
      expect(life.prekeys.current()).toEqual(first);
    }
    await life.clock.advance(5 * HOUR_MS);
    expect(life.prekeys.current().keyId).not.toBe(first.keyId);
    expect(life.prekeys.find(first.keyId)).toBeDefined();
    await life.stop();
  });

  test("one has one callsign for good: a start under another makes another, and the old one opens mail as what it was", async () => {
    const disk = new SimDisk();
    const random = seededRandom(8);
    const start = async (callsign?: string) => {
      const life = await boot(disk, random, 0, callsign);
      await life.stop();
      return life.prekeys;
    };
    const unnamed = (await start()).current();
    expect((await start()).current()).toEqual(unnamed);
    const london = (await start("LON-B")).current();
    expect(london.keyId).not.toBe(unnamed.keyId);
    expect((await start("LON-B")).current()).toEqual(london);
    const prekeys = await start("PAR-X");
    const paris = prekeys.current();
    expect(new Set([unnamed, london, paris].map(({ keyId }) => keyId)).size).toBe(3);
    expect([unnamed, london, paris].map(({ keyId }) => prekeys.callsignOf(keyId))).toEqual([
      undefined,
      "LON-B",
      "PAR-X",
    ]);
    expect(prekeys.find(london.keyId)?.publicKey).toEqual(london.publicKey);
    // The name that it had before is one more, because records of both times may be about.
    expect((await start("LON-B")).current().keyId).not.toBe(london.keyId);
  });

  test("one of which an earlier release kept no callsign is replaced where the node has one", async () => {
    const disk = new SimDisk();
    const meta = JSON.stringify({ secret: "11".repeat(32), current: true, left_ms: 5e8 });
    disk.apply([{ op: "put", in: "setting", key: "prekey/0000000a", meta }]);
    const unnamed = await boot(disk, seededRandom(9));
    expect(unnamed.prekeys.current().keyId).toBe(10);
    await unnamed.stop();
    const { prekeys, stop } = await boot(disk, seededRandom(9), 0, "LON-B");
    expect(prekeys.current().keyId).not.toBe(10);
    expect([prekeys.find(10) !== undefined, prekeys.callsignOf(10)]).toEqual([true, undefined]);
    await stop();
  });

  test("however often the callsign changes, the newest 64 are kept and no row of another is left", async () => {
    const disk = new SimDisk();
    const random = seededRandom(10);
    const ids: number[] = [];
    for (let n = 0; n < 100; n++) {
      const life = await boot(disk, random, 0, `LON-${String.fromCharCode(65 + (n % 26))}`);
      ids.push(life.prekeys.current().keyId);
      await life.stop();
      expect(rowsOf(disk).length).toBe(Math.min(n + 1, 64));
    }
    const rows = ids.slice(-64).map((id) => `prekey/${id.toString(16).padStart(8, "0")}`);
    expect(rowsOf(disk).toSorted()).toEqual(rows.toSorted());
  });

  test("a crash loses at most an hour of age and no key", async () => {
    const disk = new SimDisk();
    const random = seededRandom(4);
    const life = await boot(disk, random);
    const first = life.prekeys.current();
    await life.clock.advance(PREKEY_ROTATE_MS - PREKEY_TICK_MS / 2);
    disk.crash();
    const next = await boot(disk, random);
    expect(next.prekeys.current()).toEqual(first);
    await next.clock.advance(PREKEY_TICK_MS + 3 * HOUR_MS);
    expect(next.prekeys.current().keyId).not.toBe(first.keyId);
    await next.stop();
  });

  test("a full disk delays the rotation, and the unstored key never shows", async () => {
    const disk = new SimDisk();
    const random = seededRandom(5);
    const life = await boot(disk, random);
    const first = life.prekeys.current();
    disk.fail("full");
    await life.clock.advance(PREKEY_ROTATE_MS + 10 * HOUR_MS);
    expect(life.prekeys.current()).toEqual(first);
    expect(life.rotations.count).toBe(1);
    disk.fail(undefined);
    await life.clock.advance(2 * HOUR_MS);
    expect(life.prekeys.current().keyId).not.toBe(first.keyId);
    expect(life.rotations.count).toBe(2);
    await life.stop();
  });

  test("without room for the first key opening is refused", async () => {
    const disk = new SimDisk();
    disk.fail("full");
    const clock = new ManualClock();
    const random = seededRandom(6);
    const store = await openMemoryStore(disk, { clock, random, commitDelayMs: 1 });
    const opening = openPrekeys({ store, clock, random, callsign: undefined }).then(
      () => "opened",
      (error: unknown) => (error instanceof GodwitError ? error.code : String(error)),
    );
    await clock.advance(5);
    expect(await opening).toBe("GODWIT_STORE_FAILED");
  });

  test("unreadable rows are skipped, a second current key only opens, other settings stay", async () => {
    const disk = new SimDisk();
    const secret = "11".repeat(32);
    const put = (key: string, meta: string) => disk.apply([{ op: "put", in: "setting", key, meta }]);
    put("boot-epoch", "{}");
    put("prekey/0000000a", JSON.stringify({ secret, current: true, left_ms: 5e8 }));
    put("prekey/0000000b", JSON.stringify({ secret: "22".repeat(32), current: true, left_ms: 4e8 }));
    put("prekey/0000000c", JSON.stringify({ secret, current: false, left_ms: 1e300 }));
    put("prekey/00000000", JSON.stringify({ secret, current: true, left_ms: 6e8 }));
    put("prekey/0000000d", "{");
    put("prekey/0000000e", JSON.stringify({ secret: "33", current: true, left_ms: 6e8 }));
    put("prekey/xyz", "{}");
    const life = await boot(disk, seededRandom(7));
    expect(life.prekeys.current().keyId).toBe(10);
    expect(life.prekeys.find(11)).toBeDefined();
    for (const keyId of [13, 14]) expect(life.prekeys.find(keyId)).toBeUndefined();
    await life.clock.advance(PREKEY_KEEP_MS + 2 * HOUR_MS);
    for (const keyId of [10, 11, 12])
      expect([keyId, life.prekeys.find(keyId) !== undefined]).toEqual([keyId, keyId === 10]);
    expect(disk.rows("setting").has("boot-epoch")).toBe(true);
    await life.stop();
  });
});
