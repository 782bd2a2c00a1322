import { expect, test } from "bun:test";
import { ManualClock } from "../kernel/clock.ts";
import { formatNodeId } from "../kernel/ids.ts";
import { HINTS_PER_SOURCE_MAX, MembershipView } from "./view.ts";

const node = formatNodeId(new Uint8Array(32).fill(2));
const endpoint = "tcp://a:1";

function setup() {
  const clock = new ManualClock();
  const log: string[] = [];
  const view = new MembershipView(clock, {
    wanted: (at, id, isPermanent) =>
      log.push(`wanted ${at}${id === undefined ? "" : " pinned"}${isPermanent ? " for ever" : ""}`),
    unwanted: (at) => log.push(`unwanted ${at}`),
    heard() {},
  });
  return { clock, log, view };
}

test("an endpoint is wanted as long as one source speaks for it", async () => {
  const { clock, log, view } = setup();
  view.hint("serf", { endpoint, lifetimeMs: 1_000 });
  view.hint("mdns", { endpoint, nodeId: node });
  await clock.advance(2_000);
  expect(log).toEqual(["wanted tcp://a:1", "wanted tcp://a:1 pinned"]);
  view.withdraw("mdns", endpoint);
  view.withdraw("mdns", endpoint);
  expect(log.slice(2)).toEqual(["unwanted tcp://a:1"]);
});

test("a refreshed hint lives from its refresh; no lifetime is longer than a day", async () => {
  const { clock, log, view } = setup();
  view.hint("serf", { endpoint, lifetimeMs: 1_000 });
  await clock.advance(900);
  view.hint("serf", { endpoint, lifetimeMs: 1e12 });
  await clock.advance(86_300_000);
  expect(view.hints).toMatchObject([{ source: "serf", ageMs: 86_300_000, isPermanent: false }]);
  await clock.advance(100_001);
  expect([view.hints, log.at(-1)]).toEqual([[], "unwanted tcp://a:1"]);
});

test("what an operator wrote down is wanted for ever and not pinned by a memory; once withdrawn it is a hint again", () => {
  const { log, view } = setup();
  view.hint("static", { endpoint, permanent: true });
  view.hint("book", { endpoint, nodeId: node });
  view.withdraw("static", endpoint);
  expect(log).toEqual(["wanted tcp://a:1 for ever", "wanted tcp://a:1 for ever", "wanted tcp://a:1"]);
});

test("a hint that expires does not take a trusted node's endpoint with it", async () => {
  const { clock, log, view } = setup();
  view.hint("book", { endpoint, nodeId: node, permanent: true });
  view.hint("mdns", { endpoint, lifetimeMs: 10 });
  await clock.advance(20);
  expect(log).toEqual(["wanted tcp://a:1 pinned for ever", "wanted tcp://a:1 pinned for ever"]);
});

test("a source is bounded, its end voids all it said, and stop leaves no timer", async () => {
  const { clock, log, view } = setup();
  for (let i = 0; i < HINTS_PER_SOURCE_MAX; i++)
    expect(view.hint("dht", { endpoint: `tcp://h:${i}`, lifetimeMs: 5_000 })).toBe(true);
  expect(view.hint("dht", { endpoint })).toBe(false);
  expect(view.hint("dht", { endpoint: "tcp://h:3", lifetimeMs: 9_000 })).toBe(true);
  expect(view.hint("serf", { endpoint, lifetimeMs: 9_000 })).toBe(true);
  view.withdrawAll("dht");
  expect(view.hints.length).toBe(1);
  expect(log.filter((line) => line.startsWith("unwanted")).length).toBe(HINTS_PER_SOURCE_MAX);
  view.stop();
  expect(clock.nextAtMs()).toBeUndefined();
});

test("a malformed node id is refused and changes nothing", () => {
  const { log, view } = setup();
  expect(() => view.hint("dht", { endpoint, nodeId: "nonsense" })).toThrow("not a node id");
  expect([view.hints, log]).toEqual([[], []]);
});
