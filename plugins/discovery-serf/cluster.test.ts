/** Whole clusters in virtual time: what members conclude of each other, and how soon. */
import { afterEach, describe, expect, test } from "bun:test";
import { type Fake, FakeCluster, grownCluster } from "./testing.ts";
import { encodeAlive, encodeDead, encodeSuspect } from "./wire/messages.ts";
import { OWN_VSN } from "./wire/types.ts";

let cluster: FakeCluster;
afterEach(() => cluster.close());

const grown = async (...how: Parameters<typeof grownCluster>): Promise<Fake[]> => {
  cluster = await grownCluster(...how);
  return [...cluster.members];
};

test("a member that dies is failed for all, within Serf's own time; one that leaves has left", async () => {
  const [a, b] = await grown(8);
  cluster.kill(a!);
  // As measured with real agents: 5.8 to 7.8 s for 5 to 25.
  const ms = await cluster.until("n0 failed", () => cluster.sees("n0", "failed"), 20_000);
  expect(ms).toBeGreaterThan(3_500);
  expect(ms).toBeLessThan(9_000);
  const leaving = b!.serf.leave();
  await cluster.run(3_000);
  await leaving;
  cluster.kill(b!);
  expect(cluster.sees("n1", "left")).toBe(true);
});

test("an accused one refutes", async () => {
  const [a, b, c] = await grown(3);
  const before = b!.serf.memberlist.members.self.incarnation;
  a!.serf.memberlist.packet(encodeSuspect({ incarnation: before, node: "n1", from: "n2" }), c!.at);
  await cluster.run(3_000);
  expect(b!.serf.memberlist.members.self.incarnation).toBeGreaterThan(before);
  a!.serf.memberlist.packet(encodeDead({ incarnation: before + 1, node: "n1", from: "n2" }), c!.at);
  await cluster.run(3_000);
  expect(cluster.sees("n1", "alive")).toBe(true);
});

test("a partition fails each half for the other, and heals by itself", async () => {
  const members = await grown(6);
  const half = new Set(members.slice(0, 3).map(({ at }) => at.address));
  cluster.passes = (from, to) => half.has(from.address) === half.has(to.address);
  await cluster.until("the halves", () => cluster.sees("n5", "failed", members.slice(0, 3)), 30_000);
  await cluster.until("the halves", () => cluster.sees("n0", "failed", members.slice(3)), 30_000);
  cluster.passes = () => true;
  await cluster.until(
    "whole",
    () => members.every((one) => cluster.sees(one.serf.memberlist.members.self.name, "alive")),
    120_000,
  );
});

test("where only streams pass, nobody is failed, it is said, and news go over streams", async () => {
  const members = await grown(4);
  cluster.passes = (_from, _to, kind) => kind === "stream";
  for (const { changes } of members) changes.length = 0;
  await cluster.until("said", () => members.every(({ blocked }) => blocked.length > 0), 60_000);
  members[0]!.serf.sendEvent("deploy", Uint8Array.of(1), false);
  await cluster.until("the event", () => members.every(({ events }) => events.length === 1), 20_000);
  expect(members.flatMap(({ changes }) => changes)).toEqual([]);
  cluster.passes = () => true;
  await cluster.until(
    "taken back",
    () => members.every(({ blocked }) => blocked.at(-1) === undefined),
    30_000,
  );
});

test("streams only: joins, fails and leaves without a datagram", async () => {
  const [a, b] = await grown(4, { isStreamsOnly: true });
  expect(cluster.datagrams).toBe(0);
  cluster.kill(a!);
  await cluster.until("failed", () => cluster.sees("n0", "failed"), 40_000);
  const leaving = b!.serf.leave();
  await cluster.run(3_000);
  await leaving;
  cluster.kill(b!);
  await cluster.until("left", () => cluster.sees("n1", "left"), 40_000);
  expect(cluster.datagrams).toBe(0);
});

describe("a name", () => {
  test("of one that moved while it was down, and of one that was failed, is taken from the new address", async () => {
    const members = await grown(5);
    cluster.kill(members[4]!);
    // It comes back before anybody noticed, from elsewhere.
    const again = cluster.add("n4", { at: { address: "192.0.2.77", port: 7_946 }, isOwn: true });
    await cluster.join(again, members[0]!.at);
    const isMoved = () =>
      cluster.members.every((one) => {
        const entry = one.serf.roll.get("n4");
        return entry?.status === "alive" && entry.at.address === "192.0.2.77";
      });
    await cluster.until("moved", isMoved, 10_000);
    // Another machine under the name of one that failed: not its own key.
    cluster.kill(again);
    await cluster.until("failed", () => cluster.sees("n4", "failed"), 30_000);
    const other = cluster.add("n4", { at: { address: "192.0.2.78", port: 7_946 } });
    await cluster.join(other, members[0]!.at);
    await cluster.until("replaced", () => cluster.sees("n4", "alive"), 10_000);
  });

  test("of one that is alive is not, and both say so", async () => {
    const [a] = await grown(3);
    const other = cluster.add("n1", { at: { address: "192.0.2.99", port: 7_946 } });
    await cluster.join(other, a!.at).catch(() => {});
    await cluster.run(5_000);
    expect(a!.serf.roll.get("n1")?.at.address).toBe("192.0.2.2");
    expect(a!.conflicts).toContain("n1 192.0.2.99");
    expect(other.conflicts).toContain("n1 (self) 192.0.2.2");
  });

  test("moves with its machine while it runs", async () => {
    const members = await grown(4);
    const to = { address: "192.0.2.50", port: 7_946 };
    const moving = members[3]!.serf.move(to, new Map([["role", "moved"]]));
    await cluster.run(1_000);
    await moving;
    expect(members.slice(0, 3).map(({ serf }) => serf.roll.get("n3")?.at.address)).toEqual([
      to.address,
      to.address,
      to.address,
    ]);
  });
});

test("events come once to all, also to those who come later only if they are new; queries are answered by those who are meant", async () => {
  const members = await grown(6);
  members[2]!.serf.sendEvent("deploy", Uint8Array.of(7), true);
  await cluster.until("the event", () => members.every(({ events }) => events.length === 1), 5_000);
  const late = cluster.add("late");
  await cluster.join(late, members[0]!.at);
  await cluster.run(2_000);
  expect(late.events).toEqual([]);
  const asking = members[0]!.serf.queries.ask("name", new Uint8Array(0), {
    nodes: ["n3", "late"],
    wantsAck: true,
    relayFactor: 2,
    timeoutMs: 2_000,
  });
  await cluster.run(2_100);
  const { acks, answers } = await asking;
  expect([...acks].sort()).toEqual(["late", "n3"]);
  expect(answers.map(({ from }) => from).sort()).toEqual(["late", "n3"]);
  const byTag = members[0]!.serf.queries.ask("name", new Uint8Array(0), {
    tags: new Map([["role", "^n[12]$"]]),
    timeoutMs: 2_000,
  });
  await cluster.run(2_100);
  expect((await byTag).answers.map(({ from }) => from).sort()).toEqual(["n1", "n2"]);
});

test("an event above 512 bytes, and a query above 1,024, are refused with their size", async () => {
  const [a] = await grown(1);
  expect(() => a!.serf.sendEvent("x", new Uint8Array(600), false)).toThrow("at most 512");
  await expect(a!.serf.queries.ask("x", new Uint8Array(1_100), { timeoutMs: 1 })).rejects.toThrow(
    "at most 1024",
  );
});

test("nothing is sent to addresses that are refused", async () => {
  cluster = new FakeCluster();
  const a = cluster.add("a", { refusal: (address) => (address === "127.0.0.1" ? "loopback" : undefined) });
  const sent: string[] = [];
  cluster.passes = (_from, to, kind) => {
    sent.push(`${kind} ${to.address}`);
    return true;
  };
  const alive = { incarnation: 1, meta: new Uint8Array(0), vsn: OWN_VSN };
  a.serf.memberlist.packet(
    encodeAlive({ ...alive, node: "x", at: { address: "127.0.0.1", port: 80 } }),
    a.at,
  );
  await cluster.run(40_000);
  expect(a.serf.roll.get("x")?.status).toBe("alive");
  expect(sent).toEqual([]);
});
