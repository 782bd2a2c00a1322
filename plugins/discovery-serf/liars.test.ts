/** What one message of a liar must not do: those who hold the gossip key, and in the clear everybody, can send each of these. */
import { afterEach, describe, expect, test } from "bun:test";
import { Conflicts } from "./conflicts.ts";
import { MEMBERS_MAX } from "./memberlist/members.ts";
import { Timers } from "./memberlist/timers.ts";
import { ManualClock, seededRandom } from "@godwit/sdk/testkit";
import { FakeCluster } from "./testing.ts";
import { decodePushPull, encodeAlive, encodePing, encodePushPull, encodeSuspect } from "./wire/messages.ts";
import { type Encodable, ByteWriter, Float } from "./wire/msgpack.ts";
import {
  decodeState,
  encodeQuery,
  encodeState,
  encodeUserEvent,
  type SerfState,
} from "./wire/serf-messages.ts";
import { LTIME_MAX, MessageType, OWN_VSN, SerfType } from "./wire/types.ts";

const liar = { address: "192.0.2.99", port: 7_946 };
const empty = new Uint8Array(0);
const user = (body: Uint8Array) => Uint8Array.of(MessageType.user, ...body);
const alive = (node: string, vsn = OWN_VSN) =>
  encodeAlive({ incarnation: 1, node, at: { address: "198.51.100.1", port: 7_946 }, meta: empty, vsn });

let cluster: FakeCluster;
afterEach(() => cluster?.close());

async function two() {
  cluster = new FakeCluster();
  const a = cluster.add("a");
  const b = cluster.add("b");
  await cluster.join(b, a.at);
  return { a, b, say: (message: Uint8Array) => a.serf.memberlist.packet(message, liar) };
}

/** Who comes now learns of all by the one that was lied to, and is heard by all. */
async function isWhole(a: { readonly at: { address: string; port: number } }): Promise<void> {
  const c = cluster.add("c");
  await cluster.join(c, a.at);
  await cluster.until(
    "all see all",
    () => ["a", "b", "c"].every((one) => cluster.sees(one, "alive")),
    20_000,
  );
}

const stateWith = (more: { readonly [key: string]: Encodable }): Uint8Array => {
  const fields = { EventLTime: 1, Events: null, LTime: 1, LeftMembers: [], QueryLTime: 1, StatusLTimes: {} };
  const state = new ByteWriter()
    .u8(SerfType.pushPull)
    .value({ ...fields, ...more })
    .finish();
  return encodePushPull([], state, true);
};

describe("a Lamport time", () => {
  test("that is no whole number is none", async () => {
    const { a } = await two();
    for (const ltime of [1.5, Number.NaN, -1])
      a.serf.memberlist.stream(stateWith({ StatusLTimes: { x: new Float(ltime) } }), liar);
    expect(a.serf.clocks.status).toBeLessThan(100);
    await isWhole(a);
  });

  test("at the end of all times stops the clocks there, where others still take it", async () => {
    const { a, b, say } = await two();
    say(user(encodeUserEvent({ ltime: LTIME_MAX, name: "end", payload: empty, canCoalesce: false })));
    expect(a.serf.clocks.event).toBe(LTIME_MAX);
    a.serf.sendEvent("mine", empty, false);
    await cluster.until("the event comes", () => b.events.some(({ name }) => name === "mine"), 5_000);
    await isWhole(a);
  });

  test("beyond it, as an agent may hold it and tell it on, costs nothing that stands beside it", () => {
    const late = 2n ** 63n;
    const right = { Events: [{ Name: "right", Payload: empty, CC: false }], LTime: 7 };
    const bytes = new ByteWriter()
      .value({
        ...{ EventLTime: late, LTime: late, QueryLTime: new Float(0.5), LeftMembers: [] },
        ...{ StatusLTimes: { x: late, y: 4 }, Events: [{ Events: [], LTime: late }, right] },
      })
      .finish();
    const { ltime, eventLTime, queryLTime, statusLTimes, events } = decodeState(bytes, 10);
    expect([ltime, eventLTime, queryLTime]).toEqual([0, 0, 0]);
    expect([...statusLTimes]).toEqual([["y", 4]]);
    expect(events.map(({ name }) => name)).toEqual(["right"]);
    const plain: SerfState = {
      ltime: 3,
      eventLTime: 4,
      queryLTime: 5,
      statusLTimes,
      left: new Set(),
      events,
    };
    expect(decodeState(encodeState(plain).subarray(1), 10)).toEqual(plain);
  });
});

test("an incarnation at the end of its field: what the node says of itself stays such as others read", async () => {
  const { a, say } = await two();
  say(encodeSuspect({ incarnation: 0xffff_ffff, node: "a", from: "liar" }));
  a.serf.setTags(new Map([["role", "other"]]));
  const answer = a.serf.memberlist.stream(encodePushPull([], empty, false), liar)!;
  const { nodes, skipped } = decodePushPull(answer, 10);
  expect([skipped, nodes.map(({ node }) => node).sort()]).toEqual([0, ["a", "b"]]);
  await isWhole(a);
});

test("a member of another version is no member, and stands against no exchange", async () => {
  const { a, say } = await two();
  for (const vsn of [
    [9, 9, 9, 2, 5, 5],
    [1, 5, 2, 6, 9, 9],
    [1, 1, 1, 2, 5, 5],
    [1, 5, 9, 2, 5, 5],
    [1, 5, 2, 2, 5, 1],
  ])
    say(alive("foreign", vsn));
  expect(a.dropped.filter((reason) => reason === "protocol").length).toBe(5);
  expect(a.serf.roll.get("foreign")).toBeUndefined();
  say(alive("older", [1, 5, 2, 2, 5, 4]));
  expect(a.serf.roll.get("older")?.status).toBe("alive");
  await cluster.join(cluster.add("c"), a.at);
});

test("a ping of somebody who is no member is answered with less than it had, and takes no news along", async () => {
  cluster = new FakeCluster();
  const a = cluster.add("a");
  const asked: number[] = [];
  cluster.watch = (to, messages) => {
    if (to.address === liar.address) asked.push(messages.reduce((sum, { length }) => sum + length, 0));
  };
  const ping = encodePing({ seq: 1, node: "", source: undefined, sourceNode: "" });
  for (let i = 0; i < 100; i++) a.serf.memberlist.packet(ping, liar);
  // UDP and IP have 28 bytes in each direction, too.
  expect(asked.length).toBe(100);
  expect(Math.max(...asked) + 28).toBeLessThan(1.25 * (ping.length + 28));
  // The news is still there for whoever is a member.
  const b = cluster.add("b");
  await cluster.join(b, a.at);
  asked.length = 0;
  cluster.watch = (to, messages) => void (to.address === b.at.address && asked.push(messages.length));
  a.serf.memberlist.packet(encodePing({ seq: 2, node: "a", source: b.at, sourceNode: "b" }), b.at);
  expect(asked).toHaveLength(1);
  expect(asked[0]).toBeGreaterThan(1);
});

test("queries whose expressions would take the processor are not looked at, and cheap ones are again a moment later", async () => {
  const { a, b, say } = await two();
  a.serf.setTags(new Map([["role", "a".repeat(300)]]));
  await cluster.run(2_000);
  const filters = Array.from({ length: 16 }, () => ({ tag: "role", expression: "a*".repeat(128) }));
  const query = { at: b.at, sourceNode: "b", wantsAck: false, isBroadcast: false, relayFactor: 0 } as const;
  const startMs = performance.now();
  for (let id = 0; id < 100; id++)
    say(
      user(
        encodeQuery({ ...query, ltime: 1 + id, id, filters, timeoutMs: 1_000, name: "name", payload: empty }),
      ),
    );
  // All of them would be 1,600 times 50 ms.
  expect(performance.now() - startMs).toBeLessThan(5_000);
  expect(a.dropped.filter((reason) => reason === "pattern").length).toBeGreaterThan(90);
  await cluster.run(1_000);
  const asking = b.serf.queries.ask("name", empty, { tags: new Map([["role", "^a+$"]]), timeoutMs: 2_000 });
  await cluster.run(2_500);
  expect((await asking).answers.map(({ from }) => from)).toEqual(["a"]);
});

test("names that are claimed by the thousand are one conflict: one line, one timer, said until a minute after the last", () => {
  const clock = new ManualClock();
  let changes = 0;
  const conflicts = new Conflicts(new Timers(clock, seededRandom(1)), () => changes++);
  const hear = (name: string, isSelf = false) =>
    Array.from({ length: MEMBERS_MAX }, (_, i) =>
      conflicts.hear(`${name}${i % 7}`, isSelf, { address: `192.0.2.${i % 250}`, port: i }),
    ).filter(Boolean).length;
  expect(hear("x")).toBe(1);
  clock.advance(40_000);
  expect(hear("x")).toBe(0);
  expect(hear("own", true)).toBe(1);
  expect(conflicts.words).toStartWith("another member is called own0 too, at 192.0.2.0 port 0");
  expect(hear("x")).toBe(0);
  expect(changes).toBe(2);
  expect(clock.pendingDelays.length).toBe(1);
  clock.advance(59_999);
  expect(conflicts.words).toBeDefined();
  clock.advance(2);
  expect(conflicts.words).toBeUndefined();
  expect(changes).toBe(3);
  expect(hear("x")).toBe(1);
});

test("names and texts that are no UTF-8, or hide in a byte order mark, are none, and what holds them is not told on", async () => {
  const { a, b, say } = await two();
  const at = { Addr: Uint8Array.of(198, 51, 100, 1), Incarnation: 1, Meta: empty, Port: 7_946 };
  const odd = new Uint8Array(128).fill(0xff);
  const message = (type: number, fields: Encodable) => new ByteWriter().u8(type).value(fields).finish();
  const whole = { ...at, Vsn: Uint8Array.from(OWN_VSN) };
  expect(() => say(message(MessageType.alive, { ...whole, Node: odd }))).toThrow("no UTF-8");
  const event = { LTime: 1, Name: new Uint8Array(4_000).fill(0xff), Payload: empty, CC: false };
  expect(() => say(user(message(SerfType.userEvent, event)))).toThrow("no UTF-8");
  say(message(MessageType.dead, { Incarnation: 9, Node: Uint8Array.of(0xef, 0xbb, 0xbf, 0x62), From: "b" }));
  expect(a.serf.roll.get("b")?.status).toBe("alive");
  // An agent may know and tell such ones all the same: what stands beside them counts.
  const state = stateWith({
    ...{ LeftMembers: [odd, 5, "b"], StatusLTimes: { b: 40, ["é".repeat(128)]: 4 } },
    Events: [5, { LTime: 7, Events: [event, 5, { ...event, Name: "right" }] }, { LTime: 8, Events: 5 }],
  });
  a.serf.memberlist.stream(state, liar);
  expect(a.events.map(({ name }) => name)).toEqual(["right"]);
  expect(b.serf.clocks.status).toBeLessThan(40);
  expect(a.serf.roll.get("b")?.status).toBe("leaving");
  await isWhole(a);
});
