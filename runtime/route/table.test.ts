/** The table against a slow reference, and its invariants under random histories. */
import { describe, expect, test } from "bun:test";
import fc from "fast-check";
import { formatNodeId, type NodeId } from "../kernel/ids.ts";
import type { Bottleneck } from "../wire/constants.ts";
import { METRIC_INFINITE, UNREACHABLE, type PlaneRoute } from "../wire/route-messages.ts";
import { routeLimits } from "./limits.ts";
import { Neighbour } from "./neighbour.ts";
import { Candidates } from "./candidates.ts";
import { addCost, Change, retest, select as selectIn } from "./select.ts";
import { Destination, PlaneState, RouteTable, type PlaneName } from "./table.ts";

const idOf = (n: number): NodeId => formatNodeId(new Uint8Array(32).fill(n));
const loose = { ...routeLimits, switchRatio: 1, switchUnits: 0 };
const route = (metric: number, seqno = 10, bottleneck: Bottleneck = 0): PlaneRoute => ({
  seqno,
  metric,
  mtu: 1_400,
  bottleneck,
});
const neighbour = (n: number, cost: number, bottleneck: Bottleneck = 0) =>
  new Neighbour(idOf(n), "boot", { cost, mtu: 1_300, bottleneck, profile: "fast" }, n);

/** A destination with the columns that its candidates stand in. */
class Offered extends Destination {
  readonly columns = new Candidates();
  readonly neighbours: Neighbour[] = [];

  offer(from: Neighbour, any: PlaneRoute, bulk: PlaneRoute = UNREACHABLE): void {
    if (from.handle < 0) {
      this.columns.enter(from);
      this.neighbours.push(from);
    }
    this.columns.put(this.list, from, this.columns.find(this.list, from), 1, any, bulk);
  }

  offerOf(from: Neighbour): PlaneRoute {
    return this.columns.anyAt(this.columns.find(this.list, from));
  }
}

const select = (destination: Offered, plane: PlaneName, nowMs: number, limits: typeof routeLimits) =>
  selectIn(destination.columns, destination, plane, nowMs, limits);

function build(
  rows: readonly { any: PlaneRoute; bulk?: PlaneRoute; cost: number; bottleneck?: Bottleneck }[],
) {
  const destination = new Offered(idOf(200), 0, 0);
  destination.reachableSinceMs = 0;
  rows.forEach((row, i) => {
    destination.offer(neighbour(i + 1, row.cost, row.bottleneck), row.any, row.bulk);
  });
  return destination;
}

describe("feasibility", () => {
  const cases: [string, number, number, PlaneRoute, boolean][] = [
    ["no distance: anything finite", -1, METRIC_INFINITE, route(5_000), true],
    ["strictly less", 10, 100, route(99), true],
    ["equal is not less", 10, 100, route(100), false],
    ["more", 10, 100, route(101), false],
    ["newer number, more", 10, 100, route(5_000, 11), true],
    ["older number, less", 10, 100, route(1, 9), false],
    ["unreachable", -1, METRIC_INFINITE, UNREACHABLE, false],
  ];
  test.each(cases)("%s", (_name, fdSeqno, fdMetric, offered, feasible) => {
    const state = new PlaneState();
    state.fdSeqno = fdSeqno;
    state.fdMetric = fdMetric;
    expect(state.isFeasible(offered)).toBe(feasible);
  });

  test("a distance never gets worse, whatever is advertised", () => {
    const step = fc.record({
      seqno: fc.integer({ min: 0, max: 5 }),
      metric: fc.integer({ min: 0, max: 50 }),
    });
    fc.assert(
      fc.property(fc.array(step, { maxLength: 40 }), (steps) => {
        const state = new PlaneState();
        for (const { seqno, metric } of steps) {
          const before = { seqno: state.fdSeqno, metric: state.fdMetric };
          const offered = route(metric, seqno);
          state.advertise(offered);
          expect(state.isFeasible(offered)).toBe(false);
          const isNoWorse =
            state.fdSeqno > before.seqno ||
            (state.fdSeqno === before.seqno && state.fdMetric <= before.metric);
          expect(isNoWorse).toBe(true);
        }
      }),
    );
  });
});

describe("select", () => {
  test("four cheapest feasible, best first; costs overflow into unreachable", () => {
    const rows = fc.array(
      fc.record({
        metric: fc.oneof(
          fc.integer({ min: 0, max: 200 }),
          fc.integer({ min: METRIC_INFINITE - 50, max: METRIC_INFINITE }),
        ),
        seqno: fc.integer({ min: 9, max: 11 }),
        cost: fc.integer({ min: 1, max: 100 }),
        bottleneck: fc.constantFrom<Bottleneck>(0, 1, 2),
      }),
      { maxLength: 9 },
    );
    const distance = fc.record({
      seqno: fc.integer({ min: -1, max: 11 }),
      metric: fc.integer({ min: 1, max: 220 }),
    });
    fc.assert(
      fc.property(rows, distance, fc.constantFrom("any", "bulk"), (offers, fd, plane) => {
        const destination = build(
          offers.map(({ metric, seqno, cost, bottleneck }) => {
            const offered = metric >= METRIC_INFINITE ? UNREACHABLE : route(metric, seqno);
            return { any: offered, bulk: offered, cost, bottleneck };
          }),
        );
        const state = destination[plane];
        state.fdSeqno = fd.seqno;
        state.fdMetric = fd.seqno < 0 ? METRIC_INFINITE : fd.metric;
        select(destination, plane, 0, loose);
        const want = destination.neighbours
          .filter(
            (each) =>
              state.isFeasible(destination.offerOf(each)) &&
              !(plane === "bulk" && each.link.bottleneck === 2),
          )
          .map((each) => ({
            neighbour: each.id,
            metric: destination.offerOf(each).metric + each.link.cost,
          }))
          .filter(({ metric }) => metric < METRIC_INFINITE)
          .sort((a, b) => a.metric - b.metric || (a.neighbour < b.neighbour ? -1 : 1))
          .slice(0, 4);
        expect(state.hops.map(({ neighbour: id, metric }) => ({ neighbour: id, metric }))).toEqual(want);
        expect(state.selected.metric).toBe(want[0]?.metric ?? METRIC_INFINITE);
      }),
    );
  });

  test("after advertising, every next hop is strictly below the distance, and the primary stays", () => {
    const rows = fc.array(
      fc.record({
        metric: fc.integer({ min: 0, max: 60 }),
        seqno: fc.integer({ min: 9, max: 10 }),
        cost: fc.integer({ min: 1, max: 30 }),
      }),
      {
        minLength: 1,
        maxLength: 8,
      },
    );
    fc.assert(
      fc.property(rows, (offers) => {
        const destination = build(
          offers.map(({ metric, seqno, cost }) => ({ any: route(metric, seqno), cost })),
        );
        select(destination, "any", 0, routeLimits);
        const primary = destination.any.primary;
        if (destination.any.advertise(destination.any.selected))
          retest(destination.columns, destination, "any");
        expect(destination.any.hops[0]!.neighbour).toBe(primary!.id);
        for (const hop of destination.any.hops) {
          const by = destination.neighbours.find((each) => each.id === hop.neighbour)!;
          expect(destination.any.isFeasible(destination.offerOf(by))).toBe(true);
        }
      }),
    );
  });

  test("mtu is the path's smallest and the class its worst", () => {
    const destination = build([{ any: { seqno: 1, metric: 5, mtu: 9_000, bottleneck: 1 }, cost: 2 }]);
    select(destination, "any", 0, routeLimits);
    expect(destination.any.selected).toEqual({ seqno: 1, metric: 7, mtu: 1_300, bottleneck: 1 });
  });

  test("names the change, so that it is told with the right haste", () => {
    const destination = build([{ any: route(100), cost: 10 }]);
    const after = (any: PlaneRoute) => {
      destination.offer(destination.neighbours[0]!, any);
      return select(destination, "any", 10_000, routeLimits);
    };
    expect(after(route(100))).toBe(Change.soon);
    expect(after(route(100))).toBe(Change.none);
    expect(after(route(90))).toBe(Change.decrease);
    expect(after(route(95))).toBe(Change.soon);
    expect(after(route(95, 11))).toBe(Change.decrease);
    expect(after({ ...route(90, 11), mtu: 500 })).toBe(Change.soon);
    expect(after(UNREACHABLE)).toBe(Change.retracted);
    expect(after(UNREACHABLE)).toBe(Change.none);
  });

  test("hysteresis: 25 % and 3 units, sustained; at once when the held one goes", () => {
    const destination = build([
      { any: route(100), cost: 10 },
      { any: route(200), cost: 10 },
    ]);
    const [first, second] = destination.neighbours;
    const at = (nowMs: number, metric: number) => {
      destination.offer(second!, route(metric));
      select(destination, "any", nowMs, routeLimits);
      return destination.any.primary === second ? "second" : "first";
    };
    expect(at(10_000, 200)).toBe("first");
    expect(at(11_000, 80)).toBe("first"); // 90 against 110: not 25 %
    expect(at(14_000, 70)).toBe("first"); // enough, but new
    expect(at(16_000, 85)).toBe("first"); // no longer: starts over
    expect(at(17_000, 70)).toBe("first");
    expect(at(19_900, 70)).toBe("first");
    expect(at(20_000, 70)).toBe("second");
    destination.offer(second!, UNREACHABLE);
    select(destination, "any", 20_001, routeLimits);
    expect(destination.any.primary).toBe(first);
  });

  test("what a cold start measured wrong does not stand for ever: any cheaper way is taken once it was so for 10 s", () => {
    const destination = build([
      { any: route(100), cost: 10 },
      { any: route(90), cost: 10 },
    ]);
    const [, second] = destination.neighbours;
    destination.any.primary = destination.neighbours[0];
    const at = (nowMs: number, metric: number) => {
      destination.offer(second!, route(metric));
      select(destination, "any", nowMs, routeLimits);
      return destination.any.primary === second ? "second" : "first";
    };
    expect(at(10_000, 90)).toBe("first");
    expect(at(19_900, 96)).toBe("first");
    expect(at(19_950, 98)).toBe("first"); // less than 3 units: starts over
    expect(at(20_100, 90)).toBe("first");
    expect(at(30_000, 90)).toBe("first");
    expect(at(30_100, 90)).toBe("second");
  });

  test("a metric grows at each hop or becomes infinite", () => {
    fc.assert(
      fc.property(
        fc.integer({ min: 0, max: METRIC_INFINITE - 1 }),
        fc.integer({ min: 1, max: 2 ** 26 }),
        (metric, cost) => {
          const sum = addCost(metric, cost);
          expect(sum > metric && sum <= METRIC_INFINITE).toBe(true);
        },
      ),
    );
  });
});

test("slots are given again, and a full table says so", () => {
  const table = new RouteTable(() => 2);
  const first = table.add(idOf(1), 0);
  table.add(idOf(2), 0);
  expect(table.isFull).toBe(true);
  table.remove(first);
  expect([table.isFull, table.at(first.slot), table.get(first.id)]).toEqual([false, undefined, undefined]);
  expect(table.add(idOf(3), 0).slot).toBe(first.slot);
  expect(table.slots).toBe(2);
});
