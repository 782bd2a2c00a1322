/** What a message, a one-shot and a receipt take on a slow medium at each hop: real frames in real records. docs/protocol/slow.md "Sizes". */
import { expect, test } from "bun:test";
import { ReceivingKeys } from "../identity/session-keys.ts";
import { sealInSession } from "../identity/session-seal.ts";
import type { NodeId } from "../kernel/ids.ts";
import { bytesOf } from "../link/fixture.ts";
import {
  type Bundle,
  BundleKind,
  encodeBundleFrame,
  encodeBundleHeader,
  encodeChunk,
  encodeCustodyAck,
  encodeOffer,
  encodeWant,
  makeBundle,
} from "../wire/bundle.ts";
import { LIFETIME_DEFAULT_MS } from "../wire/constants.ts";
import { compactStart, contextOf, encodeCompact, FAILOVER_DELAY_USUAL_MS } from "../wire/mail-compact.ts";
import { encodeSessionReceipts, type InnerMessage } from "../wire/message.ts";
import { type CompactPair, identityOf, openCompactPair, sendAcknowledged } from "./testing-compact.ts";

const TEXT_BYTES = 100;
/** Messages after the first of a session, of which the 65th and later ones need a byte more for their counter; and how long after it, ms. */
const LATER = { messages: 70, ms: 3_600_000 } as const;
/** What is inside the seal before the text, at most. */
const INSIDE_MAX = { session: 5, oneShot: 15 } as const;
const COUNTER_MAX = 0xffff;
const MAX = { session: 48, oneShot: 90, receipt: 40, packet: 200 } as const;

const stations = [1, 2, 3, 4].map(identityOf);
const headerOf = (kind: number, source: NodeId, destination: NodeId) => ({
  ...{ kind, priority: 2 as const, source, destination, lifetimeMs: LIFETIME_DEFAULT_MS },
});

/** A text by the recipient's callsign, as its sender writes it once the session is kept, and before. */
function insideOf(
  id: NodeId,
  kind: "session" | "oneShot",
  machines: readonly NodeId[],
  textBytes = TEXT_BYTES,
): Uint8Array {
  const isShared = machines.length > 0;
  const first: InnerMessage = {
    ...{
      mailEpoch: bytesOf(8, 6),
      counter: 200,
      to: isShared ? "NYC" : "NYC-C",
      createdAtMs: 1_800_000_000_000,
    },
    ...{ machines, failoverDelayMs: isShared ? FAILOVER_DELAY_USUAL_MS : 0 },
    ...{ subject: "", contentType: "text/plain; charset=utf-8", body: bytesOf(textBytes, 0x41) },
  };
  const later = {
    ...first,
    counter: first.counter + LATER.messages,
    createdAtMs: first.createdAtMs + LATER.ms,
  };
  const context = kind === "session" ? contextOf(first) : undefined;
  const told = kind === "session" ? later : first;
  return encodeCompact(compactStart(told, { id, callsign: "NYC-C", context }, isShared)!, told);
}

function message(
  from: NodeId,
  to: NodeId,
  counter: number,
  kind: "session" | "oneShot",
  machines: readonly NodeId[] = [],
): Bundle {
  const header = headerOf(BundleKind.message, from, to);
  const agreed = kind === "oneShot" ? { keyId: 0x01020304, ephemeral: bytesOf(32, 9) } : undefined;
  const key = new ReceivingKeys(bytesOf(32, 7)).key(counter);
  const binding = { network: "telex", from, to, associated: encodeBundleHeader(header) };
  const plaintext = insideOf(to, kind, machines);
  if (machines.length === 0) expect(plaintext.length - TEXT_BYTES).toBeLessThanOrEqual(INSIDE_MAX[kind]);
  return makeBundle(header, sealInSession({ id: bytesOf(8, 5), agreed, counter, key }, binding, plaintext));
}

const receipt = (from: NodeId, to: NodeId, atS: number): Bundle =>
  makeBundle(
    headerOf(BundleKind.receipt, from, to),
    encodeSessionReceipts([{ reference: "b1b2b3b4", status: 1, flags: 0, atS, code: bytesOf(8, 3) }]),
  );

/** The links of a path over so many hops. */
const pathOf = (hops: number): Promise<CompactPair[]> =>
  Promise.all(Array.from({ length: hops }, (_, i) => openCompactPair([stations[i]!, stations[i + 1]!])));

/** The datagrams of one bundle over a path whose links know what it names, the largest; and of the acknowledgement. */
async function most(path: readonly CompactPair[], make: (n: number) => Bundle) {
  let [sent, acknowledged] = [0, 0];
  for (const [i, link] of path.entries()) {
    await sendAcknowledged(link, make(1), { remainingMs: LIFETIME_DEFAULT_MS - 5_000, hops: i });
    const took = await sendAcknowledged(link, make(2), { remainingMs: LIFETIME_DEFAULT_MS - 5_000, hops: i });
    sent = Math.max(sent, took.sent);
    acknowledged = Math.max(acknowledged, took.acknowledged);
  }
  return { sent, acknowledged };
}

test.each([1, 2, 3])("a message, a one-shot and a receipt over %d hops", async (hops) => {
  const path = await pathOf(hops);
  const [from, to] = [stations[0]!.id, stations[hops]!.id];
  // The longest counter, and the shortest.
  const last = await most(path, (n) => message(from, to, COUNTER_MAX - n, "session"));
  const session = await most(path, (n) => message(from, to, n, "session"));
  const oneShot = await most(path, (n) => message(from, to, n, "oneShot"));
  const receipts = await most(path, (n) => receipt(from, to, n));
  const row = {
    hops,
    session: session.sent - TEXT_BYTES,
    longestCounter: last.sent - TEXT_BYTES,
    oneShot: oneShot.sent - TEXT_BYTES,
    receipt: receipts.sent,
    custodyAck: session.acknowledged,
  };
  console.info(JSON.stringify(row));
  expect(row.longestCounter).toBeLessThanOrEqual(MAX.session);
  expect(row.oneShot).toBeLessThanOrEqual(MAX.oneShot);
  expect(row.receipt).toBeLessThanOrEqual(MAX.receipt);
  expect(Math.max(last.sent, oneShot.sent, receipts.sent)).toBeLessThanOrEqual(MAX.packet);
  expect(row.custodyAck).toBeLessThanOrEqual(16);
  // What docs/protocol/slow.md says.
  expect([row.session, row.longestCounter, row.oneShot, row.receipt, row.custodyAck]).toEqual(
    [
      [43, 45, 87, 36, 15],
      [44, 46, 89, 38, 15],
      [45, 47, 90, 39, 15],
    ][hops - 1]!,
  );
});

/** By how much a copy is larger than one for a single machine, in a session and alone. */
test.each([
  [2, [10, 14]],
  [3, [12, 16]],
  [8, [22, 26]],
] as const)("a message to a location of %d machines", async (count, more) => {
  const path = await pathOf(1);
  const [from, to] = [stations[0]!.id, stations[1]!.id];
  const machines = Array.from({ length: count }, (_, n) => (n === 0 ? to : identityOf(10 + n).id));
  const took = [];
  for (const kind of ["session", "oneShot"] as const) {
    const one = await most(path, (n) => message(from, to, n, kind));
    const shared = await most(path, (n) => message(from, to, n, kind, machines));
    took.push(shared.sent - one.sent);
    console.info(JSON.stringify({ machines: count, kind, bytes: shared.sent - TEXT_BYTES }));
    if (kind === "session") expect(shared.sent).toBeLessThanOrEqual(MAX.packet);
  }
  // What docs/protocol/slow.md says: more flags, how many, the check, two for each; alone also its address.
  expect(took).toEqual([...more]);
});

/** Both ways, bytes and datagrams of 200: sent whole, in pieces below the link, and offered, wanted and sent in chunks that fit a datagram. */
test.each([
  [300, [363, 3], [587, 6]],
  [1_000, [1_079, 7], [1_407, 10]],
  [4_000, [4_139, 22], [4_977, 29]],
] as const)(
  "a text of %d bytes costs less whole than offered and in chunks",
  async (bytes, whole, offered) => {
    const link = await openCompactPair([stations[0]!, stations[1]!], { wire: { mtu: 200 } });
    const { near, far, advance } = link;
    const [from, to] = [stations[0]!.id, stations[1]!.id];
    const known = message(from, to, 1, "session");
    await sendAcknowledged(link, known, { remainingMs: 1_000, hops: 0 });
    const made = (n: number) => {
      const header = headerOf(BundleKind.message, from, to);
      const key = new ReceivingKeys(bytesOf(32, 7)).key(n);
      const binding = { network: "telex", from, to, associated: encodeBundleHeader(header) };
      const inside = insideOf(to, "session", [], bytes);
      return makeBundle(
        header,
        sealInSession({ id: bytesOf(8, 5), agreed: undefined, counter: n, key }, binding, inside),
      );
    };
    const took = async (say: () => void) => {
      const before = [near.pipe.sent.length, far.pipe.sent.length];
      say();
      await advance(5_000);
      const sent = [...near.pipe.sent.slice(before[0]), ...far.pipe.sent.slice(before[1])];
      return [sent.reduce((sum, { length }) => sum + length, 0), sent.length];
    };
    const add = (...all: number[][]) =>
      all.reduce((sum, one) => [sum[0]! + one[0]!, sum[1]! + one[1]!], [0, 0]);
    const journey = { remainingMs: LIFETIME_DEFAULT_MS - 5_000, hops: 0, trace: [] };
    await took(() => near.collector.session.send(encodeBundleFrame(made(2), journey)));
    const inPieces = add(
      await took(() => near.collector.session.send(encodeBundleFrame(made(3), journey))),
      await took(() => far.collector.session.send(encodeCustodyAck([made(3).id]))),
    );
    const { id, header, sealed } = made(4);
    const offer = { id, journey, header, sealedBytes: sealed.length, sums: undefined };
    const chunks: Uint8Array[] = [];
    for (let at = 0; at < sealed.length; at += 160)
      chunks.push(encodeChunk(id, at, sealed.subarray(at, at + 160)));
    const inChunks = add(
      await took(() => near.collector.session.send(encodeOffer(offer))),
      await took(() => far.collector.session.send(encodeWant(id, 0, sealed.length))),
      await took(() => {
        for (const chunk of chunks) near.collector.session.send(chunk);
      }),
      await took(() => far.collector.session.send(encodeCustodyAck([id]))),
    );
    // What docs/protocol/slow.md says.
    expect([inPieces, inChunks]).toEqual([[...whole], [...offered]]);
  },
);
