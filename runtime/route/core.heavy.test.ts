/** What the core leaves out of a selection changes nothing: twins, of which one always selects anew. */
import { expect, test } from "bun:test";
import fc from "fast-check";
import { ManualClock } from "../kernel/clock.ts";
import { formatNodeId } from "../kernel/ids.ts";
import { silentLog } from "../kernel/log.ts";
import { seededRandom } from "../kernel/random.ts";
import type { Bottleneck } from "../wire/constants.ts";
import { METRIC_INFINITE, UNREACHABLE } from "../wire/route-messages.ts";
import { NO_ROW } from "./candidates.ts";
import { RouteCore } from "./core.ts";
import { routeLimits } from "./limits.ts";
import { Neighbour, type LinkCost } from "./neighbour.ts";
import { retest } from "./select.ts";
import { planeNames, type Destination } from "./table.ts";

const NEIGHBOURS = 20;
const idOf = (n: number) => formatNodeId(new Uint8Array(32).fill(n));
const linkOf = (cost: number): LinkCost => ({ cost, mtu: 1_300, bottleneck: 0, profile: "fast" });

class Twin {
  readonly core: RouteCore;
  readonly destination: Destination;
  readonly neighbours: Neighbour[];
  selections = 0;

  constructor(clock: ManualClock) {
    this.core = new RouteCore(
      {
        self: idOf(255),
        network: "test",
        bootEpoch: 1,
        clock,
        random: seededRandom(1),
        log: silentLog,
        sign: () => new Uint8Array(64),
        verify: () => true,
        send() {},
        malformed() {},
        onChange() {},
        ownRecord: () => undefined,
        knownRecord: () => undefined,
        onRecord: () => true,
        outrun: () => undefined,
      },
      routeLimits,
    );
    this.neighbours = Array.from({ length: NEIGHBOURS }, (_, n) => {
      const neighbour = new Neighbour(idOf(n + 1), "boot", linkOf(1 + n), n + 1);
      this.core.table.candidates.enter(neighbour);
      this.core.neighbours.set(neighbour.id, neighbour);
      return neighbour;
    });
    // Some destinations are neighbours themselves; this one is the last of them.
    this.destination = this.core.addDestination(idOf(NEIGHBOURS), idOf(1));
  }

  rowOf(n: number): number {
    return this.core.table.candidates.find(this.destination.list, this.neighbours[n]!);
  }

  get shown() {
    return planeNames.map((plane) => {
      const { primary, hops, selected, infeasible, betterSinceMs, clearSinceMs } = this.destination[plane];
      return { primary: primary?.id, hops, selected, infeasible, betterSinceMs, clearSinceMs };
    });
  }
}

const route = fc.record({
  seqno: fc.constantFrom(1, 2, 2 ** 32 - 1, 2 ** 32, 2 ** 48 - 1),
  metric: fc.constantFrom(0, 4, 5, 6, 20, 40, 2 ** 27, METRIC_INFINITE - 2, METRIC_INFINITE - 1),
  mtu: fc.constantFrom(1_200, 1_400),
  bottleneck: fc.constantFrom<Bottleneck>(0, 1, 2),
});
const maybeRoute = fc.oneof(
  { weight: 5, arbitrary: route },
  { weight: 1, arbitrary: fc.constant(UNREACHABLE) },
);
const step = fc.record({
  what: fc.constantFrom(
    "put",
    "put",
    "put",
    "both",
    "drop",
    "price",
    "suspect",
    "advertise",
    "wait",
    "leave",
    "quarantine",
    "linkclass",
  ),
  who: fc.nat({ max: NEIGHBOURS - 1 }),
  any: maybeRoute,
  bulk: maybeRoute,
  n: fc.constantFrom(1, 1, 2, 3, 5, 20, 40, 2 ** 31),
});

test("a row that the last selection passed over comes, changes and goes without another, and nothing is chosen otherwise", () => {
  let skipped = 0;
  fc.assert(
    fc.property(fc.array(step, { minLength: 60, maxLength: 400 }), (steps) => {
      const clock = new ManualClock();
      const quick = new Twin(clock);
      const slow = new Twin(clock);
      for (const { what, who, any, bulk: other, n } of steps) {
        const bulk = what === "both" ? any : other.bottleneck === 2 ? UNREACHABLE : other;
        const hopsBefore = quick.destination.any.hops;
        if (what === "put" || what === "both") {
          quick.core.put(quick.destination, quick.neighbours[who]!, quick.rowOf(who), 1, any, bulk);
          const row = slow.rowOf(who);
          slow.core.table.candidates.put(slow.destination.list, slow.neighbours[who]!, row, 1, any, bulk);
          slow.core.reselect(slow.destination);
          if (quick.destination.any.hops === hopsBefore) skipped++;
        } else if (what === "drop") {
          quick.core.dropCandidate(quick.destination, quick.neighbours[who]!);
          if (slow.core.table.candidates.drop(slow.destination.list, slow.neighbours[who]!))
            slow.core.reselect(slow.destination);
        } else if (what === "price") {
          quick.core.reprice(quick.neighbours[who]!, linkOf(n));
          slow.neighbours[who]!.link = linkOf(n);
          if (slow.rowOf(who) !== NO_ROW) slow.core.reselect(slow.destination);
        } else if (what === "linkclass") {
          const link = { ...linkOf(n), bottleneck: (n % 3) as Bottleneck, mtu: 1_000 + (n % 7) };
          quick.core.reprice(quick.neighbours[who]!, link);
          slow.neighbours[who]!.link = link;
          if (slow.rowOf(who) !== NO_ROW) slow.core.reselect(slow.destination);
        } else if (what === "quarantine") {
          for (const { core, destination, neighbours } of [quick, slow]) {
            neighbours[who]!.isQuarantined = n % 2 === 0;
            core.reselect(destination);
          }
        } else if (what === "leave") {
          quick.core.dropCandidate(quick.destination, quick.neighbours[who]!);
          if (slow.core.table.candidates.drop(slow.destination.list, slow.neighbours[who]!))
            slow.core.reselect(slow.destination);
          for (const twin of [quick, slow]) {
            const old = twin.neighbours[who]!;
            twin.core.neighbours.delete(old.id);
            twin.core.table.candidates.leave(old);
            const fresh = new Neighbour(old.id, "boot", linkOf(n), 77);
            twin.core.table.candidates.enter(fresh);
            twin.core.neighbours.set(fresh.id, fresh);
            twin.neighbours[who] = fresh;
          }
        } else if (what === "suspect") {
          for (const { core, destination, neighbours } of [quick, slow]) {
            const row = core.table.candidates.find(destination.list, neighbours[who]!);
            if (row === NO_ROW) continue;
            core.table.candidates.setSuspect(destination.list, row, n % 2 === 0);
            core.reselect(destination);
          }
        } else if (what === "advertise") {
          const plane = planeNames[n % 2]!;
          for (const { core, destination } of [quick, slow]) {
            const state = destination[plane];
            if (state.primary !== undefined && state.advertise(state.selected))
              retest(core.table.candidates, destination, plane);
          }
        } else {
          const untilMs = clock.monotonicMs() + (n % 1000) * 100;
          while (clock.runNext(untilMs));
          clock.jumpTo(untilMs);
        }
        // Not `expect` alone: it would take most of the time of a hundred thousand steps.
        const [ours, theirs] = [quick.shown, slow.shown];
        if (!Bun.deepEquals(ours, theirs)) expect(ours).toEqual(theirs);
      }
      quick.core.close();
      slow.core.close();
    }),
    { numRuns: 600 },
  );
  expect(skipped).toBeGreaterThan(100);
});
