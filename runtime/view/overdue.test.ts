/** What health says of own mail that waits, for whom, and when that makes the node ill. */
import { describe, expect, test } from "bun:test";
import type { Resolution } from "../custody/context.ts";
import type { Overdue } from "../custody/source/overdue.ts";
import { formatNodeId, type NodeId } from "../kernel/ids.ts";
import type { MemberState } from "../membership/decide.ts";
import { overdueTroubles } from "./overdue.ts";

const [first, second] = [1, 2].map((n) => formatNodeId(new Uint8Array(32).fill(n))) as [NodeId, NodeId];
const HOUR_MS = 3_600_000;

function troubles(overdue: readonly Partial<Overdue>[], setup: Setup = {}) {
  const { peers = 1, states = {}, meaning = { DUN: [first, second], "LON-B": [first] } } = setup;
  return overdueTroubles({
    peers: { count: peers },
    members: { stateOf: (id) => states[id] },
    custody: {
      directory: {
        resolve: (address): Resolution => {
          const nodes = meaning[address];
          return nodes === undefined ? { kind: "unknown" } : { kind: "nodes", nodes };
        },
      },
      outbox: {
        awake: {
          overdue: overdue.map((one) => ({
            ...{ whom: "LON-B", waitsFor: "way" as const, ageMs: HOUR_MS, isMoving: false },
            ...one,
          })),
        },
      },
    },
  });
}
interface Setup {
  readonly peers?: number;
  readonly states?: Readonly<Record<NodeId, MemberState>>;
  readonly meaning?: Readonly<Record<string, readonly NodeId[]>>;
}

test("nothing is said where nothing waits for too long", () => {
  expect(troubles([])).toEqual([]);
});

describe("mail without a way", () => {
  test("makes a node ill that has no neighbour", () => {
    const [told] = troubles([{}], { peers: 0 });
    expect(told).toMatchObject({ name: "mail", isNotice: false });
    expect(told!.reason).toStartWith("mail waits for 60 min: this node has no neighbour: `godwit outbox`");
    expect(told!.detail).toStartWith("mail to LON-B waits for 60 min: this node has no neighbour");
  });

  test("to somebody who is off the mesh is told, and makes no node ill", () => {
    for (const states of [{}, { [first]: "failed" as const }, { [first]: "left" as const }]) {
      const [told] = troubles([{ ageMs: 50 * HOUR_MS }], { states });
      expect(told).toMatchObject({ isNotice: true });
      expect(told!.detail).toContain("mail to LON-B waits for 2 days: who it is for is away");
    }
  });

  test("to somebody who lives makes it ill: one machine of a location is enough", () => {
    const [told] = troubles([{ whom: "DUN" }], { states: { [first]: "left", [second]: "alive" } });
    expect(told).toMatchObject({ isNotice: false });
    expect(told!.reason).toContain("no route leads to it although it lives");
  });
});

test("what waits for its turn makes a node ill only where nothing for it goes on", () => {
  expect(troubles([{ waitsFor: "turn", isMoving: true }])).toEqual([]);
  expect(troubles([{ waitsFor: "turn" }])).toMatchObject([{ isNotice: false }]);
});

test("what was handed on waits for others; a name that nobody has is for whoever wrote it", () => {
  expect(troubles([{ waitsFor: "receipt" }])).toMatchObject([{ isNotice: true }]);
  const [told] = troubles([{ waitsFor: "address", whom: "LONDON", ageMs: 3 * HOUR_MS }]);
  expect(told).toMatchObject({ isNotice: false });
  expect(told!.detail).toContain(
    "mail to LONDON waits for 3 h: nobody it could be sealed to is known under that name",
  );
});

test("three are told one by one, those first that make it ill; whoever may not know is told for whom of none", () => {
  const some = ["A-A", "B-B", "C-C", "D-D"].map((whom) => ({ whom, waitsFor: "receipt" as const }));
  const [told] = troubles([...some, { whom: "LONDON", waitsFor: "address" }]);
  expect(told!.detail).toMatch(/^mail to LONDON .*; mail to A-A .*; mail to B-B .*; and for 2 more: /);
  expect(told!.reason).not.toMatch(/LONDON|A-A|B-B/);
  expect(told).toMatchObject({ isNotice: false });
});
