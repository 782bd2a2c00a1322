import { expect, test } from "bun:test";
import { ManualClock } from "@godwit/sdk/testkit";
import { RadioAirtime } from "./airtime.ts";
import { type Outcome, Outbox } from "./outbox.ts";

/** A radio that took one packet, beside which so many others wait in its queue; each question is answered. */
function taken(others: number) {
  const clock = new ManualClock();
  const state = { waiting: others + 1, outcome: undefined as Outcome | undefined };
  const status = (meshPacketId: number) =>
    outbox.onStatus({ res: 0, free: 16 - state.waiting, maxlen: 16, meshPacketId });
  const outbox: Outbox = new Outbox({
    ...{ clock, airtime: new RadioAirtime(clock), hourMaxMs: () => 1e9, write: () => true },
    ...{ ask: () => status(0), stuck() {}, refused() {} },
  });
  outbox.ready();
  const sending = { id: 7, rank: 0, airtimeMs: 900, message: new Uint8Array(1), expiresAtMs: 1e9 };
  outbox.offer({ ...sending, done: (outcome) => (state.outcome = outcome) });
  status(7);
  return { clock, state };
}

test("while nothing leaves the radio's queue a packet in it has not left, for two minutes", async () => {
  const { clock, state } = taken(3);
  await clock.advance(115_000);
  expect(state.outcome).toBeUndefined();
  await clock.advance(10_000);
  expect(state.outcome).toBe("left");
});

test("where the queue is never empty a packet counts as gone after twenty questions, once something has left", async () => {
  const { clock, state } = taken(3);
  await clock.advance(5_000);
  state.waiting--;
  await clock.advance(10_000);
  expect(state.outcome).toBeUndefined();
  await clock.advance(10_000);
  expect(state.outcome).toBe("left");
});

test("a packet has left as soon as the queue is empty", async () => {
  const { clock, state } = taken(0);
  await clock.advance(2_000);
  expect(state.outcome).toBeUndefined();
  state.waiting = 0;
  await clock.advance(2_000);
  expect(state.outcome).toBe("left");
});
