import { expect, test } from "bun:test";
import { BundleKind } from "../../wire/bundle.ts";
import type { BundleId } from "../../kernel/ids.ts";
import type { Carrier, Holding } from "../context.ts";
import { testId } from "../testing.ts";
import { earliestAfter, noteOffered, pinned, whenPinned } from "./ways.ts";

const [a, b, c] = [testId("a"), testId("b"), testId("c")] as const;

const holding = (more: Partial<Holding> = {}): Holding => ({
  id: "0".repeat(32) as BundleId,
  header: { kind: BundleKind.message, priority: 2, source: a, destination: c, lifetimeMs: 1 },
  sealedBytes: 1,
  role: "source",
  trace: [],
  hops: 0,
  deadlineMs: 1,
  state: "ready",
  wakeAtMs: Number.POSITIVE_INFINITY,
  load: () => new Uint8Array(1),
  waitReason: undefined,
  ...more,
});

test("the eight neighbours that were given it last are remembered, each once", () => {
  const given = holding();
  const ids = Array.from({ length: 10 }, (_, i) => testId(`n${i}`));
  for (const id of ids) noteOffered(given, id);
  noteOffered(given, ids[5]!);
  expect(given.offeredTo).toEqual(ids.slice(2));
});

test("a test bundle goes over its one neighbour, when that is there and has not just refused", () => {
  const connected = new Set([b]);
  const carrier = { isConnected: (id) => connected.has(id) } as Partial<Carrier> as Carrier;
  expect(pinned(carrier, holding({ via: b }), 0)).toEqual({ kind: "forward", to: b });
  expect(pinned(carrier, holding({ via: b, refusedBy: new Map([[b, 5]]) }), 4).kind).toBe("wait");
  expect(pinned(carrier, holding({ via: b, refusedBy: new Map([[b, 5]]) }), 5).kind).toBe("forward");
  connected.clear();
  expect(pinned(carrier, holding({ via: b }), 0).kind).toBe("wait");
});

test("a test bundle steps aside for a second, mail stays where it is", () => {
  expect([whenPinned(holding({ via: b }), 7), whenPinned(holding(), 7)]).toEqual([1_007, undefined]);
});

test("the first refusal to end is the one that counts, and those that ended do not", () => {
  const refusedBy = new Map([
    [a, 5],
    [b, 9],
    [c, 7],
  ]);
  expect([earliestAfter(refusedBy, 5), earliestAfter(refusedBy, 9), earliestAfter(undefined, 0)]).toEqual([
    7,
    undefined,
    undefined,
  ]);
});
