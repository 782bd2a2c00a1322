/** The spread of revocations joined to the mesh: between neighbours, on the control lane. */
import { RevocationSpread } from "../../membership/revocations.ts";
import { FrameType } from "../../wire/constants.ts";
import type { PartOf, PartContext } from "../part.ts";

export function revocationsPart({ mesh, deps, kept }: PartContext): PartOf<RevocationSpread> {
  const { clock, metrics } = deps;
  const spread = new RevocationSpread({
    clock,
    metrics,
    records: kept.records,
    shareOf: (teller) => kept.acquaintances.shareOf(teller),
    send: (to, frame) => mesh.peers.tell(to, "control", frame, "revocations"),
    frameBytesMax: (to) => mesh.peers.get(to)?.frameBytesMax ?? 0,
  });
  return {
    engine: spread,
    frames: [
      {
        types: [FrameType.revocationDigest, FrameType.revocation],
        take: (from, type, frame) => spread.onFrame(from, type, frame),
      },
    ],
    peerUp: ({ id }) => spread.onNeighbourUp(id),
    peerDown: ({ id }) => spread.onNeighbourDown(id),
    writable: ({ id }) => spread.onWritable(id),
    revoked: (held) => spread.onRevoked(held),
  };
}
