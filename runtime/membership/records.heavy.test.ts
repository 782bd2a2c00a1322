/** A hundred thousand identities against the record book. */
import { expect, test } from "bun:test";
import { encodeRecord } from "../identity/record.ts";
import type { NodeId } from "../kernel/ids.ts";
import type { Share, Worth } from "../kernel/room.ts";
import { formatNodeId } from "../kernel/ids.ts";
import { SimDisk } from "../store/memory.ts";
import { book } from "./testing.ts";

/** Cheap: the signature is checked elsewhere, and 100,000 of them would take the time of the whole suite. */
const flood = (count: number) =>
  Array.from({ length: count }, (_, n) => {
    const bytes = encodeRecord({ id: idOf(n), sign: () => new Uint8Array(64) }, { sequence: 1 }, "net");
    return { id: idOf(n), bytes };
  });
const idOf = (n: number): NodeId => {
  const bytes = new Uint8Array(32).fill(7);
  new DataView(bytes.buffer).setUint32(0, n);
  return formatNodeId(bytes);
};

test("100,000 throw-away identities fill no record book: neighbours, whom mail is for, and newcomers find a place, over a restart too", async () => {
  const [stranger, honest]: Share[] = [
    { by: "192.0.2.1", isKnown: false },
    { by: "10.0.0.7", isKnown: false },
  ];
  const worth = new Map<NodeId, Worth>();
  const from = new Map<NodeId, Share>();
  const regard = {
    worthOf: (id: NodeId) => worth.get(id) ?? "none",
    shareOf: (teller: NodeId) => from.get(teller) ?? stranger!,
  };
  const disk = new SimDisk();
  const options = { regard, verify: () => true, recordsMax: 1_024 };
  const { records, store, clock, forgotten } = await book(options, disk);
  const people = Array.from({ length: 50 }, (_, n) => ({
    id: idOf(1_000_000 + n),
    bytes: encodeRecord({ id: idOf(1_000_000 + n), sign: () => new Uint8Array(64) }, { sequence: 1 }, "net"),
  }));
  for (const { id, bytes } of people) {
    from.set(id, honest!);
    records.offer(bytes, { teller: id });
  }
  worth.set(idOf(3), "kept");
  for (const { id, bytes } of flood(100_000)) expect(records.offer(bytes, { teller: id })).toBe("new");
  expect(records.count).toBeLessThanOrEqual(1_024);
  for (const { id } of people) expect(records.get(id)).toBeDefined();
  expect(records.get(idOf(3))).toBeDefined();
  expect(forgotten.length).toBe(100_050 - records.count);
  // Whoever comes now, from wherever, is in the book at once.
  const late = idOf(2_000_000);
  from.set(late, { by: "10.0.0.8", isKnown: false });
  const bytes = encodeRecord({ id: late, sign: () => new Uint8Array(64) }, { sequence: 1 }, "net");
  expect(records.offer(bytes, { teller: late })).toBe("new");
  const closing = store.close();
  await clock.advance(1_000);
  await closing;
  const again = (await book(options, disk)).records;
  await again.load();
  expect(again.count).toBe(Math.min(records.count, 768));
  const later = idOf(2_000_001);
  from.set(later, { by: "10.0.0.9", isKnown: false });
  expect(
    again.offer(encodeRecord({ id: later, sign: () => new Uint8Array(64) }, { sequence: 1 }, "net"), {
      teller: later,
    }),
  ).toBe("new");
});
