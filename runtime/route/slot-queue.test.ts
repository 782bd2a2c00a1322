/** The queues of slots through the neighbour that owns their bits: against plain sets, few and many. */
import { expect, test } from "bun:test";
import fc from "fast-check";
import type { NodeId } from "../kernel/ids.ts";
import { Neighbour } from "./neighbour.ts";

const link = { cost: 1, mtu: 1_300, bottleneck: 0, profile: "fast" } as const;
const step = fc.record({
  what: fc.constantFrom("soon", "soon", "lazy", "many", "promote", "drain", "reset", "anew"),
  slot: fc.nat(60),
  count: fc.nat(700),
});

test("a slot that went to another destination while it waited is told of that one all the same", () => {
  const neighbour = new Neighbour("a" as NodeId, "boot", link, 1);
  neighbour.markSoon(7);
  neighbour.resetSlot(7);
  neighbour.markLazy(7);
  neighbour.drainSoon(() => true);
  neighbour.promoteLazy();
  const told: number[] = [];
  neighbour.drainSoon((slot) => told.push(slot) > 0);
  expect(told).toEqual([7]);
});

test("whatever waits is handed over once, few as many, and marks made meanwhile count", () => {
  fc.assert(
    fc.property(fc.array(step, { maxLength: 60 }), (steps) => {
      const neighbour = new Neighbour("a" as NodeId, "boot", link, 1);
      const soon = new Set<number>();
      const lazy = new Set<number>();
      for (const { what, slot, count } of steps) {
        if (what === "soon" || what === "many") {
          const last = what === "soon" ? slot : slot + count;
          for (let each = slot; each <= last; each++) {
            neighbour.markSoon(each);
            soon.add(each);
            lazy.delete(each);
          }
        } else if (what === "lazy") {
          for (let each = slot; each <= slot + count; each++) {
            neighbour.markLazy(each);
            if (!soon.has(each)) lazy.add(each);
          }
        } else if (what === "promote") {
          neighbour.promoteLazy();
          for (const each of lazy) soon.add(each);
          lazy.clear();
        } else if (what === "reset") {
          neighbour.resetSlot(slot);
          soon.delete(slot);
          lazy.delete(slot);
        } else if (what === "anew") {
          neighbour.resetSending();
          soon.clear();
          lazy.clear();
        } else {
          let left = count;
          let again = slot;
          neighbour.drainSoon((each) => {
            if (left-- === 0) return false;
            expect(soon.delete(each)).toBe(true);
            // What changes while it is handed over waits anew.
            if (again-- === 0) {
              neighbour.markSoon(each);
              soon.add(each);
            }
            return true;
          });
          if (left >= 0) expect(soon.size).toBe(0);
        }
        expect(neighbour.soonCount).toBeGreaterThanOrEqual(soon.size);
      }
      const rest = new Set<number>();
      neighbour.promoteLazy();
      neighbour.drainSoon((each) => {
        expect(rest.has(each)).toBe(false);
        rest.add(each);
        return true;
      });
      expect(rest).toEqual(new Set([...soon, ...lazy]));
      expect([neighbour.soonCount, neighbour.isSettled]).toEqual([0, true]);
    }),
  );
});
