/**
 * A node of the mesh, with links that stand, whose owner says on them what he likes. Everything else it does as any node. What it says goes out
 * by its own sessions, so that the far end takes it for a member's word.
 */
import type { Random } from "@godwit/sdk";
import type { NodeId } from "../../../runtime/kernel/ids.ts";
import { formatNodeId } from "../../../runtime/kernel/ids.ts";
import type { Mesh } from "../../../runtime/mesh/mesh.ts";
import { BundleKind, makeBundle } from "../../../runtime/wire/bundle.ts";
import * as compact from "../../../runtime/wire/compact.ts";
import { FrameType } from "../../../runtime/wire/constants.ts";
import { encodeLookup } from "../../../runtime/wire/lookup-messages.ts";
import { encodePathQuestion } from "../../../runtime/wire/path-messages.ts";
import { encodeBeacon } from "../../../runtime/wire/route-messages.ts";
import type { SimTime } from "../time.ts";

/** Frames for one slow neighbour, said in one go. */
export type Says = (random: Random, times: number, to: NodeId) => readonly Uint8Array[];

export interface HostileMember {
  readonly everyMs: number;
  readonly says: Says;
}

/** Begins when its mesh opens, and ends with it. */
export function makeHostile(
  mesh: Mesh,
  { everyMs, says }: HostileMember,
  time: SimTime,
  random: Random,
): { readonly said: () => number } {
  let times = 0;
  let said = 0;
  const say = (): void => {
    times++;
    for (const peer of mesh.peers.connected) {
      if (!mesh.router.isSlowNeighbour(peer.id)) continue;
      for (const frame of says(random, times, peer.id)) if (peer.send("control", frame)) said++;
    }
    time.after(everyMs * (0.5 + random.float()), say);
  };
  time.after(everyMs, say);
  return { said: () => said };
}

/** Bitmaps, refusals and questions for bundles that were never sent to it, and for those that were. */
export const answersForNothing: Says = (random) => {
  const check = random.bytes(2);
  const first = random.below(256);
  const many = Array.from({ length: 1 + random.below(64) }, (_, at) => (first + at) % 256);
  return [
    compact.encodeCompactAck({ sequences: many, check }),
    compact.encodeCompactRefuse({ sequence: first, check, reason: random.below(6), retryAfterMs: 3_600_000 }),
    compact.encodeUnreadable(random.below(256)),
  ];
};

/** "I cannot read it" to each sequence there is, in turn. */
export const readsNothing: Says = (_random, times) =>
  Array.from({ length: 8 }, (_, at) => compact.encodeUnreadable((8 * times + at) % 256));

/**
 * Mail of nodes that there are not, by indexes that stand for another node by now, were never taught, are the receiver's own, or are given anew in
 * that very frame.
 */
export const forgedReferences: Says = (random, times) => {
  const [first, second] = [formatNodeId(random.bytes(32)), formatNodeId(random.bytes(32))];
  const index = times % compact.REFERENCES_MAX;
  const body = random.bytes(40);
  const mailOf = (source: NodeId, place: compact.Reference<NodeId>, sequence: number): Uint8Array => {
    const header = {
      kind: BundleKind.message,
      priority: 2,
      source,
      destination: first,
      lifetimeMs: 3_600_000,
    } as const;
    const { id } = makeBundle(header, body);
    return compact.encodeCompactBundle(
      {
        ...{ kind: header.kind, priority: header.priority, lifetimeMs: header.lifetimeMs },
        ...{ sequence: (4 * times + sequence) % 256, remainingMs: 3_600_000, hops: random.below(8) },
        source: place,
        destination: undefined,
        seal: { kind: "asIs" },
        rest: body,
      },
      id,
    );
  };
  const unknown = { index: random.below(compact.REFERENCES_MAX) };
  return [
    mailOf(first, { index }, 0),
    mailOf(second, unknown, 1),
    mailOf(second, { ...unknown, isReceivers: true }, 2),
    compact.encodeCompactBundle(
      {
        ...{ kind: BundleKind.message, priority: 2, lifetimeMs: 3_600_000, remainingMs: 3_600_000, hops: 1 },
        ...{ sequence: (4 * times + 3) % 256, source: { index, is: second }, destination: { index } },
        seal: { kind: "later", session: unknown },
        rest: body,
      },
      makeBundle(
        { kind: BundleKind.message, priority: 2, source: first, destination: first, lifetimeMs: 60_000 },
        body,
      ).id,
    ),
  ];
};

/** It is a gateway, and none, and wants to hear the far end's word each time. */
export const flaps: Says = (random, times) => [
  encodeBeacon({
    seqno: 2 ** 40 + times,
    hasProof: times % 3 === 0,
    gatewayMetric: times % 2 === 0 ? random.below(50) : undefined,
    wantsBeacon: true,
  }),
];

/** Paths to nodes that are not there, names that nobody has, probes, and what asks for a hello. */
export const asksForEver: Says = (random, times) => {
  const destination = formatNodeId(random.bytes(32));
  const needsSeqno = times % 2 === 0 ? 2 ** 48 - 1 : undefined;
  return [
    encodePathQuestion({
      number: times % 2 ** 16,
      hopsLeft: 255,
      destination,
      needsSeqno,
      holdsSeqno: undefined,
    }),
    encodeLookup({ subject: { kind: "name", name: `XX-${times % 1_000}` }, wantsProof: times % 2 === 0 }),
    encodeLookup({ subject: { kind: "node", id: destination }, wantsProof: false }),
    new Uint8Array([FrameType.helloWanted]),
  ];
};
