/** The forwarder alone, over a carrier that a test bends: what an event costs beside ten thousand bundles for others. */
import { describe, expect, test } from "bun:test";
import { testId } from "../testing.ts";
import { near, far, b, c, Bench } from "./testing-forwarder.ts";

describe("a full window", () => {
  test("room for one does not look at every destination that waits for it", async () => {
    const bench = new Bench();
    const { forwarder } = bench;
    const many = Array.from({ length: 2_000 }, (_, i) => testId(`d${i}`));
    for (const destination of many) bench.routes.set(destination, near);
    const [first] = many.map((destination) => bench.add(destination));
    expect(bench.sent).toHaveLength(512);
    expect(await bench.cost(() => forwarder.onAck(near, [first!.id]))).toBeLessThan(10);
    expect(bench.sent).toHaveLength(513);
  });

  test("each destination that waits has its turn", () => {
    const bench = new Bench();
    const { forwarder } = bench;
    bench.routes.set(b, near).set(c, near);
    const flood = Array.from({ length: 1_500 }, () => bench.add(b));
    const one = bench.add(c);
    forwarder.onAck(
      near,
      flood.slice(0, 512).map(({ id }) => id),
    );
    forwarder.onAck(near, [flood[512]!.id]);
    expect(one.state).toBe("inflight");
  });
});

describe("what waits for no event", () => {
  test("a link without room is asked again soon, though its drain came first", async () => {
    const bench = new Bench();
    bench.routes.set(b, near);
    bench.hasRoom = false;
    const holding = bench.add(b);
    expect([holding.state, holding.waitReason]).toEqual(["ready", "waiting for room on the link"]);
    bench.hasRoom = true;
    await bench.clock.advance(300);
    expect([holding.state, bench.sent.length]).toEqual(["inflight", 1]);
  });

  test("an answer that never comes is given up, and the bundle goes again", async () => {
    const bench = new Bench();
    bench.routes.set(b, near);
    const holding = bench.add(b);
    await bench.clock.advance(19_000);
    expect(bench.sent).toHaveLength(1);
    await bench.clock.advance(2_000);
    expect([bench.sent.length, holding.state, holding.relayedTo]).toEqual([2, "inflight", near]);
    bench.forwarder.stop();
  });

  test("mail that waits when an edge node gets a gateway goes at once", () => {
    const bench = new Bench();
    const holding = bench.add(b);
    expect(holding.state).toBe("ready");
    bench.routes.set(b, near);
    bench.forwarder.onDefaultRoute();
    expect(holding.state).toBe("inflight");
  });
});

test("a bundle that came back while it was handed on is not ended by the acknowledgement of that: it went round a circle", async () => {
  const bench = new Bench();
  const { forwarder, routes } = bench;
  routes.set(far, near);
  const round = bench.holding(far, { role: "relay" });
  forwarder.add(round);
  expect(bench.sent.map(({ to }) => to)).toEqual([near]);
  // It came back on the other side, and whoever brought it was told that it is here.
  forwarder.retake(round.id);
  forwarder.onAck(near, [round.id]);
  expect(forwarder.get(round.id)).toBe(round);
  // The same neighbour is asked again, and that counts.
  await bench.clock.advance(60_000);
  expect(bench.sent.length).toBeGreaterThan(1);
  forwarder.onAck(near, [round.id]);
  expect(forwarder.get(round.id)).toBeUndefined();
});
