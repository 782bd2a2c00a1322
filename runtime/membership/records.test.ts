import { expect, test } from "bun:test";
import { encodeRecord, encodeRevocation } from "../identity/record.ts";
import { identity, book } from "./testing.ts";

const record = (sequence: number) =>
  encodeRecord(
    identity,
    { sequence, callsign: "DUN-A", location: undefined, endpoints: [], capabilities: [], prekey: undefined },
    "net",
  );

test("the newest record of a node is kept, whatever order they come in; a bad one never", async () => {
  const { records, changes } = await book();
  expect([2, 1, 2, 3].map((sequence) => records.offer(record(sequence)))).toEqual([
    "new",
    "older",
    "known",
    "new",
  ]);
  const forged = record(9);
  forged[forged.length - 1]! ^= 1;
  expect(records.offer(forged)).toBe("invalid");
  expect(changes).toEqual([2, 3]);
  expect(records.get(identity.id)!.record.sequence).toBe(3);
});

test("a revocation beats the highest sequence there is, and stays", async () => {
  const { records } = await book();
  expect(records.offer(record(2 ** 48 - 1))).toBe("new");
  expect(records.offer(encodeRevocation(identity, identity.id, "net"))).toBe("new");
  expect(records.offer(record(2 ** 48 - 1))).not.toBe("new");
  expect(records.get(identity.id)!.record.isRevoked).toBe(true);
});
