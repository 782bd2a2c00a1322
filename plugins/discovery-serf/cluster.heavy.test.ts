/** Clusters of dozens and of many seeds in virtual time, and a flood of names. */
import { afterEach, expect, test } from "bun:test";
import { type Fake, FakeCluster, grownCluster } from "./testing.ts";
import { encodeAlive } from "./wire/messages.ts";
import { OWN_VSN } from "./wire/types.ts";

let cluster: FakeCluster;
afterEach(() => cluster.close());

const grown = async (...how: Parameters<typeof grownCluster>): Promise<Fake[]> => {
  cluster = await grownCluster(...how);
  return [...cluster.members];
};

test.each([
  [2, 60],
  [7, 20],
])(
  "of %i who died one is removed while another leaves: neither is lost, whatever goes where (%i seeds)",
  async (dead, seeds) => {
    const lost: string[] = [];
    for (let seed = 1; seed <= seeds; seed++) {
      const members = await grown(3 + dead, {}, seed);
      const [a, b, c, ...dying] = members as [Fake, Fake, Fake, ...Fake[]];
      for (const one of dying) cluster.kill(one);
      const names = dying.map((_, index) => `n${index + 3}`);
      await cluster.until("failed", () => names.every((name) => cluster.sees(name, "failed")), 60_000);
      a.serf.remove("n3", false);
      const leaving = c.serf.leave();
      await cluster.run(3_000);
      await leaving;
      cluster.kill(c);
      for (const name of ["n2", "n3"]) if (!cluster.sees(name, "left", [a, b])) lost.push(`${seed}: ${name}`);
      if (!cluster.sees("n4", "failed", [a, b])) lost.push(`${seed}: n4`);
      cluster.close();
    }
    expect(lost).toEqual([]);
  },
  60_000,
);

test("24 who join at one moment all see each other within three seconds, whatever news are lost", async () => {
  for (let seed = 1; seed <= 40; seed++) {
    cluster = new FakeCluster(seed);
    cluster.loss = 0.2;
    for (let i = 0; i < 25; i++) cluster.add(`n${i}`);
    const [first, ...others] = cluster.members as [Fake, ...Fake[]];
    for (const member of others) void member.serf.join(first.at);
    const isWhole = () =>
      cluster.members.every((one) => cluster.sees(one.serf.memberlist.members.self.name, "alive"));
    await cluster.until("all see all", isWhole, 3_000);
    cluster.close();
  }
}, 60_000);

test("25 members at rest: nobody is failed by a fifth of datagrams that are lost", async () => {
  const members = await grown(25);
  cluster.loss = 0.2;
  for (const { changes } of members) changes.length = 0;
  await cluster.run(60_000);
  expect(members.flatMap(({ changes }) => changes)).toEqual([]);
}, 30_000);

test("ten thousand names that nobody bears are 4,096 members at most, and the living stay", async () => {
  const [a] = await grown(3);
  for (let i = 0; i < 10_000; i++)
    a!.serf.memberlist.packet(
      encodeAlive({
        incarnation: 1,
        node: `liar-${i}`,
        at: { address: "198.51.100.1", port: 1 },
        meta: new Uint8Array(0),
        vsn: OWN_VSN,
      }),
      { address: "198.51.100.1", port: 1 },
    );
  expect(a!.serf.memberlist.members.size).toBe(4_096);
  expect(a!.serf.roll.size).toBe(4_096);
  expect(a!.dropped.filter((reason) => reason === "members").length).toBeGreaterThan(5_000);
  expect(["n0", "n1", "n2"].map((name) => a!.serf.roll.get(name)?.status)).toEqual([
    "alive",
    "alive",
    "alive",
  ]);
});
