import { describe, expect, test } from "bun:test";
import { ManualClock } from "../kernel/clock.ts";
import { Scope } from "../kernel/scope.ts";
import { formatNodeId, type NodeId } from "../kernel/ids.ts";
import { silentLog } from "../kernel/log.ts";
import { Metrics } from "../kernel/metrics.ts";
import { seededRandom } from "../kernel/random.ts";
import { openMemoryStore, SimDisk } from "../store/memory.ts";
import { doorId } from "../kernel/testing.ts";
import { PeerBook, type TrustGrant } from "./book.ts";
import { ONIONS_PROMOTED_MAX, PROMOTED_MAX } from "./history.ts";
import { PeerManager, type PeerManagerDeps, type PeerManagerSettings } from "./manager.ts";
import type { Peer } from "../peer/peer.ts";
import { TrustRules, type TrustRule } from "./rules.ts";
import { testTime } from "../time/testing.ts";
import { noRegard as regard } from "./testing.ts";

const HOUR_MS = 3_600_000;
const random = seededRandom(3);
const newId = (): NodeId => formatNodeId(random.bytes(32));

/** Counts how often somebody looks a node up. */
class CountingBook extends PeerBook {
  looks = 0;

  override standing(id: NodeId) {
    this.looks++;
    return super.standing(id);
  }
}

async function setup(
  options: {
    rules?: TrustRule[];
    linksWanted?: number;
    promoteAfterMs?: number;
    promoteOnionsAfterMs?: number;
    reviewMs?: number;
  } = {},
) {
  const clock = new ManualClock();
  const scope = new Scope("test");
  const store = await openMemoryStore(new SimDisk(), { clock, random, commitDelayMs: 0 });
  const book = new CountingBook({
    store,
    configured: new Map(),
    time: testTime(clock).time,
    log: silentLog,
    regard,
  });
  const peers = new Map<NodeId, Peer>();
  const grants: (TrustGrant & { id: NodeId })[] = [];
  const hints = new Map<string, string | undefined>();
  const members: NodeId[] = [];
  const cut: NodeId[] = [];
  /** By whose word an endpoint is known. */
  const named = new Map<string, string>();
  const kept = new Map<string, NodeId>();
  const considered: { id: NodeId; endpoint: string; source: string; reason: string }[] = [];
  const deps: PeerManagerDeps = {
    self: newId(),
    clock: scope.clock(clock),
    random,
    log: silentLog,
    metrics: new Metrics(),
    book,
    rules: new TrustRules(options.rules ?? []),
    linksWanted: options.linksWanted ?? 0,
    promoteAfterMs: options.promoteAfterMs ?? 24 * HOUR_MS,
    promoteOnionsAfterMs: options.promoteOnionsAfterMs,
    reviewMs: options.reviewMs,
    connected: () => peers.values(),
    members: () => members.map((id) => ({ id, endpoints: [`tcp://10.0.0.1/${id}`], isTrusted: false })),
    callsignOf: () => "LON-B",
    isVouched: () => false,
    setTrust: async (id, grant) => {
      grants.push({ id, ...grant });
      await book.setTrust(id, grant);
    },
    hint: ({ endpoint, nodeId }) => void hints.set(endpoint, nodeId),
    withdraw: (endpoint) => void hints.delete(endpoint),
    disconnect: (id) => void cut.push(id),
    keep: (endpoint, id) => void kept.set(endpoint, id),
    letGo: (endpoint) => void kept.delete(endpoint),
    discoveryNaming: (endpoint) => named.get(endpoint),
    onionConsidered: (id, onion, reason) => void considered.push({ id, ...onion, reason }),
  };
  const manager = new PeerManager(deps);
  manager.start();
  const connect = (id: NodeId, remoteEndpoint = "tcp://10.0.0.9:1") => {
    const session = { remoteEndpoint, linkClass: "fast" };
    // The manager reads no more of a peer than this.
    const peer = {
      id,
      upAtMs: clock.monotonicMs(),
      links: [{ session }],
      best: { session },
    } as unknown as Peer;
    peers.set(id, peer);
    book.noteSeen(id, [], clock.wallMs());
    manager.onPeerUp(peer);
  };
  const disconnect = (id: NodeId) => {
    peers.delete(id);
    manager.onPeerDown(id);
  };
  return {
    settings: deps as PeerManagerSettings,
    clock,
    scope,
    book,
    manager,
    grants,
    hints,
    members,
    cut,
    connect,
    disconnect,
    named,
    kept,
    considered,
  };
}

const ONION = `tor://${"a".repeat(56)}.onion:4860`;
const MINUTE_MS = 60_000;

describe("an onion address that a discovery named", () => {
  const soon = { promoteOnionsAfterMs: 10 * MINUTE_MS, reviewMs: 30_000 };

  test("is considered when it leads somewhere, and dialled for ever when that was good for long enough", async () => {
    const { clock, connect, named, kept, considered, grants, book } = await setup(soon);
    named.set(ONION, "discovery.dht");
    const id = newId();
    connect(id, ONION);
    expect(considered).toEqual([
      {
        id,
        endpoint: ONION,
        source: "discovery.dht",
        reason:
          "an onion address that discovery.dht named; dialled for ever when it was linked for 600 s and good",
      },
    ]);
    await clock.advance(9 * MINUTE_MS);
    expect([grants, [...kept]]).toEqual([[], []]);
    // At the next look behind its time, which is every 30 s.
    await clock.advance(MINUTE_MS + 31_000);
    expect(grants).toMatchObject([{ id, level: "trusted", by: "manager" }]);
    expect(grants[0]!.reason).toStartWith("an onion address that discovery.dht named; score 1.00");
    expect([...kept]).toEqual([[ONION, id]]);
    expect(book.hasRights(id)).toBe(false);
    await clock.advance(HOUR_MS);
    expect([grants.length, considered.length]).toEqual([1, 1]);
  });

  test("is let go again with the trust, for a lie", async () => {
    const { clock, connect, named, kept, grants, manager } = await setup(soon);
    named.set(ONION, "discovery.dht");
    const id = newId();
    connect(id, ONION);
    await clock.advance(11 * MINUTE_MS);
    expect(kept.size).toBe(1);
    manager.report(id, "lied");
    await clock.advance(0);
    expect([grants.at(-1)!.level, kept.size]).toEqual(["member", 0]);
  });

  test.each(["member", "blocked"] as const)("is let go when the operator says %s", async (level) => {
    const { clock, connect, named, kept, book } = await setup(soon);
    named.set(ONION, "discovery.dht");
    const id = newId();
    connect(id, ONION);
    await clock.advance(11 * MINUTE_MS);
    expect(kept.size).toBe(1);
    void book.setTrust(id, { level, reason: "of old", by: "operator" });
    await clock.advance(MINUTE_MS);
    expect(kept.size).toBe(0);
  });

  test("is let go with the trust also when a thousand others came over onions since", async () => {
    const { clock, connect, disconnect, named, kept, manager } = await setup(soon);
    named.set(ONION, "discovery.dht");
    const id = newId();
    connect(id, ONION);
    await clock.advance(11 * MINUTE_MS);
    disconnect(id);
    for (let n = 0; n < 1_100; n++) {
      const endpoint = `tor://${"a".repeat(52)}${String(n).padStart(4, "b")}.onion:1`;
      named.set(endpoint, "discovery.dht");
      const other = newId();
      connect(other, endpoint);
      disconnect(other);
    }
    expect(kept.size).toBe(1);
    manager.report(id, "lied");
    await clock.advance(MINUTE_MS);
    expect(kept.size).toBe(0);
  });

  test("that comes and goes is not good", async () => {
    const { clock, connect, disconnect, named, grants } = await setup(soon);
    named.set(ONION, "discovery.dht");
    const id = newId();
    for (let round = 0; round < 30; round++) {
      connect(id, ONION);
      await clock.advance(MINUTE_MS);
      disconnect(id);
      await clock.advance(MINUTE_MS);
    }
    expect(grants).toEqual([]);
  });

  test.each([
    ["of the operator's own", soon, ONION, undefined],
    ["that is none", soon, "tcp://192.0.2.1:1", "discovery.lan"],
    ["where that is switched off", {}, ONION, "discovery.dht"],
  ] as const)("%s waits as all do", async (_, options, endpoint, source) => {
    const { clock, connect, named, considered, grants, kept } = await setup(options);
    if (source !== undefined) named.set(endpoint, source);
    connect(newId(), endpoint);
    await clock.advance(HOUR_MS);
    expect([considered, grants, kept.size]).toEqual([[], [], 0]);
  });

  test("half of the places stay for those that were there for long", async () => {
    const { clock, connect, named, grants, kept } = await setup(soon);
    for (let n = 0; n < PROMOTED_MAX; n++) {
      const endpoint = `tor://${"a".repeat(54)}${String(n).padStart(2, "b")}.onion:1`;
      named.set(endpoint, "discovery.dht");
      connect(newId(), endpoint);
    }
    await clock.advance(HOUR_MS);
    expect([grants.length, kept.size]).toEqual([ONIONS_PROMOTED_MAX, ONIONS_PROMOTED_MAX]);
    await clock.advance(25 * HOUR_MS);
    expect(grants.length).toBe(PROMOTED_MAX);
  });
});

describe("trust", () => {
  test("2,000 throw-away identities that were met do not make each review look at each of them 2,000 times", async () => {
    const { clock, book } = await setup();
    for (let n = 0; n < 2_000; n++) book.noteSeen(newId(), [], clock.wallMs());
    book.looks = 0;
    await clock.advance(60_000);
    expect(book.looks).toBeGreaterThan(2_000);
    expect(book.looks).toBeLessThan(2_000 * 8);
  });

  test("a node that was linked for a day becomes trusted, once, with the reason", async () => {
    const { clock, connect, grants, book } = await setup();
    const id = newId();
    connect(id);
    await clock.advance(23 * HOUR_MS);
    expect(grants).toEqual([]);
    await clock.advance(2 * HOUR_MS);
    expect(grants).toMatchObject([{ id, level: "trusted", by: "manager" }]);
    expect(grants[0]!.reason).toContain("linked for 24.");
    expect(book.standing(id)).toMatchObject({ level: "trusted", by: "manager" });
  });

  test("half the day linked is not a day", async () => {
    const { clock, connect, disconnect, grants } = await setup();
    const id = newId();
    for (let hour = 0; hour < 40; hour++) {
      if (hour % 2 === 0) connect(id);
      else disconnect(id);
      await clock.advance(HOUR_MS);
    }
    expect(grants).toEqual([]);
  });

  test("a liar is demoted at once, and blocked for a time at the third lie", async () => {
    const { clock, connect, manager, grants, book } = await setup({ promoteAfterMs: HOUR_MS });
    const id = newId();
    connect(id);
    await clock.advance(2 * HOUR_MS);
    manager.report(id, "lied");
    expect(grants.at(-1)).toMatchObject({ level: "member", by: "manager" });
    manager.report(id, "lied");
    manager.report(id, "lied");
    expect(grants.at(-1)).toMatchObject({ level: "blocked", forMs: HOUR_MS });
    expect(book.isBlocked(id)).toBe(true);
    await clock.advance(HOUR_MS + 1);
    expect(book.isBlocked(id)).toBe(false);
    for (let i = 0; i < 3; i++) manager.report(id, "lied");
    expect(grants.at(-1)).toMatchObject({ level: "blocked", forMs: 2 * HOUR_MS });
  });

  test("an operator's word stands, whatever a node does", async () => {
    const { book, connect, manager, grants } = await setup();
    const id = newId();
    connect(id);
    void book.setTrust(id, { level: "trusted", reason: "mine", by: "operator" });
    for (let i = 0; i < 5; i++) manager.report(id, "lied");
    expect(grants).toEqual([]);
    expect(book.trustOf(id)).toBe("trusted");
  });

  test("a rule that blocks cuts the link and keeps the node out", async () => {
    const rule = { level: "blocked", callsigns: [], transports: [], networks: ["192.0.2.0/24"] } as const;
    const { connect, disconnect, cut, book } = await setup({ rules: [rule] });
    const [bad, fine] = [newId(), newId()];
    connect(fine);
    connect(bad, "tcp://192.0.2.66:1");
    expect(cut).toEqual([bad]);
    disconnect(bad);
    expect(book.isBlocked(bad)).toBe(true);
    expect(book.trustOf(fine)).toBe("member");
  });
});

test("a review of a book that free identities filled walks over it twice, not once for each of them, and promotes as many as may be", async () => {
  const { clock, connect, grants, book } = await setup({ promoteAfterMs: HOUR_MS });
  for (let n = 0; n < PROMOTED_MAX + 16; n++) connect(newId());
  for (let n = 0; n < 1_000; n++) book.noteSeen(doorId(n), [], 1);
  let walks = 0;
  const nodes = Object.getOwnPropertyDescriptor(PeerBook.prototype, "nodes")!.get!.bind(book);
  Object.defineProperty(book, "nodes", { get: () => (walks++, nodes()) });
  await clock.advance(60_000);
  expect(walks).toBe(2);
  await clock.advance(3 * HOUR_MS);
  expect(grants.filter(({ level }) => level === "trusted").length).toBe(PROMOTED_MAX);
});

describe("links of its own accord", () => {
  test("what an operator changes holds for who is linked: how soon somebody is promoted, and when that is looked at", async () => {
    const { clock, manager, book, settings, connect, named } = await setup({ reviewMs: HOUR_MS });
    const [member, onion] = [newId(), newId()];
    const endpoint = `tor://${"a".repeat(56)}.onion:4860`;
    named.set(endpoint, "discovery.d");
    connect(member);
    connect(onion, endpoint);
    await clock.advance(2 * HOUR_MS);
    expect([member, onion].map((id) => book.trustOf(id))).toEqual(["member", "member"]);
    manager.configure({ ...settings, promoteOnionsAfterMs: HOUR_MS, reviewMs: 5_000 });
    await clock.advance(5_001);
    expect([member, onion].map((id) => book.trustOf(id))).toEqual(["member", "trusted"]);
    manager.configure({ ...settings, promoteAfterMs: HOUR_MS, reviewMs: 5_000 });
    await clock.advance(5_001);
    expect(book.trustOf(member)).toBe("trusted");
  });

  test("whoever changes something else all the time does not put off when trust is looked at", async () => {
    const { clock, manager, book, settings, connect } = await setup({ reviewMs: 5_000 });
    const id = newId();
    connect(id);
    for (let i = 0; i < 5; i++) {
      manager.configure({ ...settings, promoteAfterMs: 4_000 + i });
      await clock.advance(4_000);
    }
    expect(book.trustOf(id)).toBe("trusted");
  });

  test("as many as an operator wants from now on are called; none any more are let go", async () => {
    const { clock, manager, members, hints, settings, connect } = await setup({ linksWanted: 0 });
    members.push(...Array.from({ length: 8 }, newId));
    await clock.advance(30_000);
    expect(hints.size).toBe(0);
    manager.configure({ ...settings, linksWanted: 2 });
    await clock.advance(2_000);
    expect(hints.size).toBe(2);
    for (const id of hints.values()) connect(id as NodeId);
    manager.configure({ ...settings, linksWanted: 0 });
    await clock.advance(12_000);
    expect(hints.size).toBe(0);
  });

  test("calls as many members as are wanted and gives up on those that never answer", async () => {
    const { clock, hints, members } = await setup({ linksWanted: 3 });
    for (let i = 0; i < 20; i++) members.push(newId());
    await clock.advance(3_000);
    expect(hints.size).toBe(3);
    const first = new Set(hints.values());
    await clock.advance(60_000);
    expect(hints.size).toBeGreaterThan(0);
    expect([...hints.values()].some((id) => first.has(id))).toBe(false);
  });

  test("nobody is called while there are enough links; the ring's neighbour aside", async () => {
    const { clock, hints, members, connect } = await setup({ linksWanted: 3 });
    for (let i = 0; i < 20; i++) members.push(newId());
    for (const id of members) connect(id);
    await clock.advance(60_000);
    expect(hints.size).toBe(0);
  });

  test("a link that came is kept wished for, and called again when it goes", async () => {
    const { clock, hints, members, connect, disconnect } = await setup({ linksWanted: 1 });
    members.push(newId());
    await clock.advance(3_000);
    connect(members[0]!);
    await clock.advance(120_000);
    expect(hints.size).toBe(1);
    disconnect(members[0]!);
    await clock.advance(10_000);
    expect(hints.size).toBe(1);
  });

  test("stopped, it leaves no timer", async () => {
    const { clock, scope } = await setup({ linksWanted: 3 });
    await clock.advance(100_000);
    await scope.close();
    expect(clock.nextAtMs()).toBeUndefined();
  });
});

test("links are wanted with members that are not blocked: such a one is not dialled, whoever names it", async () => {
  const { clock, members, hints, book } = await setup({ linksWanted: 3 });
  const [good, bad] = [newId(), newId()];
  members.push(good, bad);
  await Promise.all([
    book.setTrust(bad, { level: "blocked", by: "operator", reason: "" }),
    clock.advance(10),
  ]);
  await clock.advance(5_000);
  expect([...hints.values()]).toContain(good);
  expect([...hints.values()]).not.toContain(bad);
});
