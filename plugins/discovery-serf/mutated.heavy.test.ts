/**
 * Messages of every kind whose fields hold what they may not, whole or cut: whatever a member took of them, what it says afterwards is such as
 * another reads, and who comes then can join by it.
 */
import { afterEach, expect, test } from "bun:test";
import { GodwitError } from "@godwit/sdk";
import { seededRandom } from "@godwit/sdk/testkit";
import { FakeCluster } from "./testing.ts";
import { decodePushPull, encodePushPull } from "./wire/messages.ts";
import { Dropped, Envelope } from "./wire/envelope.ts";
import { type Encodable, ByteWriter, Float } from "./wire/msgpack.ts";
import { decodeState } from "./wire/serf-messages.ts";
import { LTIME_MAX, MessageType, OWN_VSN, SerfType } from "./wire/types.ts";

const ROUNDS = 15_000;
const random = seededRandom(Number(process.env["GODWIT_SEED"] ?? 17));
const pick = <T>(from: readonly T[]): T => from[random.below(from.length)]!;
const empty = new Uint8Array(0);

const names: readonly Encodable[] = [
  ...["a", "b", "x", "", "\0", "a\nb", "\x1b[2J", "__proto__", "é".repeat(64), "n".repeat(128)],
  ...["n".repeat(129), new Uint8Array(128).fill(0xff), Uint8Array.of(0xef, 0xbb, 0xbf, 0x61)],
];
const odd: readonly Encodable[] = [
  ...[0, 1, 255, 65_536, 0xffff_ffff, 2 ** 32, LTIME_MAX, LTIME_MAX + 1, -1, 2n ** 63n, -(2n ** 63n)],
  ...[1.5, LTIME_MAX - 0.5, Number.NaN, Number.POSITIVE_INFINITY, -1e308].map((value) => new Float(value)),
  ...[null, true, "", empty, [], {}, [1, [2, [3]]], [null], ["a"], { a: new Float(0.5) }],
];
const addresses = ["c0000201", "c0000202", "7f000001", "a9fea9fe", "00000000", "0102", "0".repeat(32)].map(
  (digits) => Buffer.from(digits, "hex"),
);
const times = [0, 1, 5, 600, LTIME_MAX - 1, LTIME_MAX];
const coordinate = (): Encodable => {
  const part = () => new Float(pick([0, 1, -1, 1e300, -1e308]));
  const fields = { Adjustment: part(), Error: part(), Height: part(), Vec: Array.from({ length: 8 }, part) };
  return new ByteWriter().u8(1).value(fields).finish();
};
const filter = (): Encodable => {
  const Expr = pick(["a.*", "(", "[z-a]", "a**", "(a|b", "^$", ".*".repeat(100)]);
  return pick([
    new ByteWriter().u8(1).value({ Expr, Tag: "role" }).finish(),
    Uint8Array.of(0, 0x91, 0xa1, 0x61),
  ]);
};
const event = (): Encodable => ({ Name: pick(names), Payload: empty, CC: true });
const right: Readonly<Record<string, () => Encodable>> = {
  Addr: () => pick(addresses),
  DestAddr: () => ({ IP: pick(addresses), Port: 7_946, Zone: "" }),
  EventLTime: () => pick(times),
  Events: () => pick<Encodable>([null, [{ LTime: pick(times), Events: [event(), pick(odd)] }, pick(odd)]]),
  Filters: () => pick<Encodable>([null, [filter()], [pick(odd)]]),
  Flags: () => random.below(4),
  ID: () => random.below(3),
  Incarnation: () => pick([1, 2, 100, 0xffff_ffff]),
  LTime: () => pick(times),
  LeftMembers: () => [pick(names), pick(odd)],
  Meta: () =>
    pick([empty, Uint8Array.of(0xff, 0x81, 0xa1, 0x61, 0xa1, 0x62), Uint8Array.of(0xff, 0xdf, 0xff)]),
  Payload: () => pick<Encodable>([empty, coordinate()]),
  Port: () => pick([0, 7_946, 65_535]),
  QueryLTime: () => pick(times),
  RelayFactor: () => random.below(10),
  SeqNo: () => random.below(4),
  State: () => random.below(5),
  StatusLTimes: () => new Map([["b", pick(odd)]]),
  Timeout: () => pick<Encodable>([0, 1_000_000_000, -1]),
  Vsn: () => Uint8Array.from(pick([OWN_VSN, [1, 5, 2, 2, 5, 4], [9, 9, 9, 9, 9, 9], [1, 5, 2]])),
};

/** Fields of these names, one in twenty missing, two in twenty of no right kind; what has no kind of its own is a name. */
function fieldsOf(words: string): Encodable {
  const all = words.split(" ").map((word): [string, Encodable] => {
    const dice = random.below(20);
    return [word, dice === 0 ? null : dice < 3 ? pick(odd) : (right[word]?.() ?? pick(names))];
  });
  return new Map(all);
}
const message = (type: number, words: string): Uint8Array =>
  new ByteWriter().u8(type).value(fieldsOf(words)).finish();

const answer = () => message(SerfType.queryResponse, "LTime ID From Flags Payload");
const user: readonly (() => Uint8Array)[] = [
  () => message(SerfType.leave, "LTime Node Prune"),
  () => message(SerfType.join, "LTime Node"),
  () => message(SerfType.userEvent, "LTime Name Payload CC"),
  () =>
    message(SerfType.query, "LTime ID Addr Port SourceNode Filters Flags RelayFactor Timeout Name Payload"),
  answer,
  () => Buffer.concat([message(SerfType.relay, "DestAddr DestName"), answer()]),
];
const packets: readonly (() => Uint8Array)[] = [
  () => message(MessageType.ping, "SeqNo Node SourceAddr SourcePort SourceNode"),
  () => message(MessageType.indirectPing, "SeqNo Node Target Port Nack SourceAddr SourcePort SourceNode"),
  () => message(MessageType.ack, "SeqNo Payload"),
  () => message(MessageType.suspect, "Incarnation Node From"),
  () => message(MessageType.alive, "Incarnation Node Addr Port Meta Vsn"),
  () => message(MessageType.dead, "Incarnation Node From"),
  () => Buffer.concat([Uint8Array.of(MessageType.user), pick(user)()]),
];
function state(): Uint8Array {
  const nodes = Array.from({ length: random.below(4) }, () =>
    fieldsOf("Incarnation Name Addr Port Meta Vsn State"),
  );
  const own = message(SerfType.pushPull, "LTime StatusLTimes LeftMembers EventLTime Events QueryLTime");
  const head = { Join: random.below(2) === 0, Nodes: nodes.length, UserStateLen: own.length };
  const writer = new ByteWriter().u8(MessageType.pushPull).value(head);
  for (const node of nodes) writer.value(node);
  return writer.bytes(own).finish();
}

/** Two of three stay as they are. */
function bent(bytes: Uint8Array): Uint8Array {
  if (random.below(3) > 0) return bytes;
  const copy = bytes.slice();
  for (let left = 1 + random.below(3); left > 0; left--) copy[random.below(copy.length)] = random.below(256);
  return random.below(4) === 0 ? copy.subarray(0, random.below(copy.length)) : copy;
}

let cluster: FakeCluster;
afterEach(() => cluster.close());

test("what is wrong throws nothing else than that, and leaves a member that others understand", async () => {
  cluster = new FakeCluster();
  const [a, b] = [cluster.add("a"), cluster.add("b")];
  await cluster.join(b, a.at);
  const envelope = new Envelope({ keyring: undefined, label: "", random });
  const faults = new Set<string>();
  let taken = 0;
  for (let round = 0; round < ROUNDS; round++) {
    const { memberlist } = pick([a, b]).serf;
    const from = { address: pick(["192.0.2.1", "192.0.2.2", "192.0.2.99"]), port: 7_946 };
    try {
      if (random.below(6) === 0) {
        const bytes = bent(envelope.sealStream(bent(state())));
        const reader = envelope.streamReader(true);
        const cut = random.below(bytes.length + 1);
        const whole = reader.push(bytes.subarray(0, cut)) ?? reader.push(bytes.subarray(cut));
        if (whole !== undefined) memberlist.stream(whole, from);
      } else {
        const bytes = bent(envelope.sealPacket([pick(packets)(), pick(packets)()], false));
        for (const one of envelope.openPacket(bytes)) memberlist.packet(one, from);
      }
      taken++;
    } catch (error) {
      if (!(error instanceof Dropped || (error instanceof GodwitError && error.code === "GODWIT_DECODE")))
        faults.add(String(error));
    }
    if (round % 500 === 0) await cluster.run(200);
  }
  expect([...faults]).toEqual([]);
  expect(taken).toBeGreaterThan(ROUNDS / 10);
  for (const { serf } of [a, b]) {
    const said = serf.memberlist.stream(encodePushPull([], empty, false), {
      address: "192.0.2.98",
      port: 1,
    })!;
    const { nodes, skipped, userState } = decodePushPull(said, 4_096);
    expect([skipped, nodes.length]).toEqual([0, serf.memberlist.members.size]);
    const { events } = decodeState(userState.subarray(1), 4_096);
    expect(events.length).toBeGreaterThan(0);
  }
  const late = cluster.add("late");
  await cluster.join(late, a.at);
  // The two may hold each other for dead by then: at the end of the incarnations nothing is refuted.
  expect(cluster.sees("late", "alive", [a, late]) && cluster.sees("a", "alive", [a, late])).toBe(true);
}, 60_000);
