import { expect, test } from "bun:test";
import { briefOf } from "../identity/brief.ts";
import { generateIdentity, verifySignature } from "../identity/keys.ts";
import { decodeRecord, encodeRecord, encodeRevocation } from "../identity/record.ts";
import { ManualClock } from "../kernel/clock.ts";
import { seededRandom } from "../kernel/random.ts";
import { openMemoryStore, SimDisk } from "../store/memory.ts";
import { noRegard } from "../trust/testing.ts";
import { RecordBook } from "./records.ts";
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

test("when somebody who was asked last said that it is the newest is kept over a restart, and goes with a newer one", async () => {
  const disk = new SimDisk();
  const opened = async () => {
    const clock = new ManualClock();
    const store = await openMemoryStore(disk, { clock, random: seededRandom(1), commitDelayMs: 0 });
    const records = new RecordBook({
      ...{ self: identity.id, store, network: "net", authority: undefined, verify: verifySignature },
      ...{ regard: noRegard, changed() {}, forgot() {} },
    });
    const loading = records.load();
    await clock.advance(10);
    await loading;
    const close = async () => {
      await clock.advance(10);
      const closing = store.close();
      await clock.advance(10);
      await closing;
    };
    return { records, close };
  };
  const [first, second] = [generateIdentity(seededRandom(5)), generateIdentity(seededRandom(6))];
  const { records, close } = await opened();
  const of = (who: typeof first, sequence: number) => encodeRecord(who, { sequence }, "net");
  records.offer(of(first, 1), { confirmedRunMs: 77.5 });
  records.offer(of(second, 1));
  records.confirm(second.id, 99);
  records.confirm(identity.id, 99);
  await close();
  const again = await opened();
  const confirmed = () => [first, second].map(({ id }) => again.records.get(id)!.confirmedRunMs);
  expect([confirmed(), again.records.count]).toEqual([[77, 99], 2]);
  again.records.offer(of(first, 2));
  expect(confirmed()).toEqual([undefined, 99]);
  // What is kept for good says nothing of that.
  again.records.offer(encodeRevocation(second, second.id, "net"));
  again.records.confirm(second.id, 100);
  expect(again.records.get(second.id)!.confirmedRunMs).toBeUndefined();
});

test("a whole record takes the place of the brief one, on the disk as well", async () => {
  const { records, changes } = await book();
  const whole = encodeRecord(identity, { sequence: 4, endpoints: ["tcp://a:1"], withBrief: true }, "net");
  const brief = briefOf(decodeRecord(whole, "net", verifySignature))!;
  expect([brief, whole, brief].map((bytes) => records.offer(bytes))).toEqual(["new", "new", "known"]);
  expect([changes, records.get(identity.id)!.record.endpoints]).toEqual([[4, 4], ["tcp://a:1"]]);
});
