import { describe, expect, test } from "bun:test";
import { ManualClock } from "../kernel/clock.ts";
import { formatNodeId, type NodeId } from "../kernel/ids.ts";
import { EARLIER_RUN, type Regard } from "../kernel/room.ts";
import { Doubles } from "./doubles.ts";

const noRegard: Regard = { worthOf: () => "none", shareOf: () => EARLIER_RUN };
const A = formatNodeId(new Uint8Array(32).fill(1));

function setup() {
  const clock = new ManualClock();
  const found: NodeId[] = [];
  const doubles = new Doubles(clock, noRegard, (id) => void found.push(id));
  /** A hello, and the answer to the probe that goes out with it. */
  const link = async (bootId: string, isAnswered = true) => {
    doubles.heard(A, bootId);
    const sentAtMs = clock.monotonicMs();
    await clock.advance(20);
    if (isAnswered) doubles.answered(A, bootId, sentAtMs);
  };
  return { clock, found, doubles, link };
}

describe("a neighbour that runs twice", () => {
  test("is found when the first of two boot ids comes back and answers", async () => {
    const { found, doubles, link } = setup();
    await link("x");
    await link("y");
    expect(found).toEqual([]);
    await link("x");
    expect(found).toEqual([A]);
    expect(doubles.now).toEqual([A]);
    for (let i = 0; i < 10; i++) await link(i % 2 === 0 ? "y" : "x");
    expect(found).toEqual([A]); // told once
  });

  test("is no longer told of half an hour after one of the two is gone, and again when it is back", async () => {
    const { clock, found, doubles, link } = setup();
    for (const boot of ["x", "y", "x"]) await link(boot);
    for (let minute = 0; minute < 31; minute++) {
      await clock.advance(60_000);
      doubles.answered(A, "x", clock.monotonicMs());
    }
    expect(doubles.now).toEqual([]);
    await link("y");
    await link("x");
    expect(found).toEqual([A, A]);
  });
});

describe("no double", () => {
  test("are restarts, however many", async () => {
    const { found, link } = setup();
    for (let boot = 0; boot < 100; boot++) for (let links = 0; links < 3; links++) await link(`${boot}`);
    expect(found).toEqual([]);
  });

  test("is a hello of a process that is gone, come late over a slow way", async () => {
    const { clock, found, doubles, link } = setup();
    await link("old");
    await link("new");
    await link("old", false);
    for (let i = 0; i < 10; i++) {
      await link("new");
      doubles.answered(A, "new", clock.monotonicMs() - 10);
    }
    expect(found).toEqual([]);
  });

  test("is an answer to a probe from before the other one spoke", async () => {
    const { clock, found, doubles, link } = setup();
    await link("old");
    const sentAtMs = clock.monotonicMs();
    await clock.advance(10);
    await link("new");
    doubles.answered(A, "old", sentAtMs);
    await link("new");
    expect(found).toEqual([]);
  });

  test("is a boot id that four others came after: no more are remembered", async () => {
    const { found, link } = setup();
    for (const boot of ["x", "1", "2", "3", "4", "x"]) await link(boot);
    expect(found).toEqual([]);
    await link("4");
    expect(found).toEqual([A]);
  });
});

test("strangers that say so of themselves fill neither the list nor the log, and hide no double that was proven", async () => {
  const { clock, found, doubles, link } = setup();
  const stranger = (n: number) =>
    formatNodeId(Uint8Array.from({ length: 32 }, (_, at) => (at === 0 ? 2 : at === 1 ? n >> 8 : n & 255)));
  for (let n = 0; n < 1_000; n++) doubles.told(stranger(n));
  expect(found.length).toBe(16);
  for (const boot of ["x", "y", "x"]) await link(boot);
  expect(found.at(-1)).toBe(A);
  for (let n = 1_000; n < 2_000; n++) doubles.told(stranger(n));
  expect(doubles.now).toContain(A);
  await clock.advance(60_000);
  for (let n = 2_000; n < 3_000; n++) doubles.told(stranger(n));
  expect(found.length).toBe(18);
  // Whoever is known may say it again as often as it likes.
  doubles.told(stranger(3));
  expect(doubles.now.length).toBe(18);
});
