/** Who may go on with a link, and in which version: the parts by themselves. */
import { describe, expect, test } from "bun:test";
import { generateIdentity } from "../identity/keys.ts";
import { seededRandom } from "../kernel/random.ts";
import { commonVersion } from "./hello.ts";
import { Rekeying } from "./rekey.ts";

test("no version is agreed that one of both does not speak: the highest of both ranges, or none", () => {
  const agree = (ours: [number, number], theirs: [number, number]) =>
    commonVersion({ min: ours[0], max: ours[1] }, { min: theirs[0], max: theirs[1] });
  expect(agree([1, 4], [1, 9])).toBe(4);
  expect(agree([3, 4], [1, 3])).toBe(3);
  // Each end has given up what the other still speaks.
  expect(agree([3, 4], [1, 2])).toBeUndefined();
  expect(agree([1, 2], [3, 4])).toBeUndefined();
});

describe("a link is rekeyed", () => {
  const random = seededRandom(3);
  const [a, b, thief] = [generateIdentity(random), generateIdentity(random), generateIdentity(random)];
  const hash = random.bytes(32);
  const keys = { send: random.bytes(32), receive: random.bytes(32) };
  const exported = random.bytes(32);
  const side = (own: typeof a, remote: typeof a, role: "initiator" | "responder") =>
    new Rekeying(own.dh, { remoteDh: remote.dh.publicKey, keys, hash, exported } as never, role, random);

  test("by the neighbour that it was made with, and both have the same new keys", () => {
    const [ours, theirs] = [side(b, a, "responder"), side(a, b, "initiator")];
    const reply = ours.answer(theirs.request())!;
    expect(theirs.finish(reply)?.number).toBe(1);
    expect(ours.answeredEpoch?.number).toBe(1);
    // The same answer to the same request, however often it comes.
    expect(theirs.finish(reply)).toBeUndefined();
  });

  test("by nobody else, though it knows all that passed on the link", () => {
    const ours = side(b, a, "responder");
    expect(() => ours.answer(side(thief, b, "initiator").request())).toThrow("another node's key");
    expect(ours.answeredEpoch).toBeUndefined();
    expect(side(a, b, "initiator").request().length).toBeGreaterThan(0);
    expect(ours.answer(side(a, b, "initiator").request())).toBeDefined();
  });
});
