/** The columns against a plain map, under random histories; and what they cost. */
import { describe, expect, test } from "bun:test";
import fc from "fast-check";
import { formatNodeId, type NodeId } from "../kernel/ids.ts";
import type { Bottleneck } from "../wire/constants.ts";
import { METRIC_INFINITE, SEQNO_MAX, UNREACHABLE, type PlaneRoute } from "../wire/route-messages.ts";
import { Candidates, NO_ROW, noRows, type RowList } from "./candidates.ts";
import { Neighbour } from "./neighbour.ts";

const idOf = (n: number): NodeId => {
  const bytes = new Uint8Array(32);
  new DataView(bytes.buffer).setUint32(0, n);
  return formatNodeId(bytes);
};
const link = { cost: 1, mtu: 1_300, bottleneck: 0, profile: "fast" } as const;
const neighbour = (n: number) => new Neighbour(idOf(n), "boot", link, n);

interface Said {
  serial: number;
  any: PlaneRoute;
  bulk: PlaneRoute;
  isSuspect: boolean;
}

const finite = fc.record({
  seqno: fc.constantFrom(0, 1, 2 ** 32 - 1, 2 ** 32, SEQNO_MAX),
  metric: fc.constantFrom(0, 1, 7, METRIC_INFINITE - 1),
  mtu: fc.constantFrom(0, 1_400, 65_535),
  bottleneck: fc.constantFrom<Bottleneck>(0, 1, 2),
});
const offered = fc.oneof(fc.constant(UNREACHABLE), finite);
const step = fc.record({
  what: fc.constantFrom("put", "put", "put", "same", "drop", "suspect", "clear", "leave"),
  who: fc.nat(11),
  where: fc.nat(3),
  serial: fc.constantFrom(1, 2 ** 32 - 1, 2 ** 32 + 5, 2 ** 48 - 1),
  any: offered,
  bulk: offered,
  flag: fc.boolean(),
});

/** What the columns say, in the words of the model. */
function read(columns: Candidates, list: RowList): Map<NodeId, Said> {
  const found = new Map<NodeId, Said>();
  columns.forEach(list, (row) => {
    const { id } = columns.neighbourAt(row);
    expect(found.has(id)).toBe(false);
    found.set(id, {
      serial: columns.serialAt(row),
      any: columns.anyAt(row),
      bulk: columns.bulkAt(list, row),
      isSuspect: columns.isSuspectAt(row),
    });
  });
  return found;
}

describe("columns", () => {
  test("say what a plain map says, whoever comes, speaks, is suspected and goes", () => {
    fc.assert(
      fc.property(fc.array(step, { maxLength: 200 }), (steps) => {
        const columns = new Candidates();
        const lists = Array.from({ length: 4 }, noRows);
        const model = lists.map(() => new Map<NodeId, Said>());
        const neighbours = Array.from({ length: 12 }, (_, n) => neighbour(n));
        for (const each of neighbours) columns.enter(each);
        let newcomers = neighbours.length;
        for (const { what, who, where, serial, any, bulk, flag } of steps) {
          const by = neighbours[who]!;
          const list = lists[where]!;
          const held = model[where]!.get(by.id);
          if (what === "put" || what === "same") {
            const second = what === "same" ? any : bulk;
            columns.put(list, by, columns.find(list, by), serial, any, second);
            model[where]!.set(by.id, { serial, any, bulk: second, isSuspect: held?.isSuspect ?? false });
          } else if (what === "drop") {
            const isReachable = held !== undefined && (held.any !== UNREACHABLE || held.bulk !== UNREACHABLE);
            expect(columns.drop(list, by)).toBe(isReachable);
            model[where]!.delete(by.id);
          } else if (what === "suspect") {
            const row = columns.find(list, by);
            expect(row === NO_ROW).toBe(held === undefined);
            if (held === undefined) continue;
            columns.setSuspect(list, row, flag);
            held.isSuspect = flag;
          } else if (what === "clear") {
            columns.clear(list);
            model[where]!.clear();
          } else {
            // Gone with all it said, and another has its number.
            lists.forEach((each, i) => {
              columns.drop(each, by);
              model[i]!.delete(by.id);
            });
            columns.leave(by);
            neighbours[who] = neighbour(newcomers++);
            columns.enter(neighbours[who]);
          }
          lists.forEach((each, i) => expect(read(columns, each)).toEqual(model[i]!));
        }
        for (const by of neighbours) expect(by.rows).toBe(model.filter((said) => said.has(by.id)).length);
        expect(columns.rows).toBe(lists.reduce((sum, { rows }) => sum + rows, 0));
        for (const list of lists)
          for (let n = 0; n < list.rows; n++)
            expect(columns.has(list, columns.nthNeighbour(list, n))).toBe(true);
      }),
    );
  });

  test("a neighbour that leaves before what it said is a bug, not another's routes", () => {
    const columns = new Candidates();
    const list = noRows();
    const first = neighbour(1);
    columns.enter(first);
    columns.put(
      list,
      first,
      columns.find(list, first),
      1,
      { seqno: 1, metric: 1, mtu: 1, bottleneck: 0 },
      UNREACHABLE,
    );
    expect(() => columns.leave(first)).toThrow("before what it said");
    columns.drop(list, first);
    columns.leave(first);
    const second = neighbour(2);
    columns.enter(second);
    expect(columns.find(list, second)).toBe(NO_ROW);
    expect(columns.find(list, first)).toBe(NO_ROW);
  });

  test("a candidate costs 18 bytes, and two more where numbers are beyond 32 bits", () => {
    const of = (seqno: number, serial: number): number => {
      const columns = new Candidates();
      const route: PlaneRoute = { seqno, metric: 77, mtu: 1_400, bottleneck: 1 };
      const lists = Array.from({ length: 200 }, noRows);
      for (let n = 0; n < 250; n++) {
        const by = neighbour(n);
        columns.enter(by);
        for (const list of lists) columns.put(list, by, columns.find(list, by), serial, route, route);
      }
      return columns.bytes / columns.rows;
    };
    expect(of(2 ** 32 - 1, 2 ** 32 - 1)).toBeLessThan(19);
    for (const bytes of [of(2 ** 32, 1), of(1, 2 ** 32)]) expect(bytes).toBeLessThan(21);
    expect(of(2 ** 32, 2 ** 32)).toBeLessThan(23);
  });

  test("what has gone is given back", () => {
    const columns = new Candidates();
    const neighbours = Array.from({ length: 250 }, (_, n) => neighbour(n));
    for (const each of neighbours) columns.enter(each);
    const lists = Array.from({ length: 1_000 }, noRows);
    const route: PlaneRoute = { seqno: 2 ** 40, metric: 77, mtu: 1_400, bottleneck: 1 };
    for (const by of neighbours)
      for (const list of lists) columns.put(list, by, columns.find(list, by), 1, route, route);
    expect(columns.rows).toBe(250_000);
    expect(columns.bytes / columns.rows).toBeLessThanOrEqual(24);
    // Planes that differ: one more row, none once they are the same again.
    const other = { ...route, metric: 99 };
    columns.put(lists[0]!, neighbours[0]!, columns.find(lists[0]!, neighbours[0]!), 2, route, other);
    expect(columns.rows).toBe(250_001);
    columns.put(lists[0]!, neighbours[0]!, columns.find(lists[0]!, neighbours[0]!), 3, other, other);
    expect(columns.rows).toBe(250_000);
    for (const by of neighbours.slice(1)) for (const list of lists) columns.drop(list, by);
    expect(columns.rows).toBe(1_000);
    for (const list of lists) columns.clear(list);
    expect(neighbours[0]!.rows).toBe(0);
    expect(columns.bytes).toBeLessThan(200_000);
  });

  test("coming and going over the edge of a segment takes no memory each time", () => {
    const columns = new Candidates();
    const by = neighbour(1);
    columns.enter(by);
    const route: PlaneRoute = { seqno: 1, metric: 1, mtu: 1_400, bottleneck: 0 };
    const lists = Array.from({ length: 512 }, noRows);
    for (const list of lists) columns.put(list, by, columns.find(list, by), 1, route, route);
    const edge = noRows();
    columns.put(edge, by, columns.find(edge, by), 1, route, route);
    const { bytes } = columns;
    const segment = columns.segmentOf(edge.chunk);
    for (let i = 0; i < 10; i++) {
      columns.drop(edge, by);
      columns.put(edge, by, columns.find(edge, by), 1, route, route);
      expect(columns.segmentOf(edge.chunk)).toBe(segment);
    }
    expect(columns.bytes).toBe(bytes);
  });
});
