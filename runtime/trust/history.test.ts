import { describe, expect, test } from "bun:test";
import { addHistory, noHistory, planTrust, PROMOTED_MAX, scoreOf, type PeerHistory } from "./history.ts";

const HOUR_MS = 3_600_000;
const good: PeerHistory = { ...noHistory, linkedMs: 30 * HOUR_MS, knownMs: 31 * HOUR_MS, deliveries: 20 };
const rules = { promoteAfterMs: 24 * HOUR_MS, promoted: 0 };
const member = (history: PeerHistory) => ({ level: "member", by: "default", history }) as const;

describe("score", () => {
  test("presence times honesty, halved for each lie", () => {
    expect(scoreOf(noHistory)).toBe(0);
    expect(scoreOf({ ...noHistory, linkedMs: 50, knownMs: 100 })).toBe(0.5);
    expect(scoreOf({ ...noHistory, linkedMs: 100, knownMs: 100, deliveries: 4, losses: 8 })).toBe(0.5);
    expect(scoreOf({ ...good, lies: 1 })).toBeCloseTo(scoreOf(good) / 2);
  });

  test("an old history fades, and keeps its proportions", () => {
    const month = { ...noHistory, linkedMs: 600 * HOUR_MS, knownMs: 720 * HOUR_MS, lies: 2 };
    const next = addHistory(month, { knownMs: HOUR_MS });
    expect(next.knownMs).toBe(360.5 * HOUR_MS);
    expect(next.lies).toBe(1);
  });
});

describe("what the manager does", () => {
  test("promotes a member that was there long and honest", () => {
    expect(planTrust(member(good), rules)).toMatchObject({ kind: "promote" });
    expect(planTrust(member({ ...good, linkedMs: 23 * HOUR_MS, knownMs: 23 * HOUR_MS }), rules).kind).toBe(
      "keep",
    );
    expect(planTrust(member({ ...good, lies: 1 }), rules).kind).toBe("keep");
    expect(planTrust(member({ ...good, losses: 10 }), rules).kind).toBe("keep");
  });

  test("promotes nobody when told so, or beyond its bound", () => {
    expect(planTrust(member(good), { ...rules, promoteAfterMs: undefined }).kind).toBe("keep");
    expect(planTrust(member(good), { ...rules, promoted: PROMOTED_MAX }).kind).toBe("keep");
  });

  test("takes back what it gave for a lie or a long absence, not for a short one", () => {
    const promoted = (history: PeerHistory) => ({ level: "trusted", by: "manager", history }) as const;
    expect(planTrust(promoted({ ...good, lies: 1 }), rules).kind).toBe("demote");
    expect(planTrust(promoted({ ...good, knownMs: 70 * HOUR_MS }), rules).kind).toBe("demote");
    expect(planTrust(promoted({ ...good, knownMs: 40 * HOUR_MS }), rules).kind).toBe("keep");
  });

  test("who was promoted after minutes is not let go after as many of absence, but after a day, a lie or losses", () => {
    const MINUTE_MS = 60_000;
    const onion = { source: "discovery.dht", afterMs: 10 * MINUTE_MS };
    const early = { ...noHistory, linkedMs: 10 * MINUTE_MS, knownMs: 11 * MINUTE_MS };
    expect(planTrust(member(early), { ...rules, onion }).kind).toBe("promote");
    const after = (more: Partial<PeerHistory>) =>
      planTrust({ level: "trusted", by: "manager", history: addHistory(early, more) }, { ...rules, onion })
        .kind;
    expect(after({ knownMs: HOUR_MS })).toBe("keep");
    expect(after({ knownMs: 23 * HOUR_MS })).toBe("keep");
    expect(after({ knownMs: 24 * HOUR_MS })).toBe("demote");
    expect(after({ lies: 1 })).toBe("demote");
    expect(after({ losses: 5 })).toBe("demote");
  });

  test("blocks who was caught three times, longer each time, and never for ever", () => {
    const block = (blocks: number) => planTrust(member({ ...good, lies: 3, losses: 20, blocks }), rules);
    expect(block(0)).toMatchObject({ kind: "block", forMs: HOUR_MS });
    expect(block(1)).toMatchObject({ kind: "block", forMs: 2 * HOUR_MS });
    expect(planTrust(member({ ...good, lies: 3, losses: 3 }), rules).kind).toBe("keep");
    expect(block(400)).toMatchObject({ kind: "block", forMs: 168 * HOUR_MS });
  });

  test("never overrules configuration, operator or rule", () => {
    for (const by of ["configuration", "operator", "rule"] as const)
      for (const level of ["unknown", "member", "trusted", "blocked"] as const)
        expect(planTrust({ level, by, history: { ...good, lies: 9 } }, rules).kind).toBe("keep");
  });
});
