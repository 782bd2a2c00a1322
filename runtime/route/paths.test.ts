/** Paths on demand: who is asked, what counts as an answer, how long, and what hostile neighbours get. */
import { describe, expect, test } from "bun:test";
import type { NodeId } from "../kernel/ids.ts";
import {
  decodePathAnswer,
  decodePathQuestion,
  encodePathAnswer,
  encodePathGone,
  encodePathQuestion,
  PATH_LIFE_UNIT_MS,
  type PathAnswer,
} from "../wire/path-messages.ts";
import { encodeBeacon, seqnoSigningBytes, UNREACHABLE } from "../wire/route-messages.ts";
import {
  PATH_FRAME_WAIT_MS,
  PATH_FRAMES_MAX,
  PATH_HEARD_BURST,
  PATH_HOPS,
  PATH_LIFE_MS,
  PATH_ON_BURST,
  PATH_OWN_BURST,
  PATH_QUESTIONS_MAX,
} from "./limits.ts";
import type { LinkCost } from "./neighbour.ts";
import { A, B, C, D, E, fast, idOf, noHash, offer, Rig, S, sign } from "./testing-router.ts";

const HOUR_MS = 3_600_000;
const slow: LinkCost = {
  cost: 20_000,
  mtu: 200,
  bottleneck: 2,
  profile: "slow",
  takeAirtime: () => true,
  knowsPaths: true,
};
const quick: LinkCost = { ...fast, knowsPaths: true };
const PATH_KINDS = [3, 4, 5];

function framesTo(rig: Rig, id: NodeId, kind: number) {
  return rig.sent
    .filter(({ to, frame }) => to === id && frame[0] === 0x10 && frame[1] === kind)
    .map(({ frame }) => frame);
}
const questionsTo = (rig: Rig, id: NodeId) => framesTo(rig, id, 3).map(decodePathQuestion);
const answersTo = (rig: Rig, id: NodeId) => framesTo(rig, id, 4).map(decodePathAnswer);
const goneTo = (rig: Rig, id: NodeId) => framesTo(rig, id, 5).length;
const pathFrames = (rig: Rig) =>
  rig.sent.filter(({ frame }) => frame[0] === 0x10 && PATH_KINDS.includes(frame[1]!)).length;

/** A slow neighbour that has said its beacon. */
function hear(rig: Rig, id: NodeId, link: LinkCost = slow): void {
  rig.meet(id, link);
  rig.router.handleFrame(id, encodeBeacon({ seqno: 5, hasProof: true, gatewayMetric: undefined }));
  rig.run(5_000);
}

const proofOf = (id: NodeId, seqno: number) => ({
  seqno,
  recordHash: noHash,
  signature: sign(id, seqnoSigningBytes("test", id, seqno, noHash)),
});
const answerFor = (number: number, more: Partial<PathAnswer> = {}): Uint8Array =>
  encodePathAnswer({
    number,
    lifeMs: PATH_LIFE_MS,
    destination: D,
    route: { seqno: 100, metric: 50, mtu: 200, bottleneck: 0 },
    proof: proofOf(more.destination ?? D, more.route?.seqno ?? 100),
    ...more,
  });
const askFor = (destination: NodeId, more: Partial<ReturnType<typeof decodePathQuestion>> = {}) =>
  encodePathQuestion({
    number: 7,
    hopsLeft: 8,
    destination,
    needsSeqno: undefined,
    holdsSeqno: undefined,
    ...more,
  });

/** Mail waits for D, and its question has gone to A. */
function asking(rig = new Rig(S)) {
  rig.isWaiting = () => true;
  hear(rig, A);
  rig.router.wantPath(D, false);
  rig.run(30_000);
  const { number } = questionsTo(rig, A).at(-1)!;
  return { rig, number };
}

describe("whoever has mail", () => {
  test("asks its slow neighbours, and goes by the answer until its life is over", () => {
    const { rig, number } = asking();
    expect(questionsTo(rig, A)).toMatchObject([
      { destination: D, needsSeqno: undefined, holdsSeqno: undefined },
    ]);
    rig.run(1_000);
    rig.router.handleFrame(A, answerFor(number));
    expect(rig.router.nextHops(D, "any")).toMatchObject([{ neighbour: A, metric: 20_050, isDefault: false }]);
    expect(rig.router.nextHops(D, "bulk")).toEqual([]);
    rig.run(PATH_LIFE_MS - HOUR_MS);
    expect(rig.router.reachable(D)).toBe(true);
    rig.run(HOUR_MS);
    expect(rig.router.reachable(D)).toBe(false);
    // Nobody used it.
    expect(questionsTo(rig, A).length).toBe(1);
  });

  test("asks once more before the end where mail goes by it, without a proof that it holds", () => {
    const { rig, number } = asking();
    rig.router.handleFrame(A, answerFor(number));
    rig.run(HOUR_MS);
    rig.router.usePath(D, A);
    expect(questionsTo(rig, A).length).toBe(1);
    rig.run(3 * HOUR_MS);
    for (let i = 0; i < 10; i++) rig.router.usePath(D, A);
    rig.run(10_000);
    const [, again] = questionsTo(rig, A);
    expect(questionsTo(rig, A).length).toBe(2);
    expect(again).toMatchObject({ holdsSeqno: 100 });
    rig.router.handleFrame(A, answerFor(again!.number, { proof: undefined }));
    rig.run(3 * HOUR_MS);
    expect(rig.router.reachable(D)).toBe(true);
  });

  test("asks again ever less often while mail waits, and not at all when none does", () => {
    const { rig } = asking();
    rig.run(24 * HOUR_MS);
    const asked = questionsTo(rig, A);
    expect(asked.length).toBeGreaterThan(20);
    expect(asked.length).toBeLessThan(45);
    // Said again it is the same question, for as long as its answer may be under way.
    expect(asked[1]!.number).toBe(asked[0]!.number);
    expect(asked.at(-1)!.number).not.toBe(asked[0]!.number);
    rig.isWaiting = () => false;
    rig.run(2 * HOUR_MS);
    const after = questionsTo(rig, A).length;
    rig.run(24 * HOUR_MS);
    expect(questionsTo(rig, A).length).toBe(after);
  });

  test("waits where it is heard on a channel: a link comes first", () => {
    const rig = new Rig(S);
    rig.isWaiting = () => true;
    hear(rig, A);
    rig.router.wantPath(D, true);
    rig.run(500_000);
    expect(questionsTo(rig, A)).toEqual([]);
    rig.run(HOUR_MS);
    expect(questionsTo(rig, A).length).toBeGreaterThan(0);
  });

  test("asks when the first slow neighbour comes, and of fast ones only those that lead to slow links", () => {
    const rig = new Rig(S);
    rig.isWaiting = () => true;
    rig.meet(B, quick);
    rig.meet(C, quick);
    rig.tell(C, [offer(E, 10)]);
    rig.router.wantPath(D, false);
    rig.run(HOUR_MS);
    expect(pathFrames(rig)).toBe(0);
    const behind = { ...offer(A, 30), bulk: UNREACHABLE };
    rig.tell(B, [{ ...behind, any: { ...behind.any, bottleneck: 2 } }]);
    rig.run(60_000);
    expect([questionsTo(rig, B).length, questionsTo(rig, C).length]).toEqual([1, 0]);
  });

  test("sends no question to an end that does not know them", () => {
    const rig = new Rig(S);
    rig.isWaiting = () => true;
    hear(rig, A, { ...slow, knowsPaths: false });
    rig.router.wantPath(D, false);
    rig.run(HOUR_MS);
    rig.router.handleFrame(A, askFor(D));
    rig.run(HOUR_MS);
    expect(pathFrames(rig)).toBe(0);
  });
});

describe("whoever is asked", () => {
  test("answers out of the table, for whom the asker is not on the way", () => {
    const rig = new Rig(A);
    rig.meet(B, quick);
    rig.tell(B, [offer(D, 40)]);
    hear(rig, S);
    rig.router.handleFrame(S, askFor(D));
    rig.run(10_000);
    expect(answersTo(rig, S)).toMatchObject([
      { number: 7, lifeMs: PATH_LIFE_MS, destination: D, route: { seqno: 100, metric: 50, bottleneck: 0 } },
    ]);
    expect(answersTo(rig, S)[0]!.proof?.seqno).toBe(100);
    expect(rig.router.feasibility(D, "any")).toEqual({ seqno: 100, metric: 50 });
  });

  test("for itself signs its number, and raises it where a newer one is needed", () => {
    const rig = new Rig(D);
    hear(rig, S);
    const before = rig.router.seqno;
    rig.router.handleFrame(S, askFor(D, { needsSeqno: before + 1, holdsSeqno: before }));
    rig.run(10_000);
    expect(answersTo(rig, S)).toMatchObject([{ route: { seqno: before + 1, metric: 0 } }]);
    expect(answersTo(rig, S)[0]!.proof?.seqno).toBe(before + 1);
  });

  test("asks on, once for all, and answers all when it knows: never better than it is told", () => {
    const rig = new Rig(A);
    hear(rig, S);
    hear(rig, B);
    hear(rig, C);
    rig.router.handleFrame(S, askFor(D));
    rig.router.handleFrame(C, askFor(D, { number: 9 }));
    rig.run(20_000);
    expect(questionsTo(rig, B)).toMatchObject([{ destination: D, hopsLeft: 7 }]);
    expect(questionsTo(rig, S)).toEqual([]);
    rig.router.handleFrame(B, answerFor(questionsTo(rig, B)[0]!.number));
    rig.run(20_000);
    for (const [id, number] of [
      [S, 7],
      [C, 9],
    ] as const)
      expect(answersTo(rig, id)).toMatchObject([
        { number, route: { seqno: 100, metric: 20_050, bottleneck: 2 } },
      ]);
    expect(rig.router.feasibility(D, "any")).toEqual({ seqno: 100, metric: 20_050 });
  });

  test("asks a neighbour itself of whom it has no proof, and nobody else", () => {
    const rig = new Rig(A);
    hear(rig, S);
    hear(rig, B);
    hear(rig, D);
    rig.router.handleFrame(S, askFor(D));
    rig.run(20_000);
    expect([questionsTo(rig, D).length, questionsTo(rig, B).length]).toEqual([1, 0]);
    const route = { seqno: 100, metric: 0, mtu: 200, bottleneck: 0 } as const;
    rig.router.handleFrame(D, answerFor(questionsTo(rig, D)[0]!.number, { route }));
    rig.run(20_000);
    expect(answersTo(rig, S)).toMatchObject([{ route: { seqno: 100, metric: 20_000 } }]);
  });

  test("does not answer with less than the number that is needed, nor ask on without hops", () => {
    const rig = new Rig(A);
    rig.meet(B, quick);
    rig.tell(B, [offer(D, 40)]);
    hear(rig, S);
    hear(rig, C);
    rig.router.handleFrame(S, askFor(D, { needsSeqno: 101 }));
    rig.router.handleFrame(S, askFor(E, { hopsLeft: 1 }));
    rig.run(60_000);
    expect([answersTo(rig, S), questionsTo(rig, C)]).toEqual([[], []]);
  });

  test("tells who went by it that it is gone, and not who did not ask", () => {
    const rig = new Rig(A);
    rig.meet(B, quick);
    rig.tell(B, [offer(D, 40)]);
    hear(rig, S);
    hear(rig, C);
    rig.router.handleFrame(S, askFor(D));
    rig.run(10_000);
    rig.router.neighbourDown(B);
    rig.run(60_000);
    expect([goneTo(rig, S), goneTo(rig, C)]).toEqual([1, 0]);
  });

  test("keeps its distance for longer than the answer lives, and then forgets it", () => {
    const rig = new Rig(A);
    rig.meet(B, quick);
    rig.tell(B, [offer(D, 40)]);
    hear(rig, S);
    rig.router.handleFrame(S, askFor(D));
    rig.run(10_000);
    rig.router.neighbourDown(B);
    rig.run(PATH_LIFE_MS + HOUR_MS);
    expect(rig.router.feasibility(D, "any")).toEqual({ seqno: 100, metric: 50 });
    rig.run(PATH_LIFE_MS);
    expect(rig.router.feasibility(D, "any")).toBeUndefined();
  });
});

describe("what ends a path", () => {
  test("its giver's word, its silence on the channel, and the end of the link", () => {
    for (const end of [
      (rig: Rig) => rig.router.handleFrame(A, encodePathGone(D)),
      (rig: Rig) => rig.router.setThere(A, false),
      (rig: Rig) => rig.router.neighbourDown(A),
    ]) {
      const { rig, number } = asking();
      rig.router.handleFrame(A, answerFor(number));
      expect(rig.router.reachable(D)).toBe(true);
      end(rig);
      expect(rig.router.reachable(D)).toBe(false);
    }
  });

  test("a neighbour's own route is none of these", () => {
    const { rig } = asking();
    rig.router.handleFrame(A, encodePathGone(A));
    expect(rig.router.reachable(A)).toBe(true);
  });

  test("a life counts from when it was asked for first, however late the answer is", () => {
    const { rig, number } = asking();
    rig.run(10 * 60_000);
    rig.router.handleFrame(A, answerFor(number, { lifeMs: 5 * PATH_LIFE_UNIT_MS }));
    expect(rig.router.reachable(D)).toBe(false);
  });
});

describe("hostile", () => {
  test("an answer that was not asked for, or again, or by another number, changes nothing", () => {
    const { rig, number } = asking();
    rig.router.handleFrame(A, answerFor((number + 1) % 2 ** 16));
    rig.router.handleFrame(A, answerFor(number, { destination: E }));
    expect([rig.router.reachable(D), rig.router.reachable(E)]).toEqual([false, false]);
    hear(rig, B);
    rig.router.handleFrame(B, answerFor(number));
    expect(rig.router.reachable(D)).toBe(false);
    rig.router.handleFrame(A, answerFor(number));
    rig.router.handleFrame(A, encodePathGone(D));
    rig.router.handleFrame(A, answerFor(number));
    expect(rig.router.reachable(D)).toBe(false);
  });

  test("no number is raised and nothing attracted without the originator's proof", () => {
    const route = { seqno: 100, metric: 0, mtu: 200, bottleneck: 0 } as const;
    for (const forged of [
      { route, proof: undefined },
      { route, proof: { ...proofOf(D, 100), signature: new Uint8Array(64) } },
      { route, proof: proofOf(D, 99) },
      { route, proof: proofOf(E, 100) },
    ]) {
      const { rig, number } = asking();
      rig.router.handleFrame(A, answerFor(number, forged));
      expect(rig.router.reachable(D)).toBe(false);
    }
  });

  test("its own id is answered by nobody", () => {
    const { rig } = asking();
    const before = rig.router.seqno;
    rig.router.handleFrame(A, answerFor(1, { destination: S }));
    expect(rig.router.seqno).toBe(before);
  });

  test("what is infeasible is no way: a newer number is asked for, once", () => {
    const rig = new Rig(S);
    rig.meet(B, quick);
    rig.tell(B, [offer(D, 40)]);
    hear(rig, C);
    rig.router.handleFrame(C, askFor(D));
    rig.run(10_000);
    rig.router.neighbourDown(B);
    const { number } = asking(rig);
    rig.router.handleFrame(
      A,
      answerFor(number, { route: { seqno: 100, metric: 60, mtu: 200, bottleneck: 0 } }),
    );
    expect(rig.router.reachable(D)).toBe(false);
    rig.run(20_000);
    expect(questionsTo(rig, A).at(-1)).toMatchObject({ needsSeqno: 101 });
    const count = questionsTo(rig, A).length;
    const again = questionsTo(rig, A).at(-1)!.number;
    rig.router.handleFrame(
      A,
      answerFor(again, { route: { seqno: 100, metric: 60, mtu: 200, bottleneck: 0 } }),
    );
    rig.run(20_000);
    expect(questionsTo(rig, A).length).toBe(count);
    expect(rig.sent.some(({ to, frame }) => to === A && frame[0] === 0x12)).toBe(false);
  });

  test("a flood of questions costs what the pace lets through, and no memory beyond the places", () => {
    const rig = new Rig(A);
    hear(rig, S);
    hear(rig, B);
    const from = pathFrames(rig);
    for (let n = 100; n < 5_000; n++) rig.router.handleFrame(S, askFor(idOf(n)));
    rig.run(60_000);
    expect(questionsTo(rig, B).length).toBeLessThanOrEqual(PATH_HEARD_BURST);
    expect(pathFrames(rig) - from).toBeLessThanOrEqual(PATH_HEARD_BURST);
    // A day of it.
    for (let n = 5_000; n < 5_000 + 24 * 60; n++) {
      rig.router.handleFrame(S, askFor(idOf(n)));
      rig.run(60_000);
    }
    expect(questionsTo(rig, B).length).toBeLessThanOrEqual(PATH_ON_BURST + 24 * 120);
    expect(rig.router.tableSize).toBe(3);
  });

  test("a question that nobody can answer stands before nobody's, however often it is asked", () => {
    for (const bad of [{ needsSeqno: 2 ** 48 - 1 }, { hopsLeft: 2 }]) {
      const rig = new Rig(A);
      for (const id of [S, B, C]) hear(rig, id);
      for (let minute = 0; minute < 60; minute += 2) {
        const from = questionsTo(rig, C).length;
        rig.router.handleFrame(S, askFor(D, bad));
        rig.run(20_000);
        rig.router.handleFrame(B, askFor(D));
        rig.run(100_000);
        expect(questionsTo(rig, C).slice(from)).toContainEqual(
          expect.objectContaining({ needsSeqno: undefined, hopsLeft: 7 }),
        );
      }
    }
  });

  test("a question goes no further than an own one would, whatever it says", () => {
    const rig = new Rig(A);
    for (const id of [S, B]) hear(rig, id);
    rig.router.handleFrame(S, askFor(D, { hopsLeft: 255 }));
    rig.run(20_000);
    expect(questionsTo(rig, B).map(({ hopsLeft }) => hopsLeft)).toEqual([PATH_HOPS - 1]);
  });

  test("others' questions that wait for airtime stand before no own one, and in the place of none", () => {
    let has = false;
    const rig = new Rig(A);
    rig.isWaiting = () => true;
    for (const id of [S, B]) hear(rig, id);
    hear(rig, C, { ...slow, takeAirtime: () => has });
    const ask = (minutes: number) => {
      for (let n = 100; n < 100 + 2 * minutes; n++) {
        rig.router.handleFrame(n % 2 === 0 ? S : B, askFor(n % 5 === 0 ? D : idOf(n), { needsSeqno: 900 }));
        rig.run(30_000);
      }
    };
    ask(10);
    rig.router.wantPath(D, false);
    rig.run(20_000);
    has = true;
    rig.run(5_000);
    expect(questionsTo(rig, C)[0]).toMatchObject({ destination: D, needsSeqno: undefined });
    expect(questionsTo(rig, C).length).toBeGreaterThan(1);
  });

  test("many neighbours together have one pace, and own mail its own beside it", () => {
    const rig = new Rig(S);
    rig.isWaiting = () => true;
    hear(rig, A);
    for (let n = 1_000; n < 1_050; n++) hear(rig, idOf(n));
    const from = questionsTo(rig, A).length;
    for (let n = 1_000; n < 1_050; n++) rig.router.handleFrame(idOf(n), askFor(idOf(n + 1_000)));
    const all = () => rig.sent.filter(({ frame }) => frame[0] === 0x10 && frame[1] === 3).length;
    rig.run(5_000);
    // Each of three.
    expect(all()).toBeLessThanOrEqual(3 * (PATH_ON_BURST + 10));
    rig.router.wantPath(D, false);
    rig.run(30_000);
    expect(
      rig.sent.some(
        ({ frame }) => frame[0] === 0x10 && frame[1] === 3 && decodePathQuestion(frame).destination === D,
      ),
    ).toBe(true);
    expect(from).toBe(0);
  });

  test("mail for nodes that are not there is asked for at a pace, and others' questions give way to it", () => {
    const rig = new Rig(S);
    rig.isWaiting = () => true;
    hear(rig, A);
    for (let n = 100; n < 100 + 4 * PATH_QUESTIONS_MAX; n++) rig.router.wantPath(idOf(n), false);
    rig.run(HOUR_MS);
    expect(questionsTo(rig, A).length).toBeGreaterThan(PATH_OWN_BURST);
    expect(questionsTo(rig, A).length).toBeLessThanOrEqual(PATH_OWN_BURST + 60);
  });

  test("without airtime nothing leaves, and what waits for it is bounded and old no more than its time", () => {
    let has = false;
    const rig = new Rig(A);
    hear(rig, S, { ...slow, takeAirtime: () => has });
    rig.meet(B, quick);
    for (let n = 100; n < 300; n++) rig.tell(B, [offer(idOf(n), 40)]);
    for (let n = 100; n < 300; n++) {
      rig.router.handleFrame(S, askFor(idOf(n)));
      rig.run(1_000);
    }
    expect(pathFrames(rig)).toBe(0);
    has = true;
    rig.run(10_000);
    expect(answersTo(rig, S).length).toBeGreaterThan(0);
    expect(answersTo(rig, S).length).toBeLessThanOrEqual(PATH_FRAMES_MAX);
    has = false;
    const before = answersTo(rig, S).length;
    // Its pace.
    rig.run(60_000);
    rig.router.handleFrame(S, askFor(idOf(299), { number: 8 }));
    rig.run(2 * PATH_FRAME_WAIT_MS);
    has = true;
    rig.run(60_000);
    expect(answersTo(rig, S).length).toBe(before);
  });
});
