/** Questions for names at the edge of a whole mesh: which links, which neighbours, and what mail sets them off. */
import { expect, test } from "bun:test";
import { briefOf } from "../../identity/brief.ts";
import { generateIdentity, type Identity, verifySignature } from "../../identity/keys.ts";
import { decodeRecord, encodeRecord, MAIL_SESSIONS } from "../../identity/record.ts";
import { ManualClock } from "../../kernel/clock.ts";
import { seededRandom } from "../../kernel/random.ts";
import { FrameType } from "../../wire/constants.ts";
import {
  decodeLookup,
  decodeLookupReply,
  encodeLookup,
  encodeLookupReply,
} from "../../wire/lookup-messages.ts";
import { encodeBeacon } from "../../wire/route-messages.ts";
import { Mesh } from "../mesh.ts";
import { depsFor, neighbour, settled } from "../testing.ts";

const far = generateIdentity(seededRandom(91));
const recordOf = (who: Identity, withBrief = true, callsign = "FAR-A", sequence = 1): Uint8Array => {
  const prekey = { keyId: 5, publicKey: who.dh.publicKey };
  const fields = { sequence, callsign, capabilities: [MAIL_SESSIONS], prekey, withBrief };
  return encodeRecord(who, fields, "test");
};
const gatewayBeacon = encodeBeacon({ seqno: 1, hasProof: true, gatewayMetric: 10 });
const named = { subject: { kind: "name", name: "FAR-A" }, newerThan: undefined, wantsProof: false } as const;

async function opened(linkClass: "fast" | "slow") {
  const clock = new ManualClock();
  const made = await depsFor(clock, 1);
  const mesh = await settled(clock, Mesh.open(made.deps));
  mesh.start();
  const gateway = generateIdentity(made.random);
  const session = neighbour(clock, mesh, made.identity.id, gateway, linkClass);
  const framesOf = (type: number) => session.sent.filter((frame) => frame[0] === type);
  return { clock, mesh, gateway, session, framesOf, metrics: made.metrics };
}
const mail = { to: "FAR-A", body: new Uint8Array(3) };

test("mail to a name that nobody has been heard of by sets off a question, and its answer lets it go", async () => {
  const { clock, mesh, session, framesOf } = await opened("slow");
  await settled(clock, mesh.custody.send(mail));
  expect(framesOf(FrameType.lookup)).toEqual([]);
  session.receive(gatewayBeacon);
  await clock.advance(100);
  expect(framesOf(FrameType.lookup).map(decodeLookup)).toEqual([named]);
  const brief = briefOf(decodeRecord(recordOf(far), "test", verifySignature))!;
  session.receive(encodeLookupReply({ kind: "record", record: brief }));
  await clock.advance(1_000);
  const mailed = [FrameType.bundle, FrameType.compactMessage].flatMap(framesOf);
  expect([mailed.length, mesh.lookups.openCount]).toEqual([1, 0]);
  expect(mesh.names.resolve("FAR-A")).toMatchObject({ kind: "node", id: far.id });
  await settled(clock, mesh.stop());
});

test("a gateway of an earlier release is not asked", async () => {
  const { clock, mesh, gateway, session, framesOf } = await opened("slow");
  mesh.records.offer(recordOf(gateway, false, "GTE-A"));
  session.receive(gatewayBeacon);
  await settled(clock, mesh.custody.send(mail));
  await clock.advance(3_600_000);
  expect(framesOf(FrameType.lookup)).toEqual([]);
  // As soon as it is known to run a later one it is.
  mesh.records.offer(recordOf(gateway, true, "GTE-A", 2));
  await clock.advance(3_600_000);
  expect(framesOf(FrameType.lookup).length).toBeGreaterThan(0);
  await settled(clock, mesh.stop());
});

test("questions over a slow link are answered, and over a fast one neither questions nor answers are looked at", async () => {
  for (const linkClass of ["slow", "fast"] as const) {
    const { clock, mesh, session, framesOf, metrics } = await opened(linkClass);
    mesh.records.offer(recordOf(far));
    session.receive(encodeLookup(named));
    session.receive(
      encodeLookupReply({ kind: "record", record: recordOf(generateIdentity(seededRandom(92))) }),
    );
    await clock.advance(1_000);
    const replies = framesOf(FrameType.lookupReply).map(decodeLookupReply);
    expect(replies.map((reply) => reply?.kind)).toEqual(linkClass === "slow" ? ["record"] : []);
    const refused = /^godwit_lookups_refused_total.*reason="(\w+)".* (\d+)$/m.exec(await metrics.render());
    expect(refused?.slice(1)).toEqual(linkClass === "slow" ? ["unasked", "1"] : ["fast", "2"]);
    expect(session.isClosed).toBe(false);
    expect(mesh.names.resolve("FAR-A")).toMatchObject({ id: far.id });
    await settled(clock, mesh.stop());
  }
});

test("what a neighbour asks is asked on from its own part of the airtime", async () => {
  const clock = new ManualClock();
  const made = await depsFor(clock, 1);
  const mesh = await settled(clock, Mesh.open(made.deps));
  mesh.start();
  const [asking, asked] = [generateIdentity(made.random), generateIdentity(made.random)];
  const paid: unknown[][] = [];
  const take = mesh.router.takeAirtime.bind(mesh.router);
  mesh.router.takeAirtime = (to, bytes, ...how) => (paid.push([to, ...how]), take(to, bytes, ...how));
  const sessions = [asking, asked].map((who) => {
    const session = neighbour(clock, mesh, made.identity.id, who, "slow");
    Object.assign(session, { version: 2 });
    session.receive(encodeBeacon({ seqno: 1, hasProof: true, gatewayMetric: undefined }));
    return session;
  });
  await clock.advance(100);
  sessions[0]!.receive(encodeLookup({ ...named, hopsLeft: 3 }));
  await clock.advance(10_000);
  expect(sessions[1]!.sent.filter((frame) => frame[0] === FrameType.lookup)).toHaveLength(1);
  expect(paid).toEqual([[asked.id, "answer", asking.id]]);
  await settled(clock, mesh.custody.send(mail));
  await clock.advance(200_000);
  expect(paid.slice(1)).toContainEqual([asking.id, "control", undefined]);
  await settled(clock, mesh.stop());
});

test("a malformed question closes the link, as any malformed frame does", async () => {
  const { clock, mesh, session } = await opened("slow");
  session.receive(new Uint8Array([FrameType.lookup, 1, 3, 0x61, 0x62, 0x63]));
  await clock.advance(1_000);
  expect(session.isClosed).toBe(true);
  await settled(clock, mesh.stop());
});

test("a brief record of a neighbour does not forget where it was met", async () => {
  const { clock, mesh, gateway, session } = await opened("slow");
  const whole = encodeRecord(gateway, { sequence: 1, endpoints: ["tcp://192.0.2.7:1"] }, "test");
  mesh.records.offer(whole);
  session.close();
  await clock.advance(1_000);
  const known = () => mesh.book.nodes.find(({ id }) => id === gateway.id)!.endpoints;
  expect(known()).toEqual(["tcp://192.0.2.7:1"]);
  const next = encodeRecord(gateway, { sequence: 2, withBrief: true }, "test");
  mesh.records.offer(briefOf(decodeRecord(next, "test", verifySignature))!);
  neighbour(clock, mesh, idOfSelf(mesh), gateway, "slow").close();
  await clock.advance(1_000);
  expect(known()).toEqual(["tcp://192.0.2.7:1"]);
  await settled(clock, mesh.stop());
});

const idOfSelf = (mesh: Mesh) => decodeRecord(mesh.ownRecord.bytes, "test", verifySignature).id;
