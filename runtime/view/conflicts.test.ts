import { expect, test } from "bun:test";
import type { NameBinding, NameResolution } from "../identity/names.ts";
import { formatNodeId } from "../kernel/ids.ts";
import { conflictTroubles } from "./conflicts.ts";

const [ann, bea] = [1, 2].map((fill) => formatNodeId(new Uint8Array(32).fill(fill))) as [
  NameBinding["node"],
  NameBinding["node"],
];
const seen = (conflict: NameBinding["conflict"], kind: NameResolution["kind"], count = 1) => ({
  list: (): NameBinding[] =>
    Array.from({ length: count }, (_, n) => ({ name: `DUN-${n}`, node: ann, source: "pinned", conflict })),
  resolve: (): NameResolution =>
    kind === "node"
      ? { kind, id: ann, source: "pinned", isVouched: false }
      : { kind: "conflict", ids: [bea] },
});

test("a claimed name is told and makes nobody ill, a name that nobody holds does; of many three are named", () => {
  expect(conflictTroubles(seen(null, "node"))).toEqual([]);
  const [held] = conflictTroubles(seen(bea, "node"));
  expect([held!.isNotice, held!.reason]).toEqual([true, expect.stringContaining("keeps its mail")]);
  const [vacant] = conflictTroubles(seen(bea, "conflict", 5));
  expect([vacant!.isNotice, vacant!.reason]).toEqual([false, expect.stringContaining("mail to it waits")]);
  expect(vacant!.reason).toContain("and 2 more");
});
