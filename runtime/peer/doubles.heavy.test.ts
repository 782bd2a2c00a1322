/** Two lives of a neighbour in a flood of free identities. */
import { describe, expect, test } from "bun:test";
import { ManualClock } from "../kernel/clock.ts";
import { type NodeId } from "../kernel/ids.ts";
import { doorId, DoorRegard } from "../kernel/testing.ts";
import { Doubles } from "./doubles.ts";

describe("in a flood of free identities", () => {
  function setupFlood() {
    const clock = new ManualClock();
    const regard = new DoorRegard();
    const found: NodeId[] = [];
    const doubles = new Doubles(clock, regard, (id) => void found.push(id));
    const runTwice = async (id: NodeId) => {
      for (const bootId of ["x", "y", "x"]) {
        doubles.heard(id, bootId);
        const sentAtMs = clock.monotonicMs();
        await clock.advance(20);
        doubles.answered(id, bootId, sentAtMs);
      }
    };
    return { clock, regard, found, doubles, runTwice };
  }
  const [neighbour, newcomer, friend] = [1, 2, 3].map(doorId) as [NodeId, NodeId, NodeId];

  test("what was heard of a neighbour, and of a newcomer of another address, is not forgotten between its two lives", async () => {
    const { clock, regard, found, doubles } = setupFlood();
    regard.linked.add(neighbour);
    regard.sources.set(newcomer, "10.0.0.7");
    const live = async (bootId: string) => {
      for (const id of [neighbour, newcomer]) doubles.heard(id, bootId);
      const sentAtMs = clock.monotonicMs();
      await clock.advance(20);
      for (const id of [neighbour, newcomer]) doubles.answered(id, bootId, sentAtMs);
    };
    await live("x");
    await live("y");
    for (let n = 0; n < 100_000; n++) doubles.heard(doorId(1_000 + n), "x");
    await live("x");
    expect(found).toEqual([neighbour, newcomer]);
  });

  test("a friend that runs twice is found although strangers that do so spend all that is noted of them", async () => {
    const { regard, found, runTwice } = setupFlood();
    regard.known.add(friend);
    for (let n = 0; n < 200; n++) await runTwice(doorId(1_000 + n));
    expect(found.length).toBeLessThan(100);
    await runTwice(friend);
    expect(found.at(-1)).toBe(friend);
  });
});
