import { expect, test } from "bun:test";
import { storageConformance } from "@godwit/sdk/testkit";
import { ManualClock } from "../kernel/clock.ts";
import { seededRandom } from "../kernel/random.ts";
import { Scope } from "../kernel/scope.ts";
import { openMemoryStore, SimDisk } from "../store/memory.ts";
import type { Store } from "../store/types.ts";
import { openPluginStorage } from "./storage.ts";

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
  expect(two.get("k")).rejects.toMatchObject({ code: "GODWIT_STOPPED" });
  const again = openPluginStorage(store, "discovery.two", new Scope("again"));
  expect(await again.get("k")).toEqual(Uint8Array.of(2));
  expect(await one.get("k")).toEqual(Uint8Array.of(1));
});
