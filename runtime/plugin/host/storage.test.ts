import { expect, test } from "bun:test";
import { mkdtemp, rm, stat } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { storageConformance } from "@godwit/sdk/testkit";
import { ManualClock } from "../../kernel/clock.ts";
import { deriveSeed, generateIdentity } from "../../identity/keys.ts";
import { seededRandom } from "../../kernel/random.ts";
import { Scope } from "../../kernel/scope.ts";
import { openMemoryStore, SimDisk } from "../../store/memory.ts";
import type { Store } from "../../store/types.ts";
import { derivePluginSeed, openPluginFolder, openPluginStorage } from "./storage.ts";

/** The simulated store without its delays. */
async function openStore(disk = new SimDisk()): Promise<Store> {
  const clock = new ManualClock();
  const store = await openMemoryStore(disk, { clock, random: seededRandom(1), commitDelayMs: 0 });
  const commit = store.commit.bind(store);
  return Object.assign(Object.create(store) as Store, {
    load: store.load.bind(store),
    body: store.body.bind(store),
    commit: async (ops: Parameters<Store["commit"]>[0]) => {
      const done = commit(ops);
      await clock.advance(10);
      await done;
    },
  });
}

storageConformance({
  name: "of the store",
  setup: async () => ({
    storage: openPluginStorage(await openStore(), "discovery.peers", new Scope("test")),
  }),
});

test("instances do not see each other, and what they keep outlives them", async () => {
  const store = await openStore();
  const one = openPluginStorage(store, "discovery.one", new Scope("one"));
  const scope = new Scope("two");
  const two = openPluginStorage(store, "discovery.two", scope);
  await one.set("k", Uint8Array.of(1));
  expect(await two.keys()).toEqual([]);
  await two.set("k", Uint8Array.of(2));
  await scope.close();
  await expect(two.get("k")).rejects.toMatchObject({ code: "GODWIT_STOPPED" });
  const again = openPluginStorage(store, "discovery.two", new Scope("again"));
  expect(await again.get("k")).toEqual(Uint8Array.of(2));
  expect(await one.get("k")).toEqual(Uint8Array.of(1));
});

test("seeds: one for each instance and purpose, the same again, and nothing of the identity's own", () => {
  const identity = generateIdentity(seededRandom(3));
  const derive = (source: string, purpose: string) =>
    Buffer.from(derivePluginSeed((label) => deriveSeed(identity, label), source, purpose)).toString("hex");
  const all = [derive("transport.a", "x"), derive("transport.a", "y"), derive("transport.b", "x")];
  expect(new Set([...all, Buffer.from(identity.seed).toString("hex")]).size).toBe(4);
  expect(derive("transport.a", "x")).toBe(all[0]!);
  for (const bad of ["", "a\0b", "x".repeat(65)]) expect(() => derive("transport.a", bad)).toThrow("purpose");
});

test("a folder is the instance's own, and nobody else may look into it", async () => {
  const state = await mkdtemp(join(tmpdir(), "godwit-folder-"));
  try {
    const path = await openPluginFolder(state, "transport.tor");
    expect(path).toBe(join(state, "plugin-files", "transport.tor"));
    expect((await stat(path)).mode & 0o777).toBe(0o700);
    expect(await openPluginFolder(state, "transport.tor")).toBe(path);
    await expect(openPluginFolder("/dev/null", "transport.tor")).rejects.toMatchObject({
      code: "GODWIT_STATE_UNUSABLE",
    });
  } finally {
    await rm(state, { recursive: true });
  }
});
