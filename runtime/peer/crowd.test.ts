import { expect, test } from "bun:test";
import { ManualClock } from "../kernel/clock.ts";
import { doorId } from "../kernel/testing.ts";
import type { NodeId } from "../kernel/ids.ts";
import { Crowd } from "./crowd.ts";
import { sessionPair } from "./testing.ts";

const self = doorId(0);

function setup() {
  const clock = new ManualClock();
  const known = new Set<NodeId>();
  const crowd = new Crowd((id) => !known.has(id));
  const session = (n: number, host: string) =>
    sessionPair(clock, doorId(n), self, { from: `tcp://${host}:1` })[1];
  const enter = (n: number, host: string) => {
    const made = session(n, host);
    crowd.enter(made, made);
    return made;
  };
  return { known, crowd, session, enter };
}

test("the newest of the source with most gives way, and none to one of the same source", () => {
  const { crowd, session, enter } = setup();
  enter(1, "10.0.0.7");
  const flood = [2, 3, 4].map((n) => enter(n, "192.0.2.1"));
  expect(crowd.yielding(session(5, "10.0.0.8"))).toBe(flood[2]);
  expect(crowd.yielding(session(5, "10.0.0.7"))).toBe(flood[2]);
  expect(crowd.yielding(session(5, "192.0.2.1"))).toBeUndefined();
  crowd.leave(flood[2]!);
  expect(crowd.yielding(session(5, "10.0.0.8"))).toBe(flood[1]);
  expect(crowd.yielding(session(5, "10.0.0.7"))).toBeUndefined();
});

test("who became known meanwhile, and whom this node dialled, is never named", () => {
  const { known, crowd, session, enter } = setup();
  const flood = [1, 2, 3, 4].map((n) => enter(n, "192.0.2.1"));
  known.add(doorId(4));
  const [dialled] = sessionPair(new ManualClock(), self, doorId(5), { to: "tcp://192.0.2.1:1" });
  crowd.enter(dialled, dialled);
  expect(crowd.yielding(session(9, "10.0.0.8"))).toBe(flood[2]);
  for (const id of [1, 2, 3]) known.add(doorId(id));
  expect(crowd.yielding(session(9, "10.0.0.8"))).toBeUndefined();
});

test("100,000 callers of as many sources that come and go leave nothing behind", () => {
  const { crowd, session, enter } = setup();
  for (let n = 0; n < 100_000; n++) {
    const made = enter(n % 64, `10.${n >> 16}.${(n >> 8) & 255}.${n & 255}`);
    crowd.leave(made);
    crowd.leave(made);
  }
  expect([crowd.size, crowd.yielding(session(9, "10.0.0.8"))]).toEqual([0, undefined]);
});
