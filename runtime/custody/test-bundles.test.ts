/** Tests that strangers send; whole trials are in trust/quarantine.test.ts and test/hostile. */
import { expect, test } from "bun:test";
import { ManualClock } from "../kernel/clock.ts";
import { formatMessageId, type MessageId } from "../kernel/ids.ts";
import type { Share } from "../kernel/room.ts";
import { FLOOD } from "../kernel/testing.ts";
import type { CustodyContext } from "./context.ts";
import type { Forwarder } from "./forwarding/forwarder.ts";
import { TestBundles } from "./test-bundles.ts";

const friend: Share = { by: "friend", isKnown: true };
const flood: Share = { by: FLOOD, isKnown: false };
const newcomer: Share = { by: "10.0.0.7", isKnown: false };

const id = (n: number): MessageId => {
  const bytes = new Uint8Array(16);
  new DataView(bytes.buffer).setUint32(0, n);
  return formatMessageId(bytes);
};
const open = () => {
  const clock = new ManualClock();
  return {
    clock,
    tests: new TestBundles({ clock } as Partial<CustodyContext> as CustodyContext, {} as Forwarder),
  };
};

test("100,000 tests of strangers do not make a node forget which of a friend and of another stranger it answered", () => {
  const { tests } = open();
  tests.onArrived(id(1), friend);
  tests.onArrived(id(2), newcomer);
  for (let n = 0; n < 100_000; n++) tests.onArrived(id(1_000 + n), flood);
  expect([tests.onArrived(id(1), friend).isAgain, tests.onArrived(id(2), newcomer).isAgain]).toEqual([
    true,
    true,
  ]);
  expect([id(1_000), id(100_999)].map((old) => tests.onArrived(old, flood).isAgain)).toEqual([false, true]);
});

test("whoever floods a node with tests does not keep it from answering others, whose relays would seem to lose mail", async () => {
  const { clock, tests } = open();
  let next = 0;
  let answered = 0;
  for (let second = 0; second < 10; second++) {
    for (let n = 0; n < 1_000; n++) if (tests.onArrived(id(next++), flood).mayAnswer) answered++;
    expect(tests.onArrived(id(next++), newcomer).mayAnswer).toBe(true);
    await clock.advance(1_000);
  }
  expect(answered).toBeLessThanOrEqual(50 + 10 * 10);
  // From ever new addresses strangers take all that there is for strangers.
  for (let n = 0; n < 1_000; n++) tests.onArrived(id(next++), { by: `source ${n}`, isKnown: false });
  expect(tests.onArrived(id(next++), newcomer).mayAnswer).toBe(false);
  expect(tests.onArrived(id(next++), friend).mayAnswer).toBe(true);
});
