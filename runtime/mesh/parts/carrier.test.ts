import { expect, test } from "bun:test";
import { ManualClock } from "../../kernel/clock.ts";
import { seededRandom } from "../../kernel/random.ts";
import { generateIdentity } from "../../identity/keys.ts";
import { encodeBeacon } from "../../wire/route-messages.ts";
import { Mesh } from "../mesh.ts";
import type { MeshParts } from "../seen.ts";
import { depsFor, neighbour, settled } from "../testing.ts";
import { createCarrier } from "./carrier.ts";

test("ways over slow links alone are slow, as to everybody over the gateway of an edge node", async () => {
  const clock = new ManualClock();
  const { deps, identity, random } = await depsFor(clock, 1);
  const mesh = await settled(clock, Mesh.open(deps));
  mesh.start();
  const [far, stranger] = [generateIdentity(random), generateIdentity(random)];
  const carrier = createCarrier(identity.id, mesh, () => false);
  const ways = () => [far.id, stranger.id].map((id) => carrier.isSlow(id));
  const session = neighbour(clock, mesh, identity.id, far, "slow");
  expect(ways()).toEqual([false, false]);
  session.receive(encodeBeacon({ seqno: 1, hasProof: true, gatewayMetric: 10 }));
  await clock.advance(10);
  expect(ways()).toEqual([true, true]);
  session.close();
  await clock.advance(1_000);
  expect(ways()).toEqual([false, false]);
  await settled(clock, mesh.stop());
});

test("one way that is fit for bulk is enough not to be slow, and no way is none", () => {
  const { id } = generateIdentity(seededRandom(7));
  const isSlow = (any: number, bulk: number, bottleneck = 2): boolean => {
    const nextHops = (_: unknown, plane: "any" | "bulk") =>
      Array.from({ length: { any, bulk }[plane] }, () => ({ bottleneck }));
    return createCarrier(id, { router: { nextHops } } as unknown as MeshParts, () => false).isSlow(id);
  };
  expect([isSlow(2, 0), isSlow(2, 1), isSlow(1, 1), isSlow(0, 0)]).toEqual([true, false, false, false]);
  // The way for bulk is not there yet, and no link of the other is slow.
  expect(isSlow(2, 0, 0)).toBe(false);
});
