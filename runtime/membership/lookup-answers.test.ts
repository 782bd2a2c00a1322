import { describe, expect, test } from "bun:test";
import { briefOf } from "../identity/brief.ts";
import { verifySignature } from "../identity/keys.ts";
import { decodeRecord, encodeRevocation, peekRecord, signName } from "../identity/record.ts";
import {
  PENDING_MAX,
  UNANSWERED_ALL_MAX,
  UNANSWERED_MAX,
  UNANSWERED_MS,
  WHOLE_BYTES_MAX,
} from "./lookup-answers.ts";
import { Gateway, identityOf, name, NETWORK, node, recordBy } from "./testing-lookups.ts";

const far = identityOf(1);
const other = identityOf(2);
const authority = identityOf(3);
const asker = identityOf(20).id;
const nameProof = signName(authority, { callsign: "LON-B", id: far.id, serial: 4 }, NETWORK);
const whole = recordBy(far, { callsign: "LON-B", endpoints: ["tcp://192.0.2.1:1"], nameProof });
const sentRecord = (gateway: Gateway, at = 0) => {
  const { frame } = gateway.sent[at]!;
  return frame.kind === "record" ? peekRecord(frame.record) : undefined;
};

describe("answers of a gateway", () => {
  test("to a callsign, a location and an id: the brief record of the node, as it signed it", () => {
    const gateway = new Gateway();
    gateway.known.records.offer(whole);
    for (const question of [name("LON-B"), name("LON"), node(far.id)]) gateway.asked(asker, question);
    expect(gateway.kinds).toEqual(["record", "record", "record"]);
    const brief = briefOf(decodeRecord(whole, NETWORK, verifySignature))!;
    for (const { frame, to } of gateway.sent)
      expect([to, frame]).toEqual([asker, { kind: "record", record: brief }]);
  });

  test("with the proof where it is wanted, in a frame of its own", () => {
    const gateway = new Gateway();
    gateway.known.records.offer(whole);
    gateway.asked(asker, { ...name("LON-B"), wantsProof: true });
    expect(gateway.sent[1]!.frame).toEqual({
      kind: "nameProof",
      id: far.id,
      callsign: "LON-B",
      ...nameProof,
    });
    for (const { bytes } of gateway.sent) expect(bytes).toBeLessThanOrEqual(189);
  });

  test("nothing: to names nobody has, to what is no newer, of blocked nodes, and of whom its operator alone calls so", () => {
    const gateway = new Gateway();
    gateway.known.records.offer(whole);
    gateway.known.names.configure(new Map([["PAR-A", far.id]]));
    gateway.asked(asker, name("LON-C"));
    gateway.asked(asker, { ...node(far.id), newerThan: 1 });
    gateway.asked(asker, name("PAR-A"));
    gateway.asked(asker, name("PAR"));
    gateway.blocked.add(far.id);
    gateway.asked(asker, name("LON-B"));
    expect(gateway.kinds).toEqual(["none", "none", "none", "none", "none"]);
  });

  test("two that claim a name: the one that holds it here", () => {
    const gateway = new Gateway();
    gateway.known.records.offer(whole);
    gateway.known.records.offer(recordBy(other, { callsign: "LON-B" }));
    gateway.asked(asker, name("LON-B"));
    expect(sentRecord(gateway)!.id).toBe(far.id);
  });

  test("a revoked node is answered by its revocation, where the link takes it", () => {
    const gateway = new Gateway();
    gateway.known.records.offer(whole);
    gateway.known.records.offer(encodeRevocation(far, far.id, NETWORK));
    gateway.asked(asker, node(far.id));
    gateway.asked(asker, name("LON-B"));
    expect(gateway.kinds).toEqual(["record", "none"]);
    expect(sentRecord(gateway)!.isRevoked).toBe(true);
  });

  test("an earlier release's record goes whole if that is short and the link takes it", () => {
    const gateway = new Gateway();
    const short = recordBy(far, { callsign: "LON-B", withBrief: false });
    const endpoints = Array.from({ length: 9 }, (_, i) => `tcp://192.0.2.${i}:4860/some-way`);
    gateway.known.records.offer(short);
    gateway.known.records.offer(recordBy(other, { callsign: "LON-C", withBrief: false, endpoints }));
    expect(gateway.known.records.get(other.id)!.bytes.length).toBeGreaterThan(WHOLE_BYTES_MAX);
    gateway.asked(asker, name("LON-B"));
    gateway.asked(asker, name("LON-C"));
    gateway.frameBytesMax = 150;
    gateway.asked(asker, name("LON-B"));
    expect(gateway.kinds).toEqual(["record", "none", "none"]);
    expect(sentRecord(gateway)!.bytes).toEqual(short);
  });

  test("a brief record that its node did not sign is told nobody, and verified once", () => {
    const gateway = new Gateway();
    // Signed whole, with bytes of the node's own choice where the brief one's signature stands.
    const forged = recordBy(
      {
        ...far,
        sign: (bytes) => far.sign(bytes).map((byte, i) => (isOfBrief(bytes) && i === 9 ? byte ^ 1 : byte)),
      },
      { callsign: "LON-B", endpoints: Array.from({ length: 6 }, (_, i) => `tcp://192.0.2.1:486${i}`) },
    );
    expect(gateway.known.records.offer(forged)).toBe("new");
    for (let i = 0; i < 3; i++) gateway.asked(asker, name("LON-B"));
    expect(gateway.kinds).toEqual(["none", "none", "none"]);
    expect(gateway.verified).toBe(1);
  });

  test("what comes later is told of, once, and soon", async () => {
    const gateway = new Gateway();
    gateway.asked(asker, name("LON-B"));
    gateway.asked(asker, { ...node(far.id), newerThan: 1 });
    await gateway.clock.advance(60_000);
    gateway.known.records.offer(whole);
    gateway.known.records.offer(recordBy(other, { callsign: "PAR-B" }));
    await gateway.clock.advance(2_000);
    expect(gateway.kinds).toEqual(["none", "none", "record"]);
    gateway.known.records.offer(recordBy(far, { sequence: 2, callsign: "LON-B" }));
    await gateway.clock.advance(60_000);
    expect(gateway.kinds).toEqual(["none", "none", "record", "record"]);
    expect(sentRecord(gateway, 3)!.sequence).toBe(2);
    expect(gateway.answers.unansweredCount).toBe(0);
  });

  test("what is asked on is not answered with nothing, and told of when it comes", async () => {
    const gateway = new Gateway();
    const on: (number | undefined)[] = [];
    gateway.askOn = (_, { hopsLeft }) => on.push(hopsLeft) > 0;
    gateway.asked(asker, { ...name("LON-B"), hopsLeft: 3 });
    expect([gateway.kinds, on]).toEqual([[], [3]]);
    await gateway.clock.advance(60_000);
    gateway.known.records.offer(whole);
    await gateway.clock.advance(2_000);
    expect([gateway.kinds, on]).toEqual([["record"], [3]]);
  });

  test("who went, or asked long ago, is told of nothing", async () => {
    const gateway = new Gateway();
    gateway.asked(asker, name("LON-B"));
    gateway.answers.onGone(asker);
    expect(gateway.answers.unansweredCount).toBe(0);
    gateway.asked(identityOf(21).id, name("LON-B"));
    await gateway.clock.advance(UNANSWERED_MS);
    gateway.known.records.offer(whole);
    await gateway.clock.advance(60_000);
    expect(gateway.kinds).toEqual(["none", "none"]);
  });

  test("no airtime: it waits, and goes as a whole when there is some", async () => {
    const gateway = new Gateway();
    gateway.known.records.offer(whole);
    gateway.airtime = 200;
    gateway.asked(asker, { ...name("LON-B"), wantsProof: true });
    await gateway.clock.advance(60_000);
    expect(gateway.sent).toEqual([]);
    gateway.airtime = 300;
    await gateway.clock.advance(5_000);
    expect([gateway.kinds, gateway.airtime]).toEqual([["record", "nameProof"], 300 - 158 - 108]);
  });
});

describe("hostile askers", () => {
  test("have a pace, and few answers that wait", async () => {
    const gateway = new Gateway();
    gateway.airtime = 0;
    for (let i = 0; i < 1_000; i++) gateway.asked(asker, name(`LON-${i}`));
    expect([gateway.refused("full"), gateway.refused("rate")]).toEqual([8 - PENDING_MAX, 992]);
    gateway.airtime = Number.POSITIVE_INFINITY;
    await gateway.clock.advance(3_600_000);
    expect(gateway.sent).toHaveLength(PENDING_MAX);
    for (let i = 0; i < 1_000; i++) gateway.asked(asker, name(`PAR-${i}`));
    expect(gateway.sent).toHaveLength(PENDING_MAX + 8);
  });

  test("one question again and again is one that waits", () => {
    const gateway = new Gateway();
    gateway.airtime = 0;
    for (let i = 0; i < 8; i++) gateway.asked(asker, name("LON-B"));
    expect(gateway.refused("full")).toBe(0);
  });

  test("leave few questions behind, each of them and all together", async () => {
    const gateway = new Gateway();
    for (let i = 0; i < 60; i++) {
      gateway.asked(asker, name(`LON-${i}`));
      await gateway.clock.advance(5_000);
    }
    expect([gateway.sent.length, gateway.answers.unansweredCount]).toEqual([60, UNANSWERED_MAX]);
    for (let i = 0; i < UNANSWERED_ALL_MAX; i++) gateway.asked(identityOf(1_000 + i).id, name("PAR-A"));
    expect(gateway.answers.unansweredCount).toBe(UNANSWERED_ALL_MAX);
    // Those of before yielded: the first asker's newest question is remembered again like any other.
    gateway.asked(asker, name("PAR-A"));
    gateway.known.records.offer(recordBy(far, { callsign: "PAR-A" }));
    gateway.sent.length = 0;
    await gateway.clock.advance(2_000);
    expect(gateway.sent.filter(({ to }) => to === asker)).toHaveLength(1);
    expect(gateway.sent).toHaveLength(UNANSWERED_ALL_MAX);
  });
});

/** A brief record's bytes are signed with flag bit 1. */
const isOfBrief = (signed: Uint8Array): boolean => signed["godwit node record 1\0".length + 32 + 1] === 2;
