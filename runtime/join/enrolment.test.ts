import { describe, expect, test } from "bun:test";
import type { GodwitError, Medium } from "@godwit/sdk";
import { inviteKey, signRedemption } from "../identity/invite.ts";
import { encodeRecord } from "../identity/record.ts";
import { generateIdentity, verifySignature } from "../identity/keys.ts";
import { parseToken } from "../identity/token.ts";
import { Airtime } from "../kernel/airtime.ts";
import { ManualClock } from "../kernel/clock.ts";
import { silentLog } from "../kernel/log.ts";
import { Metrics } from "../kernel/metrics.ts";
import { seededRandom } from "../kernel/random.ts";
import type { Session, SessionHandlers } from "../link/types.ts";
import { enrol } from "./enrol.ts";
import type { Peer } from "../peer/peer.ts";
import { RecordBook } from "../membership/records.ts";
import { Hub } from "../kernel/hub.ts";
import {
  Enrolment,
  ENROLMENTS_MAX,
  type EnrolmentDeps,
  type EnrolmentEvents,
  type LiveSecret,
} from "./enrolment.ts";
import { doorId } from "../kernel/testing.ts";
import { REDEMPTIONS_MAX } from "./redemptions.ts";
import { emptyStore } from "../store/testing.ts";
import type { Store } from "../store/types.ts";
import { FrameType } from "../wire/constants.ts";
import { decodeEnrolRefuse, encodeEnrolRequest, EnrolRefusal } from "../wire/join-messages.ts";
import { testTime } from "../time/testing.ts";
import { noRegard } from "../trust/testing.ts";

const random = seededRandom(11);
const WALL_MS = 1_800_000_000_000;
const HOUR_MS = 3_600_000;
const SECRET = new TextEncoder().encode("correct horse battery staple");
const [signature, NEXT] = [new Uint8Array(64).fill(7), new Uint8Array(32).fill(8)];
const configured = { secret: SECRET, generation: 0, retiresInMs: undefined, signature: undefined };

function member(
  clock: ManualClock,
  secrets: readonly LiveSecret[] = [configured],
  changes: Partial<EnrolmentDeps> = {},
) {
  const identity = generateIdentity(random);
  const records = new RecordBook({
    self: identity.id,
    regard: noRegard,
    forgot() {},
    store: emptyStore,
    network: "telex",
    authority: undefined,
    verify: verifySignature,
    changed() {},
  });
  records.offer(encodeRecord(identity, { sequence: 1, endpoints: ["tcp://192.0.2.1:4860"] }, "telex"));
  const joined: string[] = [];
  const hub = new Hub<EnrolmentEvents>((_, error) => {
    throw error;
  });
  hub.on("joined", ({ id }) => joined.push(id));
  const enrolment = new Enrolment({
    regard: noRegard,
    fullTables: { refused() {} },
    identity,
    network: "telex",
    clock,
    time: testTime(clock).time,
    random,
    log: silentLog,
    metrics: new Metrics(),
    store: emptyStore,
    verify: verifySignature,
    signal: new AbortController().signal,
    records,
    secrets: () => secrets,
    airtime: () => new Airtime(clock),
    connected: () => [],
    tell: () => false,
    isReachable: () => false,
    mayPassOn: () => true,
    ...changes,
    events: hub,
  });
  return { enrolment, identity, joined, records };
}

const inviteIn = (token: string) => parseToken(token).membership!.invite;

describe("when an invitation expires", () => {
  test("others judge by their wall clock, with two minutes of slack", async () => {
    const inviter = member(new ManualClock(WALL_MS));
    const invite = inviteIn(inviter.enrolment.issue({ ttlMs: HOUR_MS, uses: 1 }).token);
    const judgeAt = (wallMs: number) => member(new ManualClock(wallMs)).enrolment.judge(invite);
    expect(judgeAt(WALL_MS)).toBe("valid");
    expect(judgeAt(WALL_MS + HOUR_MS + 119_000)).toBe("valid");
    expect(judgeAt(WALL_MS + HOUR_MS + 122_000)).toBe("expired");
    expect(judgeAt(0)).toBe("unsure");
  });

  test("the inviter judges by the time that has passed, whatever its clock says or jumps to", async () => {
    const clock = new ManualClock(0);
    const { enrolment } = member(clock);
    const issued = enrolment.issue({ ttlMs: HOUR_MS, uses: 1 });
    expect(issued.isOwnOnly).toBe(true);
    expect(enrolment.judge(inviteIn(issued.token))).toBe("valid");
    clock.wallOffsetMs = WALL_MS;
    await clock.advance(HOUR_MS - 1);
    expect(enrolment.judge(inviteIn(issued.token))).toBe("valid");
    await clock.advance(2);
    expect(enrolment.judge(inviteIn(issued.token))).toBe("expired");
  });
});

describe("an invitation, on a machine whose clock is wrong", () => {
  /** A member over restarts, on one disk. */
  function machine() {
    const clock = new ManualClock(WALL_MS);
    const rows = new Map<string, string>();
    const disk: Store = {
      ...emptyStore,
      load: async () => [...rows].map(([key, meta]) => ({ key, meta, bodyBytes: 0 })),
      async commit(ops) {
        for (const op of ops)
          if (op.op === "put") rows.set(op.key, op.meta);
          else rows.delete(op.key);
      },
    };
    let lived = testTime(clock);
    const start = async (wallOffsetMs: number) => {
      await lived.time.save(true);
      clock.wallOffsetMs = wallOffsetMs;
      lived = testTime(clock, lived.kept);
      const { enrolment } = member(clock, undefined, { store: disk, time: lived.time });
      await enrolment.load();
      return enrolment;
    };
    return { clock, start };
  }
  const issueAt = (enrolment: Enrolment) => inviteIn(enrolment.issue({ ttlMs: HOUR_MS, uses: 1 }).token);

  test("of its own ends after its time of running although the clock was set back over a restart", async () => {
    const { clock, start } = machine();
    const invite = issueAt(await start(WALL_MS));
    const again = await start(WALL_MS - 365 * 24 * HOUR_MS);
    expect(again.judge(invite)).toBe("valid");
    await clock.advance(HOUR_MS);
    expect(again.judge(invite)).toBe("expired");
    expect((await start(WALL_MS - 365 * 24 * HOUR_MS)).judge(invite)).toBe("expired");
  });

  test("of its own ends with the wall clock as well: time off counts against it", async () => {
    const { start } = machine();
    const invite = issueAt(await start(WALL_MS));
    expect((await start(WALL_MS + 2 * HOUR_MS)).judge(invite)).toBe("expired");
    expect((await start(WALL_MS)).judge(invite)).toBe("valid");
  });

  test("of another member is not judged by a clock that went back or decades ahead", async () => {
    const { clock, start } = machine();
    const invite = issueAt(member(new ManualClock(WALL_MS)).enrolment);
    expect((await start(WALL_MS)).judge(invite)).toBe("valid");
    expect((await start(WALL_MS - 24 * HOUR_MS)).judge(invite)).toBe("unsure");
    expect((await start(WALL_MS + 365 * 24 * HOUR_MS)).judge(invite)).toBe("unsure");
    const running = await start(WALL_MS);
    clock.wallOffsetMs = WALL_MS - 24 * HOUR_MS;
    expect(running.judge(invite)).toBe("unsure");
  });

  test("that was dated by a clock ahead opens nothing for decades", () => {
    const invite = issueAt(member(new ManualClock(WALL_MS + 40 * 365 * 24 * HOUR_MS)).enrolment);
    expect(member(new ManualClock(WALL_MS)).enrolment.judge(invite)).toBe("unsure");
  });
});

test("a token carries of others what the inviter would dial on their word, and all of its own", () => {
  const asked: string[] = [];
  const mayPassOn = (_id: string, endpoint: string) => asked.push(endpoint) > 0 && !endpoint.includes("127.");
  const inviter = member(new ManualClock(WALL_MS), [configured], { mayPassOn });
  const endpoints = ["tcp://127.0.0.1:22", "tcp://192.0.2.2:4860"];
  inviter.records.offer(encodeRecord(generateIdentity(random), { sequence: 1, endpoints }, "telex"));
  const { token } = inviter.enrolment.issue({ ttlMs: HOUR_MS, uses: 1 });
  expect(parseToken(token).addresses.map(({ endpoint }) => endpoint)).toEqual([
    "tcp://192.0.2.1:4860",
    "tcp://192.0.2.2:4860",
  ]);
  expect(asked).toEqual(endpoints);
});

test("an open mesh's token holds nothing secret", () => {
  const { enrolment } = member(new ManualClock(WALL_MS), []);
  const { token, invite } = enrolment.issue({ ttlMs: HOUR_MS, uses: 1 });
  expect([invite, parseToken(token).membership]).toEqual([undefined, undefined]);
});

/** Two ends of a session under an invitation. */
function sessions(of: Session["invite"], remote: Session["remote"], isReliable = true) {
  const ends: { handlers?: SessionHandlers; sent: number }[] = [{ sent: 0 }, { sent: 0 }];
  const lost = { count: 0 };
  let isClosed = false;
  const end = (mine: number): Session => ({
    remote,
    invite: mine === 0 ? of : undefined,
    direction: mine === 0 ? "inbound" : "outbound",
    remoteEndpoint: "mem://x",
    localEndpoint: "mem://y",
    version: 1,
    linkClass: "fast",
    rateBitsPerSecond: 1e9,
    isReliable,
    frameBytesMax: 61_440,
    bufferedBytes: 0,
    bytesSent: 0,
    bytesReceived: 0,
    open: (handlers) => void (ends[mine]!.handlers = handlers),
    send(frame) {
      ends[mine]!.sent++;
      if (lost.count > 0) lost.count--;
      else queueMicrotask(() => isClosed || ends[1 - mine]!.handlers?.frame(frame));
      return true;
    },
    flush() {},
    pause() {},
    close() {
      if (isClosed) return;
      isClosed = true;
      for (const { handlers } of ends) queueMicrotask(() => handlers?.closed());
    },
  });
  return { atMember: end(0), atNewcomer: end(1), ends, lost };
}

const codeOf = (error: GodwitError) => error.code;

test("one newcomer gets the secrets, a second with the same token is told that it was used, the first may come again", async () => {
  const clock = new ManualClock(WALL_MS);
  const { enrolment, identity, joined } = member(clock);
  const invite = inviteIn(enrolment.issue({ ttlMs: HOUR_MS, uses: 1 }).token);
  const [first, second] = [generateIdentity(random).id, generateIdentity(random).id];
  const come = (id: typeof first) => {
    const { atMember, atNewcomer } = sessions(invite, id);
    enrolment.serve(atMember);
    return enrol(atNewcomer, "DUN-B", clock, new Airtime(clock)).then(
      ({ secrets, records }) => ({ secrets, count: records.length }),
      codeOf,
    );
  };
  expect(await Promise.all([come(first), come(second)])).toEqual([
    { secrets: [SECRET], count: 1 },
    "GODWIT_INVITE_USED",
  ]);
  expect(await come(first)).toEqual({ secrets: [SECRET], count: 1 });
  expect(new Set(joined)).toEqual(new Set([first]));
  expect(identity.id).not.toBe(first);
  enrolment.stop();
});

const medium: Medium = {
  name: "radio",
  rateBitsPerSecond: 1_000,
  airtimeMs: (bytes) => bytes * 8,
  utilisation: 0,
  broadcastBytesMax: 200,
  broadcast: () => true,
  listen() {},
};

test("what a newcomer asks on a shared channel counts as control there, and is not said for what there is not", async () => {
  const clock = new ManualClock(WALL_MS);
  const airtime = new Airtime(clock);
  const budget = airtime.of(medium);
  const wire = sessions(undefined, generateIdentity(random).id, false);
  // Nobody answers: it is said again each second.
  const ended = enrol({ ...wire.atNewcomer, medium }, "DUN-B", clock, airtime).catch(codeOf);
  await clock.advance(3_500);
  expect(wire.ends[1]!.sent).toBe(4);
  expect(budget.sums.handshakes.usedMs).toBeGreaterThanOrEqual(4 * 8 * "DUN-B".length);
  // It owes what a link may owe at most.
  budget.charge(10 * budget.linkMs, "handshakes");
  const refused = budget.sums.handshakes.refused;
  await clock.advance(3_500);
  expect(wire.ends[1]!.sent).toBe(4);
  expect(budget.sums.handshakes.refused).toBeGreaterThan(refused);
  await clock.advance(10_000);
  expect(await ended).toBe("GODWIT_TIMEOUT");
});

test("what a member tells a newcomer on a shared channel counts as control there: the grant, and each refusal", async () => {
  const clock = new ManualClock(WALL_MS);
  const airtime = new Airtime(clock);
  const { enrolment } = member(clock, [configured], { airtime: () => airtime });
  const budget = airtime.of(medium);
  const invite = inviteIn(enrolment.issue({ ttlMs: HOUR_MS, uses: 1 }).token);
  const come = async (of: typeof invite | undefined) => {
    const before = budget.sums.handshakes.usedMs;
    const { atMember, atNewcomer } = sessions(of, generateIdentity(random).id);
    let bytes = 0;
    enrolment.serve({
      ...atMember,
      medium,
      send(frame) {
        bytes += frame.length;
        return atMember.send(frame);
      },
    });
    const outcome = await enrol(atNewcomer, "DUN-B", clock, new Airtime(clock)).then(() => "granted", codeOf);
    return [outcome, bytes > 0 && budget.sums.handshakes.usedMs - before >= bytes * 8];
  };
  expect(await come(invite)).toEqual(["granted", true]);
  expect(budget.savedMs).toBeLessThan(budget.linkMs);
  expect(await come(invite)).toEqual(["GODWIT_INVITE_USED", true]);
  enrolment.stop();
});

test("a newcomer that a member has no more place for is told so, and its operator hears which table is full", async () => {
  const clock = new ManualClock(WALL_MS);
  const used = generateIdentity(random);
  const rows = Array.from({ length: REDEMPTIONS_MAX }, (_, n) => {
    const invite = { id: random.bytes(8), expiresAtS: WALL_MS / 1_000 + 3_600, uses: 1 };
    const redemption = { invite, redeemer: doorId(n), atMs: WALL_MS };
    const meta = `${Buffer.from(signRedemption(used, redemption, "telex")).toString("base64")} ${HOUR_MS}`;
    return { key: `redemption/${inviteKey(invite)}/${doorId(n)}`, meta, bodyBytes: 0 };
  });
  const full: string[] = [];
  const { enrolment, joined } = member(clock, [configured], {
    store: { ...emptyStore, load: async () => rows },
    fullTables: { refused: (table) => void full.push(table) },
  });
  await enrolment.load();
  const invite = inviteIn(enrolment.issue({ ttlMs: HOUR_MS, uses: 1 }).token);
  const { atMember, atNewcomer } = sessions(invite, generateIdentity(random).id);
  enrolment.serve(atMember);
  const error = await enrol(atNewcomer, "DUN-B", clock, new Airtime(clock)).catch(
    (thrown: GodwitError) => thrown,
  );
  expect(error).toMatchObject({
    code: "GODWIT_JOIN_REFUSED",
    message: expect.stringContaining("can remember no more used invitations"),
  });
  expect([full, joined]).toEqual([["used invitations"], []]);
  enrolment.stop();
});

test("a neighbour without room for the word that an invitation was used hears it once there is", async () => {
  const clock = new ManualClock(WALL_MS);
  const told: number[] = [];
  const peer = { id: generateIdentity(random).id, frameBytesMax: 100, upAtMs: 0 } as unknown as Peer;
  let hasRoom = false;
  const tell = (_to: unknown, { length }: Uint8Array) => hasRoom && told.push(length) > 0;
  const { enrolment } = member(clock, [configured], { connected: () => [peer], tell });
  const invite = inviteIn(enrolment.issue({ ttlMs: HOUR_MS, uses: 1 }).token);
  const { atMember, atNewcomer } = sessions(invite, generateIdentity(random).id);
  enrolment.serve(atMember);
  await enrol(atNewcomer, "DUN-B", clock, new Airtime(clock));
  // Too narrow a link, then a wide one without room.
  enrolment.onWritable(peer);
  Object.assign(peer, { frameBytesMax: 61_440 });
  enrolment.onWritable(peer);
  expect(told).toEqual([]);
  hasRoom = true;
  enrolment.onWritable(peer);
  enrolment.onWritable(peer);
  expect(told).toEqual([149]);
  enrolment.stop();
});

test("a newcomer learns which secret is the newer one and when the other ends", async () => {
  const clock = new ManualClock(WALL_MS);
  const { enrolment } = member(clock, [
    { secret: NEXT, generation: 3, retiresInMs: undefined, signature },
    { ...configured, retiresInMs: 41_999.7 },
  ]);
  const invite = inviteIn(enrolment.issue({ ttlMs: HOUR_MS, uses: 1 }).token);
  const { atMember, atNewcomer } = sessions(invite, generateIdentity(random).id);
  enrolment.serve(atMember);
  const { secrets, lives } = await enrol(atNewcomer, "DUN-B", clock, new Airtime(clock));
  expect(secrets).toEqual([NEXT, SECRET]);
  expect(lives).toEqual([
    { generation: 3, retiresInMs: undefined, signature },
    { generation: 0, retiresInMs: 41_999, signature: undefined },
  ]);
  enrolment.stop();
});

test("over datagrams a lost request is repeated; a member that says nothing is given up", async () => {
  const clock = new ManualClock(WALL_MS);
  const { enrolment } = member(clock);
  const invite = inviteIn(enrolment.issue({ ttlMs: HOUR_MS, uses: 1 }).token);
  const id = generateIdentity(random).id;
  const wire = sessions(invite, id, false);
  wire.lost.count = 2;
  enrolment.serve(wire.atMember);
  const granted = enrol(wire.atNewcomer, undefined, clock, new Airtime(clock));
  await clock.advance(2_100);
  expect((await granted).secrets).toEqual([SECRET]);
  const silent = enrol(sessions(invite, id).atNewcomer, undefined, clock, new Airtime(clock)).catch(codeOf);
  await clock.advance(10_001);
  expect(await silent).toBe("GODWIT_TIMEOUT");
  enrolment.stop();
});

test("a session under an invitation that asks for anything else is a protocol error", async () => {
  const clock = new ManualClock(WALL_MS);
  const { enrolment } = member(clock);
  const invite = inviteIn(enrolment.issue({ ttlMs: HOUR_MS, uses: 1 }).token);
  for (const type of Object.values(FrameType)) {
    if (type === FrameType.enrolRequest) continue;
    const { atMember, ends } = sessions(invite, generateIdentity(random).id);
    enrolment.serve(atMember);
    expect(() => ends[0]!.handlers!.frame(Uint8Array.of(type, 1, 0))).toThrow();
    expect(ends[0]!.sent).toBe(0);
    atMember.close();
    await Promise.resolve();
  }
  enrolment.stop();
});

describe("what newcomers may ask for", () => {
  /** A session under an invitation, whose far end is played by the test. */
  function newcomer(invite: ReturnType<typeof inviteIn>) {
    let handlers: SessionHandlers | undefined;
    const sent: Uint8Array[] = [];
    const one = {
      invite,
      remote: generateIdentity(random).id,
      linkClass: "fast",
      answerMs: 0,
      isClosed: false,
      frameBytesMax: 61_440,
      flush() {},
      open: (given: SessionHandlers) => void (handlers = given),
      send: (frame: Uint8Array) => sent.push(frame.slice()) > 0,
      close() {
        one.isClosed = true;
        handlers?.closed(undefined);
      },
    };
    return {
      one,
      session: one as unknown as Session,
      sent,
      ask: (frame: Uint8Array) => handlers!.frame(frame),
    };
  }

  test("only so many are enrolled at once: the next hears that this node is busy, until one is done", () => {
    const { enrolment } = member(new ManualClock(WALL_MS));
    const invite = inviteIn(enrolment.issue({ ttlMs: HOUR_MS, uses: 100 }).token);
    const crowd = Array.from({ length: ENROLMENTS_MAX }, () => newcomer(invite));
    for (const { session } of crowd) enrolment.serve(session);
    expect(crowd.map(({ one }) => one.isClosed)).not.toContain(true);
    const late = newcomer(invite);
    enrolment.serve(late.session);
    expect([late.one.isClosed, late.sent.map((frame) => decodeEnrolRefuse(frame))]).toEqual([
      true,
      [EnrolRefusal.busy],
    ]);
    crowd[0]!.session.close();
    const next = newcomer(invite);
    enrolment.serve(next.session);
    expect(next.one.isClosed).toBe(false);
  });

  test("one asks only so often: then its session is closed", () => {
    const { enrolment } = member(new ManualClock(WALL_MS));
    const invite = inviteIn(enrolment.issue({ ttlMs: HOUR_MS, uses: 1 }).token);
    const { one, session, ask } = newcomer(invite);
    enrolment.serve(session);
    for (let n = 0; n < 64; n++) ask(encodeEnrolRequest("DUN-B"));
    expect(one.isClosed).toBe(false);
    ask(encodeEnrolRequest("DUN-B"));
    expect(one.isClosed).toBe(true);
  });
});
