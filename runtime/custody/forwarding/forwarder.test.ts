/** The forwarder alone, over a carrier that a test bends: what an event costs beside ten thousand bundles for others. */
import { beforeEach, describe, expect, test } from "bun:test";
import { ManualClock } from "../../kernel/clock.ts";
import type { BundleId, NodeId } from "../../kernel/ids.ts";
import { silentLog } from "../../kernel/log.ts";
import { Metrics } from "../../kernel/metrics.ts";
import { seededRandom } from "../../kernel/random.ts";
import { BundleKind, RefuseReason } from "../../wire/bundle.ts";
import { custodyLimitsDefault, type Carrier, type CustodyContext, type Holding } from "../context.ts";
import { testId } from "../testing.ts";
import { Forwarder } from "./forwarder.ts";

const OTHERS = 10_000;
const DAY_MS = 24 * 3_600_000;
const self = testId("self");
const destinations = Array.from({ length: 100 }, (_, i) => testId(`other ${i}`));
const neighbours = Array.from({ length: 20 }, (_, i) => testId(`neighbour ${i}`));
const [near, far, b, c] = [testId("near"), testId("far"), testId("b"), testId("c")] as const;

class Bench {
  readonly clock = new ManualClock();
  /** Next hop by destination. */
  readonly routes = new Map<NodeId, NodeId>();
  readonly sent: { to: NodeId; bytes: number }[] = [];
  readonly expired: BundleId[] = [];
  /** Ids of the holdings that anybody looked at since it was cleared. */
  readonly looked = new Set<BundleId>();
  readonly forwarder: Forwarder;
  hasRoom = true;
  #made = 0;

  constructor() {
    const { clock, routes } = this;
    const carrier: Carrier = {
      nextHop({ destination }, avoid) {
        const to = routes.get(destination);
        const isOpen = to !== undefined && !avoid(to);
        return isOpen ? { kind: "forward", to } : { kind: "wait", reason: "no route yet" };
      },
      isConnected: () => true,
      send: (to, _lane, frame) => this.hasRoom && this.sent.push({ to, bytes: frame.length }) > 0,
      sendPacket: () => "no_route",
      frameBytesMax: () => 64 * 1024,
      rttMs: () => 10,
      isReliable: () => true,
    };
    const seams: Partial<CustodyContext> = {
      self,
      clock,
      random: seededRandom(1),
      log: silentLog,
      metrics: new Metrics(),
      limits: custodyLimitsDefault,
      carrier,
    };
    this.forwarder = new Forwarder(seams as CustodyContext, {
      acknowledged() {},
      expired: ({ id }) => this.expired.push(id),
      offerEnded() {},
      gaveWay() {},
    });
  }

  /** A bundle in custody that notes who looks at it. */
  holding(destination: NodeId, more: Partial<Holding> = {}): Holding {
    const id = (this.#made++).toString(16).padStart(32, "0") as BundleId;
    const holding: Holding = {
      id,
      header: { kind: BundleKind.message, priority: 2, source: self, destination, lifetimeMs: DAY_MS },
      sealedBytes: 8,
      role: "source",
      trace: [],
      hops: 0,
      deadlineMs: this.clock.monotonicMs() + DAY_MS,
      state: "ready",
      wakeAtMs: Number.POSITIVE_INFINITY,
      load: () => new Uint8Array(8),
      waitReason: undefined,
      ...more,
    };
    const { looked } = this;
    return new Proxy(holding, {
      get(target, key) {
        looked.add(id);
        return target[key as keyof Holding];
      },
    });
  }

  add(destination: NodeId, more: Partial<Holding> = {}): Holding {
    const holding = this.holding(destination, more);
    this.forwarder.add(holding);
    return holding;
  }

  /** How many holdings `work` looked at. */
  async cost(work: () => unknown): Promise<number> {
    this.looked.clear();
    await work();
    return this.looked.size;
  }
}

describe("beside ten thousand bundles for others", () => {
  let bench: Bench;
  let forwarder: Forwarder;

  /** A third waits for a route, a third for a receipt, a third for an acknowledgement; to a hundred destinations. */
  beforeEach(() => {
    bench = new Bench();
    ({ forwarder } = bench);
    for (let i = 0; i < OTHERS; i++) {
      const destination = destinations[i % 100]!;
      if (i % 3 === 1) bench.add(destination);
      else {
        const neighbour = neighbours[i % 20]!;
        const more = i % 3 === 0 ? {} : ({ role: "relay", arrivedFrom: far } as const);
        bench.routes.set(destination, neighbour);
        const { id } = bench.add(destination, more);
        if (i % 3 === 0) forwarder.onAck(neighbour, [id]);
        bench.routes.delete(destination);
      }
    }
    expect(forwarder.count).toBe(OTHERS);
  });

  test("a new bundle, its acknowledgement and its end look at nothing else", async () => {
    bench.routes.set(b, near);
    let id: BundleId | undefined;
    expect(await bench.cost(() => ({ id } = bench.add(b)))).toBe(1);
    expect(await bench.cost(() => forwarder.onAck(near, [id!]))).toBe(1);
    expect(forwarder.get(id!)!.state).toBe("relayed");
    expect(await bench.cost(() => forwarder.retry(id!))).toBe(1);
    expect(await bench.cost(() => forwarder.remove(id!))).toBe(1);
  });

  test("a refusal, and the pause after it, look at what was refused", async () => {
    bench.routes.set(b, near);
    const { id } = bench.add(b);
    expect(await bench.cost(() => forwarder.onRefuse(near, id, RefuseReason.full, 5_000))).toBe(1);
    expect(forwarder.get(id)!.state).toBe("paused");
    const before = bench.sent.length;
    expect(await bench.cost(() => bench.clock.advance(6_000))).toBe(1);
    expect(bench.sent.length).toBe(before + 1);
  });

  test("a route that appears looks at what is for its destination", async () => {
    for (let i = 0; i < 5; i++) bench.add(b);
    bench.routes.set(b, near);
    expect(await bench.cost(() => forwarder.onRoute(b))).toBe(5);
    expect(await bench.cost(() => forwarder.onRoute(c))).toBe(0);
  });

  test("a neighbour that goes looks at what was under way to it", async () => {
    bench.routes.set(b, near);
    for (let i = 0; i < 5; i++) bench.add(b);
    bench.routes.delete(b);
    expect(await bench.cost(() => forwarder.onNeighbourDown(near))).toBe(5);
    expect(await bench.cost(() => forwarder.onNeighbourDown(far))).toBe(0);
  });

  test("a neighbour that comes back, or lost its store, looks at what it had acknowledged", async () => {
    bench.routes.set(near, near).set(b, near);
    const toIt = bench.add(near);
    const overIt = bench.add(b);
    forwarder.onAck(near, [toIt.id, overIt.id]);
    expect(await bench.cost(() => forwarder.onDestinationUp(near))).toBe(1);
    expect([toIt.state, overIt.state]).toEqual(["inflight", "relayed"]);
    expect(await bench.cost(() => forwarder.onStoreLost(near))).toBe(1);
    expect(overIt.state).toBe("inflight");
    expect(await bench.cost(() => forwarder.onStoreLost(far))).toBe(0);
  });

  test("a trial looks at what the suspect acknowledged for that destination", async () => {
    bench.routes.set(b, near);
    const waiting = [bench.add(b), bench.add(b)];
    const pinned = bench.add(b, { via: near });
    forwarder.onAck(
      near,
      [...waiting, pinned].map(({ id }) => id),
    );
    let found: Holding[] = [];
    expect(await bench.cost(() => (found = [...forwarder.awaiting(near, b)]))).toBe(3);
    expect(found).toEqual(waiting);
    expect([...forwarder.awaiting(near, c), ...forwarder.awaiting(far, b)]).toEqual([]);
  });

  test("time that passes looks at what it ends: a life, a pause, an answer overdue", async () => {
    bench.routes.set(b, near);
    bench.add(c, { deadlineMs: bench.clock.monotonicMs() + 1_000 });
    bench.add(b, { state: "paused", wakeAtMs: bench.clock.monotonicMs() + 2_000 });
    const sent = bench.sent.length;
    expect(await bench.cost(() => bench.clock.advance(900))).toBe(0);
    expect(await bench.cost(() => bench.clock.advance(200))).toBe(1);
    expect(bench.expired).toHaveLength(1);
    expect(await bench.cost(() => bench.clock.advance(1_000))).toBe(1);
    expect(bench.sent.length).toBe(sent + 1);
  });

  test("what is for a revoked node is found by its name", () => {
    const [first, second] = [bench.add(b), bench.add(b)];
    bench.looked.clear();
    expect([...forwarder.toward(b)]).toEqual([first, second]);
    expect(bench.looked.size).toBeLessThanOrEqual(2);
  });
});

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

  test("a bundle that goes takes its time along: nothing of a hundred thousand stays behind", async () => {
    const bench = new Bench();
    for (let i = 0; i < 100_000; i++) bench.forwarder.remove(bench.add(b).id);
    expect([bench.forwarder.count, bench.forwarder.bytes]).toEqual([0, 0]);
    await bench.clock.advance(2 * DAY_MS);
    expect(bench.expired).toEqual([]);
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
