/** Refusals in a flood of keys. */
import { describe, expect, test } from "bun:test";
import { ManualClock } from "../kernel/clock.ts";
import { PEERS_KEPT, PEERS_MAX } from "./peers.ts";
import { type FakeSession, sessionPair } from "./testing.ts";
import { id, Node } from "./testing-peers.ts";

describe("refusals", () => {
  test("a newcomer of another address finds a place although 100,000 keys of one hold all that strangers may have", async () => {
    const clock = new ManualClock();
    const a = new Node(clock, 1);
    const open: FakeSession[] = [];
    const adopt = (node: number, host: string) => {
      const [, end] = sessionPair(clock, id(node), a.id, { from: host });
      a.peers.adopt(end);
      open.push(end);
      return !end.isClosed;
    };
    for (let i = 2; i < 2 + PEERS_MAX; i++) adopt(i, "tcp://192.0.2.1:1");
    for (let i = 0; i < 20; i++) expect(adopt(200_000 + i, `tcp://10.0.0.${i}:1`)).toBe(true);
    for (let i = 2_000; i < 100_000; i++) if (adopt(i, "tcp://192.0.2.1:1")) throw new Error(`${i} got in`);
    expect(open.filter((session) => !session.isClosed).length).toBe(PEERS_MAX - PEERS_KEPT);
    expect(open.slice(0, 900).some((session) => session.isClosed)).toBe(false);
    await a.scope.close();
  });
});
