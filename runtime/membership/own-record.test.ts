import { expect, test } from "bun:test";
import { peekRecord } from "../identity/record.ts";
import { ManualClock } from "../kernel/clock.ts";
import { silentLog } from "../kernel/log.ts";
import { OwnRecord, RETRY_MS } from "./own-record.ts";
import { identity } from "./testing.ts";

function rig() {
  const clock = new ManualClock();
  const published: number[] = [];
  const errors: string[] = [];
  const state = { isFull: false, sequence: 0 };
  const record = new OwnRecord({
    ...{ identity, network: "net", callsign: "DUN-A", location: undefined, tags: [], clock },
    ...{ nameProof: undefined, signal: new AbortController().signal },
    log: { ...silentLog, error: (event: string) => void errors.push(event) },
    nextSequence: () =>
      state.isFull ? Promise.reject(new Error("the disk is full")) : Promise.resolve(++state.sequence),
    prekey: () => ({ keyId: 1, publicKey: new Uint8Array(32).fill(9) }),
    published: (bytes) => void published.push(peekRecord(bytes).sequence),
  });
  return { clock, record, state, published, errors };
}

test("changes that come close together make one record", async () => {
  const { clock, record, published } = rig();
  record.setEndpoints(["tcp://a:1"]);
  record.changed();
  await clock.advance(1_000);
  record.changed();
  await clock.advance(1_000);
  expect(published).toEqual([1, 2]);
});

test("one that a full disk kept from being made is made when there is room, and told of once meanwhile", async () => {
  const { clock, record, state, published, errors } = rig();
  state.isFull = true;
  record.changed();
  await clock.advance(10 * RETRY_MS);
  expect([published, errors]).toEqual([[], ["own record not published"]]);
  state.isFull = false;
  await clock.advance(RETRY_MS);
  expect(published).toEqual([1]);
  await clock.advance(10 * RETRY_MS);
  expect(published).toEqual([1]);
});
