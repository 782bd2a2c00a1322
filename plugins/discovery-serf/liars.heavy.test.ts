/** A member that lies of thousands, again and again. */
import { expect, test } from "bun:test";
import { FakeCluster } from "./testing.ts";
import { encodePushPull } from "./wire/messages.ts";
import { OWN_VSN } from "./wire/types.ts";

const liar = { address: "192.0.2.99", port: 7_946 };
const empty = new Uint8Array(0);

test("states with news of thousands are taken to a bound, and what is no news does not count", async () => {
  const cluster = new FakeCluster();
  const a = cluster.add("a");
  await cluster.join(cluster.add("b"), a.at);
  const stateOf = (incarnation: number) =>
    encodePushPull(
      Array.from({ length: 4_000 }, (_, i) => {
        const at = { address: "198.51.100.1", port: 7_946 };
        return { incarnation, node: `n${i}`, at, meta: empty, vsn: OWN_VSN, state: 0 as const };
      }),
      empty,
      false,
    );
  const same = stateOf(1);
  for (let i = 0; i < 20; i++) a.serf.memberlist.stream(same, liar);
  const refused = () => a.dropped.filter((reason) => reason === "rate").length;
  expect(refused()).toBe(0);
  for (let incarnation = 2; incarnation < 40; incarnation++)
    a.serf.memberlist.stream(stateOf(incarnation), liar);
  expect(refused()).toBeGreaterThan(140_000);
  await cluster.run(2_000);
  const c = cluster.add("c");
  await cluster.join(c, a.at);
  expect(a.serf.roll.get("c")?.status).toBe("alive");
  cluster.close();
});
