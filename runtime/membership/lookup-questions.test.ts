import { describe, expect, test } from "bun:test";
import { briefOf } from "../identity/brief.ts";
import { verifySignature } from "../identity/keys.ts";
import { decodeRecord, encodeRevocation, signName } from "../identity/record.ts";
import type { Lookup } from "../wire/lookup-messages.ts";
import {
  ANSWER_CAP_MS,
  ANSWER_FIRST_MS,
  ASKED_AT_ONCE,
  HOPS,
  NOTHING_FIRST_MS,
  ON_EACH_MAX,
  ON_MAX,
  QUESTIONS_MAX,
  RECORD_FRESH_MS,
} from "./lookup-questions.ts";
import { Asker, identityOf, name, NETWORK, node, recordBy } from "./testing-lookups.ts";

const far = identityOf(1);
const other = identityOf(2);
const authority = identityOf(3);
const whole = recordBy(far, { callsign: "LON-B" });
const brief = (bytes = whole) => briefOf(decodeRecord(bytes, NETWORK, verifySignature))!;
const record = (bytes = brief()) => ({ kind: "record", record: bytes }) as const;
const none = (
  subject = name("LON-B").subject as ReturnType<typeof name>["subject"] | ReturnType<typeof node>["subject"],
) => ({ kind: "none", subject }) as const;

describe("without a gateway", () => {
  const [east, west] = [identityOf(903).id, identityOf(904).id];
  const alone = () => {
    const asker = new Asker();
    asker.gateways = [];
    asker.neighbours = [east, west];
    return asker;
  };
  const asks = (hopsLeft: number, text = "LON-B") => ({ ...name(text), wantsProof: false, hopsLeft });

  test("neighbours are asked, to ask on; and records that mail is sealed to are not asked for again", async () => {
    const asker = alone();
    asker.wants("LON-B");
    expect(asker.sent.map(({ to, frame }) => [to, frame.hopsLeft])).toEqual([[east, HOPS]]);
    await asker.clock.advance(160_000);
    expect(asker.sent.map(({ to }) => to)).toEqual([east, west]);
    asker.told(west, record());
    expect(asker.awaited.size).toBe(0);
    asker.questions.onWrote(far.id);
    expect(asker.sent).toHaveLength(2);
  });

  test("what a neighbour asks is asked on, to another, with one hop less, and the answer is kept", async () => {
    const asker = alone();
    expect(asker.questions.askOn(east, asks(3))).toBe(true);
    expect(asker.sent.map(({ to, frame }) => [to, frame.hopsLeft])).toEqual([[west, 2]]);
    // Said again while its answer may be under way, and later.
    expect(asker.questions.askOn(east, asks(3))).toBe(true);
    expect(asker.sent).toHaveLength(1);
    await asker.clock.advance(150_000);
    expect(asker.sent).toHaveLength(1);
    expect(asker.questions.askOn(east, asks(3))).toBe(true);
    expect(asker.sent).toHaveLength(2);
    asker.told(west, record());
    expect(asker.known.names.resolve("LON-B")).toMatchObject({ kind: "node", id: far.id });
    expect(asker.questions.openCount).toBe(0);
  });

  test("it is not asked on with no hop left, nor where there is nobody but who asks", () => {
    const asker = alone();
    expect(asker.questions.askOn(east, asks(0))).toBe(false);
    asker.neighbours = [east];
    expect(asker.questions.askOn(east, asks(3))).toBe(false);
    asker.neighbours = [];
    expect(asker.questions.askOn(east, asks(3))).toBe(false);
    expect([asker.sent, asker.questions.openCount]).toEqual([[], 0]);
  });

  test("two that ask each other ask nobody else, and the last hop asks without one", () => {
    const asker = alone();
    expect(asker.questions.askOn(east, asks(1))).toBe(true);
    expect(asker.sent.map(({ to, frame }) => [to, frame.hopsLeft])).toEqual([[west, undefined]]);
    expect(asker.questions.askOn(west, asks(1))).toBe(false);
  });

  test("what nobody asks for any more ends, and so does what was asked by who is gone", async () => {
    const asker = alone();
    asker.questions.askOn(east, asks(3));
    await asker.clock.advance(3_600_000);
    expect([asker.questions.openCount, asker.sent.length]).toEqual([0, 1]);
    asker.questions.askOn(east, asks(3));
    asker.questions.onGone(east);
    expect(asker.questions.openCount).toBe(0);
  });

  test("a neighbour's question goes to the next that can be asked when one knows nothing, about a node as about a name", async () => {
    for (const about of [name("LON-B"), node(far.id)]) {
      const asker = alone();
      const asked = { ...about, wantsProof: false, hopsLeft: 3 };
      const [leaf, knowing] = [west, identityOf(905).id];
      asker.neighbours = [leaf, east, knowing];
      asker.questions.askOn(east, asked);
      asker.told(leaf, none(about.subject));
      expect(asker.sent.map(({ to }) => to)).toEqual([leaf, knowing]);
      // All know nothing: it rests until it is said again.
      asker.told(knowing, none(about.subject));
      await asker.clock.advance(ANSWER_FIRST_MS * 2);
      expect([asker.sent.length, asker.questions.openCount]).toEqual([2, 1]);
      asker.questions.askOn(east, asked);
      asker.told(leaf, none(about.subject));
      asker.told(knowing, record());
      expect(asker.sent.map(({ to }) => to)).toEqual([leaf, knowing, leaf, knowing]);
      expect([asker.questions.openCount, asker.known.records.count]).toEqual([0, 1]);
    }
  });

  test("own mail goes on with a question of others, and counts as its own", () => {
    const asker = alone();
    asker.questions.askOn(east, asks(1));
    asker.wants("LON-B");
    expect(asker.questions.openCount).toBe(1);
    asker.told(west, record());
    expect([asker.questions.openCount, asker.awaited.size]).toEqual([0, 0]);
  });

  test("own mail asks a neighbour that once asked for the same when no other is left", () => {
    const asker = alone();
    asker.questions.askOn(east, asks(3));
    asker.wants("LON-B");
    asker.neighbours = [east];
    asker.questions.onGone(west);
    expect(asker.sent.map(({ to }) => to)).toEqual([west, east]);
    asker.told(east, record());
    expect(asker.awaited.size).toBe(0);
  });

  test("own mail asks one that asks for the same without end, when another keeps silent", async () => {
    const asker = alone();
    asker.wants("LON-B");
    for (let i = 0; i < 40; i++) {
      await asker.clock.advance(95_000);
      asker.questions.askOn(west, asks(3));
    }
    const asked = asker.sent.map(({ to }) => to);
    expect(asked.slice(0, 4)).toEqual([east, west, east, west]);
  });

  test("own mail that comes to wait for what a neighbour asked is asked for within minutes", async () => {
    const asker = alone();
    asker.questions.askOn(east, asks(1));
    await asker.clock.advance(200_000);
    asker.wants("LON-B");
    expect(asker.sent.map(({ to, frame }) => [to, frame.hopsLeft])).toEqual([
      [west, undefined],
      [east, HOPS],
    ]);
  });

  test("two whose own mail waits for the same do not hurry each other, however slow the way", async () => {
    const asked = async (delayMs: number | undefined) => {
      const both = [alone(), alone()] as const;
      const arrivals: { atMs: number; at: 0 | 1; lookup: Lookup }[] = [];
      let nowMs = 0;
      const read = [0, 0];
      for (const asker of both) asker.wants("LON-B");
      for (; nowMs < 3 * 3_600_000; nowMs += 5_000) {
        for (const from of [0, 1] as const) {
          await both[from].clock.advance(5_000);
          for (; read[from]! < both[from].sent.length; read[from]!++) {
            const { to, frame } = both[from].sent[read[from]!]!;
            if (to === west) both[from].told(west, none());
            else if (delayMs !== undefined)
              arrivals.push({ atMs: nowMs + delayMs, at: from === 0 ? 1 : 0, lookup: frame });
          }
        }
        while (arrivals.length > 0 && arrivals[0]!.atMs <= nowMs) {
          const { at, lookup } = arrivals.shift()!;
          both[at].questions.askOn(east, lookup);
        }
      }
      return both[0].sent.filter(({ to }) => to === east).length;
    };
    // East of each is the other; west knows nothing.
    expect(await asked(100_000)).toBeLessThan(2 * (await asked(undefined)));
  });

  test("however much neighbours ask, few are asked on", async () => {
    const asker = alone();
    let taken = 0;
    for (let n = 0; n < 1_000; n++) if (asker.questions.askOn(east, asks(3, `L${n}-B`))) taken++;
    expect(taken).toBe(8);
    for (let n = 0; n < 4_000; n++) {
      await asker.clock.advance(10_000);
      if (asker.questions.askOn(east, asks(3, `M${n}-B`))) taken++;
      expect(asker.questions.openCount).toBeLessThanOrEqual(ON_MAX);
    }
    expect(taken).toBeLessThanOrEqual(8 + 40_000 / 30);
  });
});

describe("what neighbours ask beside this node's own mail", () => {
  const [east, west, hub] = [identityOf(903).id, identityOf(904).id, identityOf(905).id];
  const asks = (text: string) => ({ ...name(text), wantsProof: false, hopsLeft: 3 });
  const alone = () => {
    const asker = new Asker();
    asker.gateways = [];
    asker.neighbours = [hub, east, west];
    return asker;
  };

  test("is asked on no oftener for being said again", async () => {
    const asker = alone();
    asker.neighbours = Array.from({ length: 20 }, (_, i) => identityOf(910 + i).id);
    for (let n = 0; n < 7_200 / 5; n++) {
      asker.questions.askOn(east, asks(`L${n % 18}-B`));
      await asker.clock.advance(5_000);
    }
    expect(asker.sent.length).toBeLessThanOrEqual(8 + 7_200 / 30);
    expect(asker.sent.length).toBeGreaterThan(ON_EACH_MAX);
  });

  test("takes its turn once, however often it is said again before there is airtime for it", async () => {
    const asker = alone();
    asker.hasAirtime = false;
    for (let n = 0; n < 100; n++) {
      asker.questions.askOn(east, asks("LON-A"));
      await asker.clock.advance(5_000);
    }
    for (let n = 0; n < 8; n++) expect(asker.questions.askOn(west, asks(`PAR-${n}`))).toBe(true);
    await asker.clock.advance(910_000);
    expect(asker.questions.openCount).toBe(0);
  });

  test("takes no more places of one neighbour than it is told answers for, and leaves others theirs", async () => {
    const asker = alone();
    for (let n = 0; n < 200; n++) {
      asker.questions.askOn(east, asks(`L${n % 40}-B`));
      await asker.clock.advance(5_000);
    }
    expect(asker.questions.openCount).toBe(ON_EACH_MAX);
    await asker.clock.advance(30_000);
    expect(asker.questions.askOn(west, asks("PAR-A"))).toBe(true);
    expect(asker.questions.askOn(east, asks("PAR-A"))).toBe(false);
  });

  test("is paid from the part of who asked, whoever of them has some left; own mail's is not", async () => {
    const asker = alone();
    asker.wants("LON-A");
    asker.questions.askOn(east, asks("LON-B"));
    expect(asker.payers).toEqual([undefined, east]);
    asker.spent.add(east);
    asker.questions.askOn(east, asks("LON-C"));
    asker.questions.askOn(west, asks("LON-D"));
    expect(asker.payers).toEqual([undefined, east, west]);
    asker.questions.askOn(west, asks("LON-C"));
    expect(asker.payers.slice(3)).toEqual([west]);
    expect(asker.sent.map(({ frame }) => frame.subject)).toEqual(
      ["LON-A", "LON-B", "LON-D", "LON-C"].map((text) => name(text).subject),
    );
  });

  test("holds no place of own mail's, and leaves first when there is airtime for one", async () => {
    const asker = alone();
    for (const text of ["A", "B", "C", "D"]) asker.questions.askOn(east, asks(`LON-${text}`));
    expect(asker.sent).toHaveLength(ASKED_AT_ONCE);
    asker.questions.askOn(east, asks("LON-E"));
    asker.wants("PAR-A");
    expect(asker.sent.slice(ASKED_AT_ONCE).map(({ frame }) => frame.subject)).toEqual([
      name("PAR-A").subject,
    ]);

    const poor = alone();
    poor.hasAirtime = false;
    for (const text of ["A", "B"]) poor.questions.askOn(east, asks(`LON-${text}`));
    poor.wants("PAR-A");
    poor.hasAirtime = true;
    await poor.clock.advance(10_000);
    expect(poor.sent.map(({ frame }) => frame.subject)).toEqual(
      ["PAR-A", "LON-A", "LON-B"].map((text) => name(text).subject),
    );

    // A small frame would always find some.
    poor.spent.add(undefined);
    poor.wants("PAR-B");
    poor.questions.askOn(east, asks("LON-C"));
    expect(poor.sent).toHaveLength(3);
    poor.spent.clear();
    await poor.clock.advance(10_000);
    expect(poor.sent.slice(3).map(({ frame }) => frame.subject)).toEqual([name("PAR-B").subject]);
  });
});

describe("questions of an edge node", () => {
  test("one for each address that mail waits for, to the best gateway, until that means somebody", async () => {
    const asker = new Asker();
    asker.wants("LON-B", "LON-B", far.id);
    expect(asker.sent.map(({ to, frame }) => [to, frame])).toEqual([
      [asker.gateways[0]!, { ...name("LON-B"), newerThan: undefined, wantsProof: false }],
      [asker.gateways[0]!, { ...node(far.id), newerThan: undefined, wantsProof: false }],
    ]);
    asker.told(asker.gateways[0]!, record());
    expect([asker.questions.openCount, asker.awaited.size]).toEqual([0, 0]);
    expect(asker.known.names.resolve("LON-B")).toMatchObject({ kind: "node", id: far.id });
    await asker.clock.advance(2 * ANSWER_CAP_MS);
    expect(asker.sent).toHaveLength(2);
  });

  test("a location is answered by a machine there", () => {
    const asker = new Asker();
    asker.awaited.add("LON");
    asker.questions.onAwaited("LON", asker.live);
    asker.told(asker.gateways[0]!, record());
    expect(asker.known.names.machinesAt("LON")).toEqual([far.id]);
  });

  test("a node with faster links asks nobody, and takes it up when it has slow ones alone", () => {
    const asker = new Asker();
    const gateways = asker.gateways;
    asker.gateways = [];
    asker.wants("LON-B");
    expect([asker.sent, asker.questions.openCount]).toEqual([[], 0]);
    asker.gateways = gateways;
    asker.questions.onGateways();
    expect(asker.sent).toHaveLength(1);
  });

  test("those of an earlier release are not asked", () => {
    const asker = new Asker();
    asker.silent.add(asker.gateways[0]!);
    asker.wants("LON-B");
    expect(asker.sent.map(({ to }) => to)).toEqual([asker.gateways[1]!]);
  });

  test("without an answer gateways are asked in turn, ever more seldom, and never more than once an hour", async () => {
    const asker = new Asker();
    asker.wants("LON-B");
    await asker.clock.advance(24 * ANSWER_CAP_MS);
    expect(asker.sent.slice(0, 4).map(({ to }) => to)).toEqual([...asker.gateways, ...asker.gateways]);
    const pauses = asker.sent.slice(1).map(({ atMs }, i) => atMs - asker.sent[i]!.atMs);
    for (const [tries, pause] of pauses.entries()) {
      const least = Math.min(ANSWER_CAP_MS, ANSWER_FIRST_MS * 2 ** (tries >> 1));
      expect(pause).toBeGreaterThanOrEqual(least);
      expect(pause).toBeLessThanOrEqual(least * 1.25 + 1);
    }
    expect(asker.sent.length).toBeLessThan(36);
  });

  test("nothing known sends it to the next gateway at once; then it rests, and a late answer is still taken", async () => {
    const asker = new Asker();
    asker.wants("LON-B");
    asker.told(asker.gateways[0]!, none());
    expect(asker.sent.map(({ to }) => to)).toEqual(asker.gateways);
    asker.told(asker.gateways[1]!, none());
    await asker.clock.advance(NOTHING_FIRST_MS - 1);
    expect(asker.sent).toHaveLength(2);
    await asker.clock.advance(NOTHING_FIRST_MS / 4 + 1);
    expect(asker.sent.length).toBeGreaterThan(2);
    // Of its own accord, from whom it was not asked last.
    asker.told(asker.gateways[1]!, record());
    expect(asker.awaited.size).toBe(0);
  });

  test("a gateway that goes is not waited for", () => {
    const asker = new Asker();
    asker.wants("LON-B");
    const gone = asker.gateways.shift()!;
    asker.questions.onGone(gone);
    expect(asker.sent.map(({ to }) => to)).toEqual([gone, asker.gateways[0]!]);
  });

  test("a gateway that comes and goes all the time is asked once a minute, not each time", async () => {
    const asker = new Asker();
    asker.wants("LON-B");
    for (const id of asker.gateways) asker.told(id, none());
    for (let i = 0; i < 600; i++) {
      asker.questions.onGateways();
      await asker.clock.advance(1_000);
    }
    expect(asker.sent.length).toBeGreaterThan(5);
    expect(asker.sent.length).toBeLessThan(13);
  });

  test("few at once of one gateway; the next when one is answered", () => {
    const asker = new Asker();
    asker.gateways = asker.gateways.slice(0, 1);
    const all = Array.from({ length: 10 }, (_, i) => `LON-${i}`);
    asker.wants(...all);
    expect(asker.sent).toHaveLength(ASKED_AT_ONCE);
    asker.told(asker.gateways[0]!, record(brief(recordBy(far, { callsign: "LON-2" }))));
    expect(asker.sent.map(({ frame }) => frame.subject)).toContainEqual(name("LON-4").subject);
    expect(asker.sent).toHaveLength(ASKED_AT_ONCE + 1);
  });

  test("no airtime: it is asked when there is some, and nothing is lost", async () => {
    const asker = new Asker();
    asker.hasAirtime = false;
    asker.wants("LON-B");
    await asker.clock.advance(60_000);
    expect(asker.sent).toEqual([]);
    asker.hasAirtime = true;
    await asker.clock.advance(10_000);
    expect(asker.sent).toHaveLength(1);
  });

  test("mail that ended is asked for no more", async () => {
    const asker = new Asker();
    asker.wants("LON-B");
    asker.awaited.clear();
    await asker.clock.advance(10 * ANSWER_CAP_MS);
    expect([asker.sent.length, asker.questions.openCount]).toEqual([1, 0]);
  });

  test("ever so much mail opens so many questions and no more", () => {
    const asker = new Asker();
    const all = Array.from({ length: QUESTIONS_MAX + 50 }, (_, i) => `LON-${i}`);
    for (const address of all) asker.awaited.add(address);
    asker.questions.onAwaited("LON-1", asker.live);
    asker.questions.onWrote(other.id);
    expect(asker.questions.openCount).toBe(QUESTIONS_MAX);
    // One ends: the next has its place.
    asker.told(asker.gateways[0]!, record(brief(recordBy(far, { callsign: "LON-2" }))));
    expect([asker.awaited.has("LON-2"), asker.questions.openCount]).toEqual([false, QUESTIONS_MAX]);
  });
});

describe("records that may be old", () => {
  test("are asked for with the next mail, above the sequence that is held, and not again for a week", () => {
    const asker = new Asker();
    asker.known.records.offer(whole);
    asker.questions.onWrote(far.id);
    expect(asker.sent[0]!.frame).toEqual({ ...node(far.id), newerThan: 1, wantsProof: false });
    asker.told(asker.gateways[0]!, none(node(far.id).subject));
    asker.runMs = RECORD_FRESH_MS - 1;
    asker.questions.onWrote(far.id);
    expect(asker.sent).toHaveLength(1);
    asker.runMs++;
    asker.questions.onWrote(far.id);
    expect(asker.sent).toHaveLength(2);
    asker.told(asker.gateways[0]!, record(brief(recordBy(far, { sequence: 2, callsign: "LON-B" }))));
    expect([asker.known.records.get(far.id)!.record.sequence, asker.questions.openCount]).toEqual([2, 0]);
    asker.questions.onWrote(far.id);
    expect(asker.sent).toHaveLength(2);
  });

  test("are asked for three times, for no mail waits for that", async () => {
    const asker = new Asker();
    asker.questions.onWrote(far.id);
    await asker.clock.advance(10 * ANSWER_CAP_MS);
    expect([asker.sent.length, asker.questions.openCount]).toEqual([3, 0]);
  });

  test("mail that comes to wait for one goes on with the question that is open", () => {
    const asker = new Asker();
    asker.questions.onWrote(far.id);
    asker.wants(far.id);
    expect(asker.sent).toHaveLength(1);
    asker.told(asker.gateways[0]!, none(node(far.id).subject));
    expect([asker.sent.map(({ to }) => to), asker.questions.openCount]).toEqual([asker.gateways, 1]);
  });

  test("who repeats that it knows nothing newer, or what is held already, writes nothing to the disk", () => {
    const asker = new Asker();
    asker.gateways = asker.gateways.slice(0, 1);
    asker.known.records.offer(whole);
    asker.wants(far.id);
    asker.awaited.add(far.id);
    asker.questions.onWrote(far.id);
    const confirmed = () => asker.known.records.get(far.id)!.confirmedRunMs;
    asker.told(asker.gateways[0]!, none(node(far.id).subject));
    expect(confirmed()).toBe(0);
    asker.runMs = 5_000;
    for (let i = 0; i < 10; i++) {
      asker.told(asker.gateways[0]!, none(node(far.id).subject));
      asker.told(asker.gateways[0]!, record(whole));
    }
    expect(confirmed()).toBe(0);
  });

  test("a revoked node is not asked for", () => {
    const asker = new Asker();
    asker.known.records.offer(encodeRevocation(far, far.id, NETWORK));
    asker.questions.onWrote(far.id);
    expect(asker.sent).toEqual([]);
  });
});

describe("what is not believed", () => {
  const bad = (bytes: Uint8Array, at: number) => bytes.map((byte, i) => (i === at ? byte ^ 1 : byte));
  test("answers to nothing that was asked, from whomever", () => {
    const asker = new Asker();
    const [first, second] = asker.gateways as [typeof far.id, typeof far.id];
    asker.told(first, record());
    asker.wants("LON-B");
    asker.told(first, record(brief(recordBy(other, { callsign: "LON-C" }))));
    asker.told(first, record(brief(recordBy(other))));
    asker.told(second, none());
    asker.told(first, none(name("LON-C").subject));
    expect(asker.refused("unasked")).toBe(5);
    expect([asker.known.records.count, asker.questions.openCount]).toEqual([0, 1]);
  });

  test("what does not verify is none: the next gateway is asked, and this one after a pause", () => {
    const asker = new Asker();
    asker.wants("LON-B");
    for (const forged of [bad(brief(), 150), bad(brief(), 60)])
      asker.told(asker.gateways[0]!, record(forged));
    asker.told(asker.gateways[0]!, record(new Uint8Array(80)));
    expect([asker.refused("invalid"), asker.known.records.count]).toEqual([3, 0]);
    expect(asker.sent.map(({ to }) => to)).toEqual(asker.gateways);
  });

  test("signatures of one neighbour have a pace", async () => {
    const asker = new Asker();
    asker.wants("LON-B");
    for (let i = 0; i < 100; i++) asker.told(asker.gateways[0]!, record(bad(brief(), 150)));
    expect([asker.refused("invalid"), asker.refused("rate")]).toEqual([16, 84]);
    await asker.clock.advance(1_000);
    asker.told(asker.gateways[0]!, record());
    expect(asker.awaited.size).toBe(0);
  });

  test("an old record of a node whose newer one is held", () => {
    const asker = new Asker();
    asker.known.records.offer(recordBy(far, { sequence: 5, callsign: "PAR-A" }));
    asker.wants("LON-B");
    asker.told(asker.gateways[0]!, record());
    expect(asker.known.names.resolve("LON-B").kind).toBe("unknown");
    expect(asker.known.names.resolve("PAR-A").kind).toBe("node");
    expect([asker.questions.openCount, asker.sent.length]).toEqual([1, 2]);
  });

  test("a second claimant of a pinned name changes nothing", () => {
    const asker = new Asker();
    asker.known.records.offer(whole);
    asker.wants(other.id);
    asker.told(asker.gateways[0]!, record(brief(recordBy(other, { callsign: "LON-B" }))));
    expect(asker.known.names.resolve("LON-B")).toMatchObject({ kind: "node", id: far.id });
  });
});

describe("with a name authority", () => {
  const proofOf = (who = far, callsign = "LON-B", by = authority) => {
    const proof = signName(by, { callsign, id: who.id, serial: 4 }, NETWORK);
    return { kind: "nameProof", id: who.id, callsign, ...proof } as const;
  };

  test("the proof is asked for, and counts with the record in whatever order they come", () => {
    for (const order of [
      [record(), proofOf()],
      [proofOf(), record()],
    ]) {
      const asker = new Asker(authority.id);
      asker.wants("LON-B");
      expect(asker.sent[0]!.frame.wantsProof).toBe(true);
      asker.told(asker.gateways[0]!, order[0]!);
      expect(asker.awaited.size).toBe(1);
      asker.told(asker.gateways[0]!, order[1]!);
      expect(asker.known.names.resolve("LON-B")).toMatchObject({ id: far.id, source: "authority" });
      expect([asker.awaited.size, asker.questions.openCount]).toEqual([0, 0]);
    }
  });

  test("of a lost proof the question goes on", async () => {
    const asker = new Asker(authority.id);
    asker.wants("LON-B");
    asker.told(asker.gateways[0]!, record());
    await asker.clock.advance(2 * ANSWER_FIRST_MS);
    expect(asker.sent.length).toBeGreaterThan(1);
    asker.told(asker.gateways[1]!, record());
    asker.told(asker.gateways[1]!, proofOf());
    expect(asker.awaited.size).toBe(0);
  });

  test("by another key, of another name, for another node, or unasked: it binds nothing", () => {
    const asker = new Asker(authority.id);
    asker.told(asker.gateways[0]!, proofOf());
    asker.wants("LON-B");
    asker.told(asker.gateways[0]!, record());
    asker.told(asker.gateways[0]!, proofOf(far, "LON-B", other));
    asker.told(asker.gateways[0]!, { ...proofOf(), serial: 5 });
    asker.told(asker.gateways[0]!, proofOf(far, "LON-C"));
    asker.told(asker.gateways[0]!, proofOf(other));
    expect(asker.known.names.resolve("LON-B").kind).toBe("unknown");
    expect([asker.refused("unasked"), asker.refused("invalid")]).toEqual([2, 2]);
  });

  test("without one, proofs are not taken", () => {
    const asker = new Asker();
    asker.wants("LON-B");
    asker.told(asker.gateways[0]!, proofOf());
    expect([asker.refused("unasked"), asker.known.names.resolve("LON-B").kind]).toEqual([1, "unknown"]);
  });
});
