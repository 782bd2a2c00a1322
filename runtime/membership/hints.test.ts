import { Dialer, TARGETS_MAX } from "../peer/dialer.ts";
import { godwitError } from "../kernel/errors.ts";
import { silentLog } from "../kernel/log.ts";
import { Metrics } from "../kernel/metrics.ts";
import { seededRandom } from "../kernel/random.ts";
import { expect, test } from "bun:test";
import { ManualClock } from "../kernel/clock.ts";
import { Scope } from "../kernel/scope.ts";
import { formatNodeId } from "../kernel/ids.ts";
import { DOOR_IDENTITIES, DOOR_TEST_MS, doorId } from "../kernel/testing.ts";
import { HINTS_PER_SOURCE_MAX, Hints } from "./hints.ts";

const node = formatNodeId(new Uint8Array(32).fill(2));
const endpoint = "tcp://a:1";
const nobody = { isKnown: () => false, isLinked: () => false };

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

test(
  "hints of one source without end cost bounded memory and bounded dials",
  async () => {
    const clock = new ManualClock();
    const scope = new Scope("test");
    let dials = 0;
    const dialer = new Dialer({
      scope,
      clock: scope.clock(clock),
      random: seededRandom(1),
      log: silentLog,
      metrics: new Metrics(),
      self: node,
      dial: () => (dials++, Promise.reject(godwitError("GODWIT_DIAL_FAILED", "nobody there"))),
      handshake: () => Promise.reject(new Error("never")),
      adopt() {},
      isConnected: () => false,
    });
    const hints = new Hints(clock, {
      ...nobody,
      wanted: (at, id, isPermanent) =>
        void dialer.add({ endpoint: at, isPermanent, ...(id === undefined ? {} : { nodeId: id }) }),
      unwanted: (at) => dialer.remove(at),
      heard() {},
    });
    for (let index = 0; index < DOOR_IDENTITIES; index++)
      hints.add("discovery.flood", { endpoint: `tcp://10.0.0.1:${index}`, lifetimeMs: 60_000 }, "plugin");
    expect(hints.add("discovery.flood", { endpoint: `tcp://${"x".repeat(1_000)}:1` }, "plugin")).toBe(false);
    expect(hints.list.length).toBe(HINTS_PER_SOURCE_MAX);
    expect(dialer.targets.length).toBeLessThanOrEqual(TARGETS_MAX);
    await clock.advance(10_000);
    expect(dials).toBeGreaterThan(300);
    expect(dials).toBeLessThanOrEqual(64 * 11);
    // What an operator wrote down does not wait behind them.
    const before = dials;
    dialer.add({ endpoint: "tcp://a:1", isPermanent: true });
    await clock.advance(1);
    expect(dials).toBeGreaterThan(before);
    await scope.close();
  },
  DOOR_TEST_MS,
);

test(
  "hints that strangers announced without end push out neither what the operator wrote, nor whom this node knows, nor others",
  async () => {
    const clock = new ManualClock();
    const scope = new Scope("test");
    const dials = new Set<string>();
    const dialer = new Dialer({
      scope,
      clock: scope.clock(clock),
      random: seededRandom(1),
      log: silentLog,
      metrics: new Metrics(),
      self: node,
      dial: (at) => (dials.add(at), Promise.reject(godwitError("GODWIT_DIAL_FAILED", "nobody there"))),
      handshake: () => Promise.reject(new Error("never")),
      adopt() {},
      isConnected: () => false,
    });
    const friend = doorId(1);
    const hints = new Hints(scope.clock(clock), {
      isKnown: (id) => id === friend,
      isLinked: (at) => dialer.isLinked(at),
      wanted: (at, id, isPermanent, share) =>
        void dialer.add({ endpoint: at, isPermanent, share, ...(id === undefined ? {} : { nodeId: id }) }),
      unwanted: (at) => dialer.remove(at),
      heard() {},
    });
    hints.add("discovery.static", { endpoint: "tcp://10.0.0.1:1", permanent: true }, "operator");
    hints.add("book", { endpoint: "tcp://10.0.0.2:1", nodeId: friend }, "member");
    hints.add("peers", { endpoint: "tcp://10.0.0.3:1", nodeId: doorId(2) }, "member");
    hints.add("discovery.mdns", { endpoint: "tcp://10.0.0.4:1" }, "plugin");
    // Whom a hint names is free to say: it is nobody's word that the friend is there.
    const flood = (source: string) => {
      for (let n = 0; n < DOOR_IDENTITIES; n++)
        hints.add(source, { endpoint: `tcp://192.0.2.${n % 4}:${n}`, nodeId: friend }, "plugin");
    };
    flood("discovery.mdns");
    flood("discovery.udp");
    hints.add("discovery.mdns", { endpoint: "tcp://10.0.0.5:1" }, "plugin");
    expect(hints.list.length).toBeLessThanOrEqual(2 * HINTS_PER_SOURCE_MAX + 3);
    const targets = dialer.targets.map(({ endpoint: at }) => at);
    expect(targets.length).toBeLessThanOrEqual(TARGETS_MAX);
    for (const n of [1, 2, 3, 5]) expect(targets).toContain(`tcp://10.0.0.${n}:1`);
    // Of one source the dialer keeps the newest; the hint is there, and is a target again as soon as it is heard.
    const heard = hints.list.map(({ endpoint: at }) => at);
    for (let n = 1; n <= 5; n++) expect(heard).toContain(`tcp://10.0.0.${n}:1`);
    hints.add("discovery.mdns", { endpoint: "tcp://10.0.0.4:1" }, "plugin");
    expect(dialer.targets.map(({ endpoint: at }) => at)).toContain("tcp://10.0.0.4:1");
    // All others have tried again, and spent what there is for them.
    await clock.advance(1_500);
    // Of the operator and of whom this node knows at once, whatever waits.
    hints.add("book", { endpoint: "tcp://10.0.0.6:1", nodeId: friend }, "member");
    await clock.advance(1);
    for (const n of [1, 2, 6]) expect(dials).toContain(`tcp://10.0.0.${n}:1`);
    await scope.close();
  },
  DOOR_TEST_MS,
);
