import { describe, expect, test } from "bun:test";
import { type Departure, newDeparture } from "../../kernel/departure.ts";
import type { BundleId } from "../../kernel/ids.ts";
import { BundleKind } from "../../wire/bundle.ts";
import type { Carrier, Holding } from "../context.ts";
import { testId } from "../testing.ts";
import { hasRoom, isFull, newWindow, Windows } from "./window.ts";

const KIB = 1024;
const [near, far] = [testId("near"), testId("far")] as const;

function holding(n: number, sealedBytes = 10): Holding {
  return {
    id: n.toString(16).padStart(32, "0") as BundleId,
    header: { kind: BundleKind.message, priority: 2, source: near, destination: far, lifetimeMs: 1 },
    sealedBytes,
    role: "source",
    trace: [],
    hops: 0,
    deadlineMs: 1,
    state: "inflight",
    wakeAtMs: Number.POSITIVE_INFINITY,
    load: () => new Uint8Array(sealedBytes),
    waitReason: undefined,
  };
}

const link = {
  ...{ isReliable: true, rttMs: 100, answerMs: 0, isSlow: false, takes: true },
  handed: [] as Departure[],
};
const carrier = {
  isReliable: () => link.isReliable,
  rttMs: () => link.rttMs,
  answerMs: () => link.answerMs,
  isSlow: () => link.isSlow,
  send: (_to, _lane, _frame, departure) => {
    if (link.takes && departure !== undefined) link.handed.push(departure);
    return link.takes;
  },
} as Partial<Carrier> as Carrier;

function windows() {
  const ended: BundleId[] = [];
  return { ended, windows: new Windows(carrier, (_to, id) => ended.push(id)) };
}

describe("room", () => {
  test("512 bundles or 4 MiB, and one of any size when it is alone", () => {
    const window = newWindow();
    expect(hasRoom(window, 100 * KIB * KIB, false)).toBe(true);
    window.bytes = 4 * KIB * KIB - 1;
    expect([hasRoom(window, 1, false), hasRoom(window, 2, false)]).toEqual([true, false]);
    for (let i = 0; i < 512; i++)
      window.inflight.set(holding(i).id, {
        holding: holding(i),
        sinceMs: 0,
        sentAtMs: 0,
        departure: newDeparture(),
        isHanded: true,
        isOffer: false,
      });
    expect([hasRoom(window, 0, false), hasRoom(window, 0, true), isFull(window)]).toEqual([
      false,
      false,
      true,
    ]);
  });

  test("two offers of any size, or 32 of 256 KiB together", () => {
    const window = { ...newWindow(), offers: 1, offeredBytes: 900 * KIB };
    expect(hasRoom(window, 16 * KIB * KIB, true)).toBe(true);
    window.offers = 2;
    expect(hasRoom(window, 1, true)).toBe(false);
    window.offeredBytes = 255 * KIB;
    expect([hasRoom(window, KIB, true), hasRoom(window, 2 * KIB, true)]).toEqual([true, false]);
    window.offers = 32;
    expect(hasRoom(window, 1, true)).toBe(false);
    expect(isFull(window)).toBe(false);
  });
});

describe("what is under way", () => {
  test("is booked while it is, whole and offered apart, and an empty window is gone", () => {
    const { windows: all, ended } = windows();
    const [whole, offered] = [holding(1, 70), holding(2, 50)];
    all.launch(whole, near, false, 0);
    all.launch(offered, near, true, 0);
    expect([all.isUnderWay(near, whole.id), all.isUnderWay(far, whole.id), whole.inflightTo]).toEqual([
      true,
      false,
      near,
    ]);
    expect(all.get(near)).toMatchObject({ bytes: 70, offers: 1, offeredBytes: 50 });
    expect([all.land(far, whole.id), all.land(near, whole.id), whole.inflightTo]).toEqual([
      undefined,
      whole,
      undefined,
    ]);
    expect([all.land(near, offered.id), ended]).toEqual([offered, [offered.id]]);
    expect(all.get(near)).toBeUndefined();
  });

  test("comes back in order when the neighbour goes, with who waited for room", () => {
    const { windows: all, ended } = windows();
    const flights = [holding(1), holding(2), holding(3)];
    flights.forEach((each, i) => all.launch(each, near, i === 1, 0));
    all.open(near).waiting.add(far);
    expect(all.close(near)).toEqual({ holdings: flights, waiting: new Set([far]) });
    expect([ended, flights.map(({ inflightTo }) => inflightTo), all.get(near)]).toEqual([
      [flights[1]!.id],
      [undefined, undefined, undefined],
      undefined,
    ]);
    expect(all.close(near)).toEqual({ holdings: [], waiting: new Set() });
  });

  test("is overdue after 20 s on a reliable link, later where it is carried; chunks that flow put an offer off", () => {
    const { windows: all } = windows();
    const [whole, offered] = [holding(1), holding(2)];
    all.launch(whole, near, false, 0);
    all.launch(offered, near, true, 0);
    expect(all.takeOverdue(near, 19_999)).toEqual({ holdings: [], nextMs: 20_000 });
    expect(all.touch(near, offered.id, 15_000)).toBe(offered);
    expect(all.takeOverdue(near, 60_000)).toEqual({ holdings: [whole], nextMs: 75_000 });
    link.answerMs = 90_000;
    expect(all.takeOverdue(near, 80_000)).toEqual({ holdings: [], nextMs: 105_000 });
    link.answerMs = 0;
    expect([all.takeOverdue(near, 80_000).holdings, all.takeOverdue(near, 80_000).nextMs]).toEqual([
      [offered],
      Number.POSITIVE_INFINITY,
    ]);
  });

  test("is not said again while a copy of before, which was answered meanwhile, waits to leave", () => {
    const { windows: all } = windows();
    Object.assign(link, { isReliable: false, answerMs: 30_000 });
    const frame = new Uint8Array(1);
    const again = (nowMs: number) => {
      const each = holding(1);
      all.launch(each, near, false, nowMs);
      const isTaken = all.send(near, each, frame);
      return { each, isTaken };
    };
    expect(again(0).isTaken).toBe(true);
    all.land(near, holding(1).id);
    expect([again(1_000).isTaken, link.handed.length]).toEqual([true, 1]);
    // Its answer is waited for from when that leaves.
    expect(all.takeOverdue(near, 10_000_000).holdings).toEqual([]);
    link.handed[0]!.leftAtMs = 10_000_000;
    expect(all.takeOverdue(near, 10_020_000).holdings).toEqual([]);
    expect(all.takeOverdue(near, 10_070_000).holdings.length).toBe(1);
    expect([again(10_071_000).isTaken, link.handed.length]).toEqual([true, 2]);
    // Nor does one count that found no room, or was never handed over.
    link.handed[1]!.leftAtMs = 10_072_000;
    all.land(near, holding(1).id);
    link.takes = false;
    expect(again(10_073_000).isTaken).toBe(false);
    all.land(near, holding(1).id);
    all.launch(holding(1), near, false, 10_074_000);
    all.land(near, holding(1).id);
    link.takes = true;
    expect([again(10_075_000).isTaken, link.handed.length]).toEqual([true, 3]);
    Object.assign(link, { isReliable: true, answerMs: 0, handed: [] });
  });

  test("is overdue after four round trips on an unreliable link, a second at least, three for an offer", () => {
    const { windows: all } = windows();
    link.isReliable = false;
    expect([all.answerMs(near, false), all.answerMs(near, true)]).toEqual([1_000, 3_000]);
    link.rttMs = 2_000;
    expect([all.answerMs(near, false), all.answerMs(near, true)]).toEqual([8_000, 8_000]);
    Object.assign(link, { isReliable: true, rttMs: 100 });
  });

  test("is not overdue while it waits for airtime, nor before its answer could have come and be a round late", () => {
    const { windows: all } = windows();
    Object.assign(link, { isReliable: false, answerMs: 30_000 });
    const [sent, waiting] = [holding(1), holding(2)];
    all.launch(sent, near, false, 0);
    all.launch(waiting, near, false, 0);
    const departures = [sent, waiting].map(({ id }) => all.get(near)!.inflight.get(id)!.departure);
    expect(all.takeOverdue(near, 600_000)).toEqual({ holdings: [], nextMs: 660_000 });
    departures[0]!.leftAtMs = 610_000;
    expect(all.takeOverdue(near, 660_000)).toEqual({ holdings: [], nextMs: 670_000 });
    expect(all.takeOverdue(near, 670_000)).toEqual({ holdings: [sent], nextMs: 730_000 });
    departures[1]!.leftAtMs = Number.NEGATIVE_INFINITY; // dropped before it left
    expect(all.takeOverdue(near, 730_000).holdings).toEqual([waiting]);
    Object.assign(link, { isReliable: true, answerMs: 0 });
  });

  test("goes again ever later where answers wait at the far end, and others wait as long as its answer took", () => {
    const { windows: all } = windows();
    Object.assign(link, { isReliable: false, answerMs: 30_000 });
    const [one, other] = [holding(1), holding(2)];
    const waits: number[] = [];
    let nowMs = 0;
    for (let i = 0; i < 9; i++) {
      all.launch(one, near, false, nowMs);
      all.get(near)!.inflight.get(one.id)!.departure.leftAtMs = nowMs;
      const { nextMs } = all.takeOverdue(near, nowMs);
      waits.push((nextMs - nowMs) / 60_000);
      nowMs = nextMs;
      expect(all.takeOverdue(near, nowMs).holdings).toEqual([one]);
    }
    expect(waits).toEqual([1, 2, 4, 8, 16, 32, 60, 60, 60]);
    // Its first copy left an hour and more ago: that may be how long an answer takes.
    all.noteAnswer(near, one, nowMs);
    all.launch(other, near, false, nowMs);
    all.get(near)!.inflight.get(other.id)!.departure.leftAtMs = nowMs;
    expect(all.takeOverdue(near, nowMs).nextMs - nowMs).toBe(3_600_000);
    // Answers that come soon show that it is not so any more.
    for (let i = 0; i < 30; i++) all.noteAnswer(near, other, nowMs + 1_000);
    expect(all.takeOverdue(near, nowMs).nextMs - nowMs).toBeLessThan(62_000);
    Object.assign(link, { isReliable: true, answerMs: 0 });
  });

  test("is offered again for want of its receipt after 15 s, later where receipts wait, and after ten minutes where all is slow", () => {
    const { windows: all } = windows();
    const limits = { reofferFirstMs: 15_000, reofferCapMs: 3_600_000 };
    const pauses = (relays: readonly number[]) =>
      relays.map((n) => all.receiptMs({ ...holding(1), relays: n }, near, limits));
    expect(pauses([0, 1, 20])).toEqual([15_000, 30_000, 3_600_000]);
    Object.assign(link, { isReliable: false, answerMs: 30_000 });
    expect(pauses([0, 1, 20])).toEqual([240_000, 480_000, 3_600_000]);
    Object.assign(link, { isReliable: true, answerMs: 0, isSlow: true });
    const relayed = (relays: number) => ({
      ...holding(1),
      ...({ state: "relayed", relays, slowSinceMs: 0 } as const),
    });
    const stays = (relays: number, atMs: number) => all.staysRelayed(relayed(relays), atMs);
    expect([stays(6, 19_199_999), stays(6, 19_200_000), stays(20, 86_399_999)]).toEqual([true, false, true]);
    expect([stays(1, 599_999), stays(1, 600_000), stays(2, 1_199_999), stays(2, 1_200_000)]).toEqual([
      true,
      false,
      true,
      false,
    ]);
    // A link that stalled seemed slow, and is not any more: at the next look it goes.
    const one = relayed(1);
    expect([all.staysRelayed(one, 15_000), one.wakeAtMs]).toEqual([true, 30_000]);
    link.isSlow = false;
    expect(all.staysRelayed(one, 30_000)).toBe(false);
  });

  test("is not overdue for a minute while it arrives itself, and yields to a whole one after 10 s", () => {
    const { windows: all } = windows();
    link.isReliable = false;
    const arriving = { ...holding(1), isArriving: true };
    all.launch(holding(2), near, true, 0);
    all.launch(arriving, near, true, 2_000);
    expect(all.firstArriving(near)).toEqual({ holding: arriving, yieldsAtMs: 12_000 });
    expect(all.takeOverdue(near, 61_999).holdings.map(({ id }) => id)).toEqual([holding(2).id]);
    expect(all.takeOverdue(near, 62_000).holdings).toEqual([arriving]);
    expect(all.firstArriving(near)).toBeUndefined();
    link.isReliable = true;
  });
});
