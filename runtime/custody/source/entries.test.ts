import { expect, test } from "bun:test";
import type { BundleId, MessageId, NodeId } from "../../kernel/ids.ts";
import { OutboxEntries } from "./entries.ts";
import type { OutboxEntry, Target } from "./entry.ts";

const target = (bundle: string): Target => ({
  node: "n" as NodeId,
  bundle: bundle as BundleId,
  sealedBytes: 1,
  key: null,
});
const entryOf = (id: string, ...targets: Target[]): OutboxEntry => ({
  id: id as MessageId,
  to: "LON-B",
  epoch: "0".repeat(16),
  counter: 0,
  subject: "",
  contentType: "text/plain",
  priority: 1,
  size: 1,
  createdAtMs: 0,
  lifetimeMs: 1,
  failover: false,
  failoverDelayMs: 0,
  state: "queued",
  reason: null,
  deliveredAtMs: null,
  receipt: null,
  targets,
  remainingMs: 1,
  atWallMs: 0,
});
const ownerOf = (entries: OutboxEntries, bundle: string): string | undefined =>
  entries.byBundle(bundle as BundleId)?.entry.id;

test("a bundle finds its message while the entry names it, as target or former one, and no longer", () => {
  const entries = new OutboxEntries();
  const entry = { ...entryOf("m", target("b1")), formerBundles: ["b0" as BundleId] };
  entries.add({ entry, order: 1 });
  expect(["b0", "b1", "b2"].map((bundle) => ownerOf(entries, bundle))).toEqual(["m", "m", undefined]);
  entries.dropTargets(entry);
  expect([entry.targets, entry.formerBundles, ownerOf(entries, "b1")]).toEqual([
    [],
    ["b0", "b1"] as BundleId[],
    "m",
  ]);
  // Sealed anew until the first ones are past the bound.
  for (let i = 2; i <= 33; i++) {
    entries.setTargets(entry, [target(`b${i}`)]);
    expect(ownerOf(entries, `b${i}`)).toBe("m");
    entries.dropTargets(entry);
  }
  expect(entry.formerBundles).toHaveLength(32);
  expect(["b0", "b1", "b2", "b33"].map((bundle) => ownerOf(entries, bundle))).toEqual([
    undefined,
    undefined,
    "m",
    "m",
  ]);
  entries.delete("m" as MessageId);
  expect(
    Array.from({ length: 34 }, (_, i) => ownerOf(entries, `b${i}`)).every((one) => one === undefined),
  ).toBe(true);
});

test("what was never accepted names no bundle", () => {
  const entries = new OutboxEntries();
  entries.setTargets(entryOf("m"), [target("b")]);
  expect(ownerOf(entries, "b")).toBeUndefined();
  expect(entries.size).toBe(0);
});
