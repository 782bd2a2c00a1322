import { describe, expect, test } from "bun:test";
import type { NodeId } from "../kernel/ids.ts";
import { decideForward, type ForwardRequest, type NextHop } from "./decide.ts";

const id = (name: string) => name as NodeId;
const hop = (name: string, metric: number, extra: Partial<NextHop> = {}): NextHop => ({
  neighbour: id(name),
  metric,
  mtu: 1_400,
  bottleneck: 0,
  isDefault: false,
  ...extra,
});
const packet: ForwardRequest = {
  destination: id("d"),
  self: id("s"),
  hopsLeft: 10,
  arrivedFrom: undefined,
  size: 500,
  plane: "any",
  isCustody: false,
};
const hops = [hop("a", 100), hop("b", 150), hop("c", 400)];

interface Case {
  readonly name: string;
  readonly request?: Partial<ForwardRequest>;
  readonly hops?: readonly NextHop[];
  readonly delays?: Record<string, number>;
  readonly want: string;
}

const cases: Case[] = [
  { name: "best first", want: "forward a" },
  { name: "for us", request: { destination: id("s"), hopsLeft: 0 }, want: "deliver" },
  { name: "hop limit, packet", request: { hopsLeft: 0 }, want: "drop hop-limit" },
  { name: "hop limit, bundle", request: { hopsLeft: 0, isCustody: true }, want: "park hop-limit" },
  { name: "last hop may still forward", request: { hopsLeft: 1 }, want: "forward a" },
  { name: "no route, packet", hops: [], want: "drop no-route" },
  { name: "no route, bundle", hops: [], request: { isCustody: true }, want: "park no-route" },
  { name: "a long queue moves to an alternate", delays: { a: 300 }, want: "forward b" },
  { name: "a short queue does not", delays: { a: 60 }, want: "forward a" },
  {
    name: "equal after delay stays",
    delays: { a: 64 },
    hops: [hop("a", 86), hop("b", 150)],
    want: "forward a",
  },
  { name: "all queues long", delays: { a: 4_096, b: 4_096, c: 1 }, want: "forward c" },
  { name: "not back to where it came from", request: { arrivedFrom: id("a") }, want: "forward b" },
  {
    name: "back if it is the only way",
    request: { arrivedFrom: id("a") },
    hops: [hop("a", 1)],
    want: "forward a",
  },
  {
    name: "an alternate with a long queue beats going back",
    request: { arrivedFrom: id("a") },
    delays: { b: 1e6 },
    hops: [hop("a", 1), hop("b", 9)],
    want: "forward b",
  },
  { name: "too big for all, packet", request: { size: 1_401 }, want: "drop too-big" },
  { name: "too big for all, bundle", request: { size: 1_401, isCustody: true }, want: "park too-big" },
  { name: "exactly the mtu", request: { size: 1_400 }, want: "forward a" },
  {
    name: "too big for the best",
    request: { size: 2_000 },
    hops: [hop("a", 1), hop("b", 9, { mtu: 9_000 })],
    want: "forward b",
  },
  { name: "default for what starts here", hops: [hop("g", 5, { isDefault: true })], want: "forward g" },
  {
    name: "never default for what came from a neighbour",
    request: { arrivedFrom: id("x") },
    hops: [hop("g", 5, { isDefault: true })],
    want: "drop no-route",
  },
  {
    name: "nor back up a default",
    request: { arrivedFrom: id("g"), isCustody: true },
    hops: [hop("g", 5, { isDefault: true })],
    want: "park no-route",
  },
];

describe("decideForward", () => {
  test.each(cases.map((each) => [each.name, each] as const))("%s", (_name, each) => {
    const decision = decideForward(
      { ...packet, ...each.request },
      each.hops ?? hops,
      (neighbour) => each.delays?.[neighbour] ?? 0,
    );
    const detail = "to" in decision ? ` ${decision.to}` : "reason" in decision ? ` ${decision.reason}` : "";
    expect(decision.kind + detail).toBe(each.want);
  });
});
