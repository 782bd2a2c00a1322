import { expect, test } from "bun:test";
import fc from "fast-check";
import { TOKEN_ADDRESSES_MAX } from "../identity/token.ts";
import { formatNodeId, type NodeId } from "../kernel/ids.ts";
import { seededRandom } from "../kernel/random.ts";
import { planInviteAddresses, type AddressCandidate } from "./invite-addresses.ts";

const idOf = (index: number): NodeId => formatNodeId(new Uint8Array(32).fill(index));
const member = (index: number, more: Partial<AddressCandidate> = {}): AddressCandidate => ({
  id: idOf(index),
  endpoints: [`tcp://10.0.0.${index}:4860`, `tcp://192.0.2.${index}:4860`],
  isSelf: index === 0,
  isReachable: true,
  linkedMs: undefined,
  ...more,
});
const plan = (candidates: readonly AddressCandidate[], seed = 1) =>
  planInviteAddresses(candidates, TOKEN_ADDRESSES_MAX, seededRandom(seed));

test("the inviter, then who stayed long, then who is reachable, then the others; the widest address of each", () => {
  const gone = { isReachable: false };
  const found = plan([
    member(4, gone),
    member(3),
    member(2, { linkedMs: 3_600_000 }),
    member(1, { endpoints: [] }),
    member(0),
  ]);
  expect(found.filter(({ endpoint }) => endpoint.startsWith("tcp://192")).map(({ id }) => id)).toEqual(
    [0, 2, 3, 4].map(idOf),
  );
  expect(found.length).toBe(8);
});

test("as many members as there is room for, each endpoint once, never more than the bound", () => {
  const candidate = fc.record({
    index: fc.integer({ min: 0, max: 40 }),
    endpoints: fc.array(
      fc.integer({ min: 0, max: 5 }).map((port) => `tcp://h:${port}`),
      { maxLength: 4 },
    ),
    isReachable: fc.boolean(),
    linkedMs: fc.option(fc.nat(2_000_000), { nil: undefined }),
  });
  fc.assert(
    fc.property(fc.uniqueArray(candidate, { selector: ({ index }) => index }), fc.nat(), (list, seed) => {
      const candidates = list.map(({ index, ...more }) => member(index, more));
      const found = plan(candidates, seed);
      const withSome = candidates.filter(({ endpoints }) => endpoints.length > 0);
      expect(found.length).toBeLessThanOrEqual(TOKEN_ADDRESSES_MAX);
      expect(new Set(found.map(({ id }) => id)).size).toBe(Math.min(withSome.length, TOKEN_ADDRESSES_MAX));
      expect(new Set(found.map(({ id, endpoint }) => `${id} ${endpoint}`)).size).toBe(found.length);
    }),
  );
});

test("50 members, two thirds away at random: a token from any of them reaches one as often as eight addresses can", () => {
  const members = Array.from({ length: 50 }, (_, index) => index);
  const random = seededRandom(3);
  const draws = 2_000;
  let reached = 0;
  for (let draw = 0; draw < draws; draw++) {
    const inviter = random.below(50);
    const candidates = members.map((index) =>
      member(index, { isSelf: index === inviter, endpoints: [`tcp://192.0.2.${index}:4860`] }),
    );
    const token = planInviteAddresses(candidates, TOKEN_ADDRESSES_MAX, random);
    // 33 of 50 go; the inviter is no more likely to stay than anybody else.
    const order = members.map((index) => ({ index, at: random.float() })).sort((a, b) => a.at - b.at);
    const alive = new Set(order.slice(0, 17).map(({ index }) => idOf(index)));
    if (token.some(({ id }) => alive.has(id))) reached++;
  }
  // 1 - C(33,8) / C(50,8) = 0.9741; the standard error of 2,000 draws is 0.0036.
  expect(reached / draws).toBeGreaterThan(0.9741 - 0.011);
  expect(reached / draws).toBeLessThan(0.9741 + 0.011);
});

test("eight members, any five away: a token from any of them always reaches one", () => {
  for (let inviter = 0; inviter < 8; inviter++)
    for (let mask = 0; mask < 256; mask++) {
      const alive = Array.from({ length: 8 }, (_, index) => index).filter(
        (index) => (mask & (1 << index)) !== 0,
      );
      if (alive.length < 3) continue;
      const candidates = Array.from({ length: 8 }, (_, index) =>
        member(index, { isSelf: index === inviter }),
      );
      const token = plan(candidates, mask);
      expect(token.some(({ id }) => alive.map(idOf).includes(id))).toBe(true);
    }
});
