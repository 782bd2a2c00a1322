/** What a plugin outside of the node's thread keeps: the real key space in a real store here, its calls there. */
import { expect, test } from "bun:test";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { STORAGE_LIMITS } from "@godwit/sdk";
import { deriveSeed, generateIdentity } from "../../identity/keys.ts";
import { systemClock } from "../../kernel/clock.ts";
import { seededRandom, systemRandom } from "../../kernel/random.ts";
import { Scope } from "../../kernel/scope.ts";
import { openMemoryStore, SimDisk } from "../../store/memory.ts";
import { FrameBed } from "../frames/testing.ts";
import { derivePluginSeed, openPluginFolder, openPluginStorage } from "../host/storage.ts";
import type { RemoteParts } from "./parts.ts";
import { addStorageCalls } from "./storage.ts";

const store = await openMemoryStore(new SimDisk(), {
  clock: systemClock,
  random: systemRandom,
  commitDelayMs: 0,
});
const identity = generateIdentity(seededRandom(1));

function rig(source: string, stateDir = "") {
  const bed = new FrameBed(true);
  const ctx = {
    storage: openPluginStorage(store, source, new Scope(source)),
    deriveSeed: async (purpose: string) =>
      derivePluginSeed((label) => deriveSeed(identity, label), source, purpose),
    folder: () => openPluginFolder(stateDir, source),
  };
  addStorageCalls({ ...bed.node, ctx } as unknown as RemoteParts);
  const { calls } = bed.plugin;
  return {
    set: (key: string, bytes: Uint8Array) => calls.ask("storage.set", { key }, () => {}, { bytes }),
    get: (key: string) =>
      calls.ask("storage.get", { key }, (isThere, bytes) => (isThere === true ? bytes.slice() : undefined)),
    remove: (key: string) => calls.ask("storage.delete", { key }, () => {}),
    keys: () => calls.ask("storage.keys", {}, (value) => value),
    seed: (purpose: string) =>
      calls.ask("seed", { purpose }, (_, bytes) => Buffer.from(bytes).toString("hex")),
    folder: () => calls.ask("folder", {}, (value) => value as string),
  };
}

test("what a plugin never kept is not there, which is not the same as empty", async () => {
  const { get, set, remove, keys } = rig("transport.one");
  expect(await get("a")).toBeUndefined();
  await set("a", new Uint8Array(0));
  expect(await get("a")).toEqual(new Uint8Array(0));
  await set("a", Uint8Array.of(1, 2));
  expect([await get("a"), await keys()]).toEqual([Uint8Array.of(1, 2), ["a"]]);
  await remove("a");
  expect([await get("a"), await keys()]).toEqual([undefined, []]);
});

test("a plugin whose name begins like another's does not see what that one keeps", async () => {
  const [lan, lan2] = [rig("transport.lan"), rig("transport.lan2")];
  await lan2.set("key", Uint8Array.of(2));
  // As an older life of it would find them: it reads what the store holds.
  const again = rig("transport.lan");
  expect(await again.keys()).toEqual([]);
  expect(await lan.get("key")).toBeUndefined();
  expect(await rig("transport.lan2").get("key")).toEqual(Uint8Array.of(2));
});

test("calls side by side cannot pass the bounds together, and what is refused is not kept", async () => {
  const { set, keys } = rig("transport.greedy");
  const third = new Uint8Array(Math.ceil(STORAGE_LIMITS.bytes / 3));
  const outcomes = await Promise.all(
    ["a", "b", "c", "d", "e"].map((key) =>
      set(key, third).then(
        () => "kept",
        (error: { code?: string }) => error.code,
      ),
    ),
  );
  expect(outcomes.toSorted()).toEqual(["GODWIT_TOO_BIG", "GODWIT_TOO_BIG", "GODWIT_TOO_BIG", "kept", "kept"]);
  expect(await rig("transport.greedy").keys()).toEqual(await keys());
  expect(((await keys()) as string[]).length).toBe(2);
});

test("a seed is of the plugin and the purpose, and a purpose of another form derives nothing", async () => {
  const { seed } = rig("transport.one");
  const seeds = [await seed("key"), await seed("kez"), await rig("transport.two").seed("key")];
  expect(new Set(seeds).size).toBe(3);
  expect(seeds.every((one) => one.length === 64)).toBe(true);
  for (const purpose of ["", "a\0b", "x".repeat(65)])
    expect(await seed(purpose).catch((error: unknown) => error)).toMatchObject({
      code: expect.stringMatching(/^GODWIT_(ENCODE|DECODE)$/),
    });
});

test("a folder is the plugin's own, and nobody else's to look into", async () => {
  const dir = await mkdtemp(join(tmpdir(), "godwit-folder-"));
  try {
    const path = await rig("transport.one", dir).folder();
    expect(path).toBe(join(dir, "plugin-files", "transport.one"));
    expect((await Bun.file(path).stat()).mode & 0o777).toBe(0o700);
  } finally {
    await rm(dir, { recursive: true, force: true });
  }
});
