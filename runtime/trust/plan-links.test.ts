import { beforeEach, describe, expect, test } from "bun:test";
import { formatNodeId, type NodeId } from "../kernel/ids.ts";
import { seededRandom } from "../kernel/random.ts";
import { groupOf, planLinks, type LinkedPeer, type Member } from "./plan-links.ts";

/** Anew for each test: what one draws must not depend on which ran before. */
let random = seededRandom(7);
beforeEach(() => {
  random = seededRandom(7);
});
const newId = (): NodeId => formatNodeId(random.bytes(32));
const member = (id: NodeId, network = 0, isTrusted = false): Member => ({
  id,
  endpoints: [`tcp://10.${network}.0.1:4860`],
  isTrusted,
});
const linkTo = ({ id, endpoints }: Member): LinkedPeer => ({ id, endpoint: endpoints[0]!, isSlow: false });
const base = {
  self: formatNodeId(new Uint8Array(32).fill(99)),
  wanted: 4,
  salt: 1,
  linked: [],
  trying: new Set<NodeId>(),
  isResting: () => false,
};

describe("whom to call", () => {
  test("as many as are wanted, the next in the ring among them, nobody twice", () => {
    const members = Array.from({ length: 50 }, (_, i) => member(newId(), i));
    const choices = planLinks({ ...base, members });
    expect(choices.length).toBe(4);
    expect(new Set(choices.map(({ id }) => id)).size).toBe(4);
    const ring = members.map(({ id }) => id).sort();
    const next = ring.find((id) => id > base.self) ?? ring[0]!;
    expect(choices.find(({ why }) => why === "ring")?.id).toBe(next);
  });

  test("nobody when there are links enough, but always the next in the ring", () => {
    const members = Array.from({ length: 20 }, () => member(newId())).sort((a, b) => (a.id < b.id ? -1 : 1));
    const next = members.find(({ id }) => id > base.self) ?? members[0]!;
    const others = members.filter((other) => other !== next).slice(0, 6);
    expect(planLinks({ ...base, members, linked: others.map(linkTo) }).map(({ id }) => id)).toEqual([
      next.id,
    ]);
    expect(planLinks({ ...base, members, linked: [next, ...others].map(linkTo) })).toEqual([]);
    expect(planLinks({ ...base, wanted: 0, members })).toEqual([]);
  });

  test("a trusted one is the anchor; radios do not count; who rests is left alone", () => {
    const anchor = member(newId(), 3, true);
    const members = [anchor, ...Array.from({ length: 20 }, () => member(newId()))];
    expect(planLinks({ ...base, members }).some(({ id }) => id === anchor.id)).toBe(true);
    const radios = members.slice(1, 6).map((m) => ({ ...linkTo(m), isSlow: true }));
    expect(planLinks({ ...base, members, linked: radios }).length).toBeGreaterThanOrEqual(4);
    expect(planLinks({ ...base, members, isResting: () => true })).toEqual([]);
  });

  test("networks that no link goes to yet come first", () => {
    const near = Array.from({ length: 30 }, () => member(newId(), 1));
    const far = member(newId(), 2);
    const linked = near.slice(0, 2).map(linkTo);
    const choices = planLinks({ ...base, members: [...near, far], linked });
    expect(choices.map(({ id }) => id)).toContain(far.id);
  });

  test("two nodes with different secrets choose differently", () => {
    const members = Array.from({ length: 200 }, () => member(newId()));
    const ids = (salt: number) =>
      planLinks({ ...base, salt, members })
        .filter(({ why }) => why === "random")
        .map(({ id }) => id);
    expect(ids(1)).not.toEqual(ids(2));
    expect(ids(1)).toEqual(ids(1));
  });
});

describe("what comes of it", () => {
  /** Every node plans until nobody wishes anything; then who is gone takes his links along. */
  function grow(count: number, wanted: number): { ids: NodeId[]; links: Map<NodeId, Set<NodeId>> } {
    const all = Array.from({ length: count }, (_, i) => member(newId(), i % 7));
    const byId = new Map(all.map((one) => [one.id, one]));
    const links = new Map(all.map(({ id }) => [id, new Set<NodeId>()]));
    for (let round = 0; round < 6; round++)
      for (const [index, { id }] of all.entries()) {
        const linked = [...links.get(id)!].map((other) => linkTo(byId.get(other)!));
        for (const choice of planLinks({ ...base, self: id, salt: index, wanted, members: all, linked })) {
          links.get(id)!.add(choice.id);
          links.get(choice.id)!.add(id);
        }
      }
    return { ids: all.map(({ id }) => id), links };
  }

  function largestPart(ids: readonly NodeId[], links: Map<NodeId, Set<NodeId>>): number {
    const alive = new Set(ids);
    let largest = 0;
    while (alive.size > 0) {
      const [start] = alive;
      const queue = [start!];
      alive.delete(start!);
      for (const id of queue) for (const next of links.get(id)!) if (alive.delete(next)) queue.push(next);
      largest = Math.max(largest, queue.length);
    }
    return largest;
  }

  test("one mesh of few links each, and one still when a third is gone", () => {
    const { ids, links } = grow(300, 4);
    expect(largestPart(ids, links)).toBe(300);
    const degrees = ids.map((id) => links.get(id)!.size).sort((a, b) => a - b);
    expect(degrees[0]).toBeGreaterThanOrEqual(4);
    expect(degrees.at(-1)!).toBeLessThan(24);
    const left = ids.filter((_, i) => i % 3 !== 0);
    expect(largestPart(left, links)).toBeGreaterThan(left.length * 0.9);
  });

  test("a thousand Sybils around ten honest nodes do not take all links of one", () => {
    const honest = Array.from({ length: 10 }, (_, i) => member(newId(), i, i < 2));
    const sybils = Array.from({ length: 1_000 }, () => member(newId(), 200));
    // Anchors and other networks keep a way out, whatever the ring and the ranking say.
    const choices = planLinks({ ...base, members: [...sybils, ...honest] });
    expect(choices.filter(({ id }) => honest.some((one) => one.id === id)).length).toBeGreaterThanOrEqual(2);
  });
});

test("what fails together", () => {
  expect(groupOf("tcp://10.1.2.3:4860")).toBe("tcp 10.1");
  expect(groupOf("tcp://[2001:db8:1::1]:1")).toBe("tcp 2001:db8");
  expect(groupOf("tor://abcdef.onion:1")).toBe("tor");
});
