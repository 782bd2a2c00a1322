import { expect, test } from "bun:test";
import type { NameResolution, Names } from "../../identity/names.ts";
import { formatNodeId, type NodeId } from "../../kernel/ids.ts";
import type { RecordBook } from "../../membership/records.ts";
import { createDirectory } from "./directory.ts";

const id = (fill: number): NodeId => formatNodeId(new Uint8Array(32).fill(fill));
const [self, anna, twin] = [id(1), id(2), id(3)];
/** The same ten characters as `twin`. */
const double = formatNodeId(new Uint8Array(32).fill(3).fill(4, 16));

const bindings = new Map<string, NameResolution>([
  ["LON-B", { kind: "node", id: anna, source: "pinned", isVouched: false }],
  ["NYC-C", { kind: "conflict", ids: [anna, twin] }],
]);
const names = {
  resolve: (name: string) => bindings.get(name) ?? { kind: "unknown" },
  machinesAt: (place: string) => (place === "LON" ? [anna] : []),
} as Partial<Names> as Names;
const records = {
  all: [anna, twin, double].map((node) => ({ record: { id: node } })),
  get: (node: NodeId) => ([anna, twin, double].includes(node) ? {} : undefined),
  isRevoked: () => false,
} as unknown as RecordBook;
const { nodeOf, resolve, canonical } = createDirectory(
  { self, callsign: "DUN-A", location: "DUN" },
  { names, records, book: { isTrustedByOperator: () => false } },
);

const codeOf = (text: string): string | NodeId => {
  try {
    return nodeOf(text);
  } catch (error) {
    return (error as { code: string }).code;
  }
};

test("one node is named by its id, its callsign and a short id that is its alone", () => {
  expect(
    [self, anna, anna.toUpperCase(), "dun-a", "lon-b", anna.slice(0, 10).toUpperCase()].map(codeOf),
  ).toEqual([self, anna, anna, self, anna, anna]);
  // An id that nobody has heard of is an id all the same.
  expect(codeOf(id(9))).toBe(id(9));
});

test("a place, a name of nobody or of two, and what is no name at all, name no one node", () => {
  expect(["LON", "LON-X", "NYC-C", twin.slice(0, 10), "no such", "1".repeat(52)].map(codeOf)).toEqual([
    "GODWIT_NAME_UNKNOWN",
    "GODWIT_NAME_UNKNOWN",
    "GODWIT_NAME_CONFLICT",
    "GODWIT_ADDRESS_INVALID",
    "GODWIT_ADDRESS_INVALID",
    "GODWIT_ID_INVALID",
  ]);
});

test("mail goes to whom an address means, and waits for whom it does not mean yet", () => {
  expect(canonical("lon-b")).toBe("LON-B");
  expect(resolve("LON-B", false)).toEqual({ kind: "nodes", nodes: [anna] });
  expect(resolve("LON", false)).toEqual({ kind: "nodes", nodes: [anna] });
  expect(resolve("DUN", false)).toEqual({ kind: "nodes", nodes: [self] });
  expect([resolve("NYC-C", false).kind, resolve("PAR-X", false).kind, resolve(id(9), false).kind]).toEqual([
    "conflict",
    "unknown",
    "unknown",
  ]);
});
