/** Who has a say about a message of several machines, and in which order: claims by themselves, over a store that can be slow. */
import { describe, expect, test } from "bun:test";
import { ManualClock } from "../../kernel/clock.ts";
import type { MessageId, NodeId } from "../../kernel/ids.ts";
import { Metrics } from "../../kernel/metrics.ts";
import { seededRandom } from "../../kernel/random.ts";
import type { Share } from "../../kernel/room.ts";
import { doorId, DoorRegard, known, stranger } from "../../kernel/testing.ts";
import { openMemoryStore, SimDisk } from "../../store/memory.ts";
import { BundleKind } from "../../wire/bundle.ts";
import { ClaimAnswer, decodeClaimAnswer } from "../../wire/message.ts";
import type { CustodyContext } from "../context.ts";
import { Claims } from "./claims.ts";
import type { Arrival } from "./delivery.ts";

const [self, first, outsider, sender] = [doorId(2), doorId(1), doorId(3), doorId(4)] as const;
const id = "0".repeat(32) as MessageId;
const COMMIT_MS = 50;

async function open(machines: readonly NodeId[] = [first, self]) {
  const clock = new ManualClock(1_800_000_000_000);
  const regard = new DoorRegard();
  const disk = new SimDisk();
  const store = await openMemoryStore(disk, { clock, random: seededRandom(1), commitDelayMs: COMMIT_MS });
  const answers: { to: NodeId; code: number; atMs: number }[] = [];
  const delivered: MessageId[] = [];
  const dropped: MessageId[] = [];
  const seams: Partial<CustodyContext> = {
    self,
    clock,
    store,
    regard,
    metrics: new Metrics(),
    limits: { lifetimeDefaultMs: 3_600_000 } as CustodyContext["limits"],
    presence: { of: () => "there", watch: () => () => {} } as unknown as CustodyContext["presence"],
    isContested: () => false,
  };
  const claims = new Claims(seams as CustodyContext, {
    send(to, kind, plaintext) {
      if (kind === BundleKind.claimAnswer)
        answers.push({ to, code: decodeClaimAnswer(plaintext).answer, atMs: clock.monotonicMs() });
    },
    deliver: async (arrival) => {
      delivered.push(arrival.id);
      return true;
    },
    drop: async (arrival) => void dropped.push(arrival.id),
    wasDeliveredHere: (one) => delivered.includes(one),
  });
  const arrival = (one: MessageId = id, from: NodeId = sender, share = stranger("a"), bodyBytes = 10) =>
    ({
      id: one,
      from,
      share,
      inner: { machines, failoverDelayMs: 10_000, body: new Uint8Array(bodyBytes) },
      lifetimeMs: 3_600_000,
    }) as unknown as Arrival;
  return { clock, claims, answers, delivered, dropped, arrival, regard };
}

describe("a message that was sealed to two machines", () => {
  test("nobody else claims it, and nobody else's grant, delivery or contest counts", async () => {
    const { clock, claims, answers, delivered, dropped, arrival } = await open();
    claims.start(arrival());
    await Promise.all([claims.onClaim(outsider, stranger("b"), id), clock.advance(2 * COMMIT_MS)]);
    expect(answers).toEqual([]);
    for (const code of [ClaimAnswer.granted, ClaimAnswer.delivered]) claims.onAnswer(outsider, id, code);
    await clock.advance(100);
    expect([delivered, dropped, claims.count]).toEqual([[], [], 1]);
    // A contest by one that has no say does not make it stand by: it delivers when its delay is over.
    claims.onAnswer(outsider, id, ClaimAnswer.contested);
    await clock.advance(10_000);
    expect(delivered).toEqual([id]);
  });

  test("the other machine is granted it, after the grant is durable and not before", async () => {
    const { clock, claims, answers, arrival } = await open();
    claims.start(arrival());
    const claimed = claims.onClaim(first, known("b"), id);
    const startedMs = clock.monotonicMs();
    await clock.advance(COMMIT_MS - 1);
    expect(answers).toEqual([]);
    await clock.advance(COMMIT_MS);
    await claimed;
    expect(answers).toMatchObject([{ to: first, code: ClaimAnswer.granted }]);
    expect(answers[0]!.atMs - startedMs).toBeGreaterThanOrEqual(COMMIT_MS);
  });

  test("of two that claim at once the first of the list goes on, the second stands by", async () => {
    const ahead = await open([self, first]);
    ahead.claims.start(ahead.arrival());
    await Promise.all([ahead.claims.onClaim(first, known("b"), id), ahead.clock.advance(2 * COMMIT_MS)]);
    expect(ahead.answers.map(({ code }) => code)).toEqual([ClaimAnswer.contested]);
    const behind = await open([first, self]);
    behind.claims.start(behind.arrival());
    await Promise.all([behind.claims.onClaim(first, known("b"), id), behind.clock.advance(2 * COMMIT_MS)]);
    expect(behind.answers.map(({ code }) => code)).toEqual([ClaimAnswer.granted]);
    await behind.clock.advance(15_000);
    expect(behind.delivered).toEqual([]);
  });

  test("a grant to a node that has no say, given before the message came, counts for nothing", async () => {
    const { clock, claims, delivered, arrival } = await open();
    await Promise.all([claims.onClaim(outsider, known("b"), id), clock.advance(2 * COMMIT_MS)]);
    claims.start(arrival());
    await clock.advance(10_000);
    expect(delivered).toEqual([id]);
  });
});

test("of the bodies that wait one sender has half the room, known as it may be, and all together 32 MiB", async () => {
  const { claims, arrival } = await open();
  const mebibytes = 1024 * 1024;
  let [taken, next] = [0, 0];
  const fill = (from: NodeId, share: Share) => {
    for (let n = 0; n < 64; n++) {
      const one = arrival((next++).toString(16).padStart(32, "0") as MessageId, from, share, mebibytes);
      if (claims.refusal(one) !== undefined) return;
      claims.start(one);
      taken++;
    }
  };
  fill(sender, known("a"));
  expect(taken).toBe(16);
  for (let n = 10; n < 20; n++) fill(doorId(n), stranger(`b${n}`));
  expect(taken).toBe(32);
  claims.stop();
});
