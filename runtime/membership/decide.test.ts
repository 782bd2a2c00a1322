import { expect, test } from "bun:test";
import fc from "fast-check";
import { decideMember, type Evidence } from "./decide.ts";

const calm: Evidence = {
  state: "alive",
  hasLeft: false,
  isReachable: true,
  isDoubted: false,
  isAccused: false,
  isLinkLost: false,
  isUnanswered: false,
  isOverdue: false,
};

const evidence: fc.Arbitrary<Evidence> = fc.record({
  state: fc.constantFrom("alive", "suspect", "failed", "left"),
  hasLeft: fc.boolean(),
  isReachable: fc.boolean(),
  isDoubted: fc.boolean(),
  isAccused: fc.boolean(),
  isLinkLost: fc.boolean(),
  isUnanswered: fc.boolean(),
  isOverdue: fc.boolean(),
});

test.each<[string, Partial<Evidence>, string, string]>([
  ["routes lead there", {}, "alive", "nothing"],
  ["routes came back", { state: "failed" }, "alive", "nothing"],
  ["it left", { hasLeft: true }, "left", "nothing"],
  ["accused but routed", { isAccused: true }, "suspect", "ping"],
  ["accused, failed before, routed again", { isAccused: true, state: "failed" }, "failed", "ping"],
  ["accused and unreachable", { isAccused: true, isReachable: false }, "failed", "nothing"],
  ["unreachable only", { isReachable: false }, "suspect", "wait"],
  ["unreachable for long", { isReachable: false, isOverdue: true }, "failed", "nothing"],
  ["own links silent", { isDoubted: true }, "suspect", "wait"],
  ["own links silent, and it left", { isDoubted: true, hasLeft: true }, "left", "nothing"],
  ["own link lost, others lead there", { isLinkLost: true }, "alive", "ping"],
  ["own pings unanswered, somebody claims a route", { isUnanswered: true }, "failed", "ping"],
])("%s", (_, given, state, next) => {
  const { state: found, next: then } = decideMember({ ...calm, ...given });
  expect([found as string, then as string]).toEqual([state, next]);
});

test("without loss of route or of this node's own pings nobody becomes failed, whatever is claimed", () => {
  fc.assert(
    fc.property(evidence, (given) => {
      fc.pre(given.state !== "failed" && given.isReachable && !given.isUnanswered);
      expect(decideMember(given).state).not.toBe("failed");
    }),
  );
});

test("who is not known to live is always looked for, unless it left or is gone", () => {
  fc.assert(
    fc.property(evidence, (given) => {
      const { state, next } = decideMember(given);
      if (state === "suspect" || (state === "failed" && given.isReachable)) expect(next).not.toBe("nothing");
    }),
  );
});
