import { expect, test } from "bun:test";
import { ManualClock } from "../kernel/clock.ts";
import { Scope } from "../kernel/scope.ts";
import { formatNodeId } from "../kernel/ids.ts";
import { ENDPOINT_CHARS_MAX, HINTS_PER_SOURCE_MAX, Hints } from "./hints.ts";
import { node, nobody } from "./testing.ts";

const endpoint = "tcp://a:1";

function setup() {
  const clock = new ManualClock();
  const scope = new Scope("test");
  const log: string[] = [];
  const hints = new Hints(scope.clock(clock), {
    ...nobody,
    wanted: (at, id, isPermanent) =>
      log.push(`wanted ${at}${id === undefined ? "" : " pinned"}${isPermanent ? " for ever" : ""}`),
    weakened: (at) => log.push(`${at} not for ever`),
    unwanted: (at) => log.push(`unwanted ${at}`),
    heard() {},
  });
  return { clock, scope, log, hints };
}

test("an endpoint is wanted as long as one source speaks for it", async () => {
  const { clock, log, hints } = setup();
  hints.add("serf", { endpoint, lifetimeMs: 1_000 }, "plugin");
  hints.add("mdns", { endpoint, nodeId: node }, "plugin");
  await clock.advance(2_000);
  expect(log).toEqual(["wanted tcp://a:1", "wanted tcp://a:1 pinned"]);
  hints.withdraw("mdns", endpoint);
  hints.withdraw("mdns", endpoint);
  expect(log.slice(2)).toEqual(["unwanted tcp://a:1"]);
});

test("a member that named another's endpoint as its own does not keep it pinned to itself", async () => {
  const clock = new ManualClock();
  const liar = formatNodeId(new Uint8Array(32).fill(3));
  const seen: unknown[] = [];
  const hints = new Hints(clock, {
    ...nobody,
    wanted: (_at, id) => seen.push(id),
    unwanted: () => seen.push("unwanted"),
    heard() {},
  });
  hints.add("book", { endpoint, nodeId: node }, "plugin");
  hints.add("punch", { endpoint, nodeId: liar, lifetimeMs: 8_000 }, "plugin");
  await clock.advance(8_000);
  expect(seen).toEqual([node, liar, node]);
});

test("a refreshed hint lives from its refresh; no lifetime is longer than a day", async () => {
  const { clock, log, hints } = setup();
  hints.add("serf", { endpoint, lifetimeMs: 1_000 }, "plugin");
  await clock.advance(900);
  hints.add("serf", { endpoint, lifetimeMs: 1e12 }, "plugin");
  await clock.advance(86_300_000);
  expect(hints.list).toMatchObject([{ source: "serf", ageMs: 86_300_000, isPermanent: false }]);
  await clock.advance(100_001);
  expect([hints.list, log.at(-1)]).toEqual([[], "unwanted tcp://a:1"]);
});

test("what an operator wrote down is wanted for ever and not pinned by a memory; once withdrawn it is a hint again", () => {
  const { log, hints } = setup();
  hints.add("static", { endpoint, permanent: true }, "plugin");
  hints.add("book", { endpoint, nodeId: node }, "plugin");
  hints.withdraw("static", endpoint);
  expect(log).toEqual([
    "wanted tcp://a:1 for ever",
    "wanted tcp://a:1 for ever",
    "tcp://a:1 not for ever",
    "wanted tcp://a:1",
  ]);
});

test("a source that wants an endpoint for ever no longer says so, and another that does outlives its word", () => {
  const { log, hints } = setup();
  hints.add("book", { endpoint, nodeId: node, permanent: true }, "member");
  expect(hints.pinnedBy("book", node)).toEqual([endpoint]);
  hints.add("static", { endpoint, permanent: true }, "operator");
  hints.add("book", { endpoint, nodeId: node, permanent: false }, "member");
  expect(hints.pinnedBy("book", node)).toEqual([]);
  expect(log.filter((line) => line.endsWith("not for ever"))).toEqual([]);
  hints.withdraw("static", endpoint);
  expect(log.slice(-2)).toEqual([`${endpoint} not for ever`, `wanted ${endpoint}`]);
  // Where nobody else does, its own word is enough.
  hints.add("book", { endpoint, nodeId: node, permanent: true }, "member");
  hints.add("book", { endpoint, nodeId: node, permanent: false }, "member");
  expect(log.slice(-2)).toEqual([`${endpoint} not for ever`, `wanted ${endpoint} pinned`]);
});

test("a hint that expires does not take a trusted node's endpoint with it", async () => {
  const { clock, log, hints } = setup();
  hints.add("book", { endpoint, nodeId: node, permanent: true }, "plugin");
  hints.add("mdns", { endpoint, lifetimeMs: 10 }, "plugin");
  await clock.advance(20);
  expect(log).toEqual(["wanted tcp://a:1 pinned for ever", "wanted tcp://a:1 pinned for ever"]);
});

test("a source is bounded, its end voids all it said, and stop leaves no timer", async () => {
  const { clock, scope, log, hints } = setup();
  for (let i = 0; i < HINTS_PER_SOURCE_MAX; i++)
    expect(hints.add("dht", { endpoint: `tcp://h:${i}`, lifetimeMs: 5_000 }, "plugin")).toBe(true);
  // What the source repeats of others gives way in it, the oldest first; its bound stays.
  expect(hints.add("dht", { endpoint, lifetimeMs: 5_000 }, "plugin")).toBe(true);
  expect(hints.list.length).toBe(HINTS_PER_SOURCE_MAX);
  expect(log.at(-2)).toBe("unwanted tcp://h:0");
  expect(hints.add("dht", { endpoint: "tcp://h:3", lifetimeMs: 9_000 }, "plugin")).toBe(true);
  expect(hints.add("serf", { endpoint, lifetimeMs: 9_000 }, "plugin")).toBe(true);
  hints.withdrawAll("dht");
  expect(hints.list.length).toBe(1);
  expect(log.filter((line) => line.startsWith("unwanted")).length).toBe(HINTS_PER_SOURCE_MAX);
  await scope.close();
  expect(clock.nextAtMs()).toBeUndefined();
});

test("a malformed node id is refused and changes nothing", () => {
  const { log, hints } = setup();
  expect(() => hints.add("dht", { endpoint, nodeId: "nonsense" }, "plugin")).toThrow("not a node id");
  expect([hints.list, log]).toEqual([[], []]);
});

test("an endpoint that is far too long is no hint", () => {
  const { log, hints } = setup();
  const long = (chars: number) => `tcp://${"a".repeat(chars - "tcp://:1".length)}:1`;
  expect(hints.add("serf", { endpoint: long(ENDPOINT_CHARS_MAX) }, "plugin")).toBe(true);
  expect(hints.add("serf", { endpoint: long(ENDPOINT_CHARS_MAX + 1) }, "plugin")).toBe(false);
  expect(log).toHaveLength(1);
});
