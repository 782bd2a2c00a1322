/** How far what is being sent is, as the API and its events say it. Reads; keeps nothing. */
import type { Progress } from "../custody/forwarding/sending.ts";
import type { BundleId, NodeId } from "../kernel/ids.ts";
import type { Mesh } from "../mesh/mesh.ts";
import type { ProgressView } from "./contract/node.ts";

interface Sent {
  readonly custody: { readonly sender: Pick<Mesh["custody"]["sender"], "progressOf"> };
}

export const progressNumbers = ({
  to,
  bytes,
  totalBytes,
  bitsPerSecond,
  secondsLeft,
}: Progress): Omit<ProgressView, "next_hop_callsign"> => ({
  next_hop: to,
  bytes,
  bytes_total: totalBytes,
  bits_per_second: bitsPerSecond === undefined ? null : Math.round(bitsPerSecond),
  seconds_left: secondsLeft ?? null,
});

/** Of what goes to several machines the copy that is farthest: one that arrives is enough. Null: none is being sent. */
export function progressView(
  { custody }: Sent,
  bundles: readonly BundleId[],
  callsignOf: (id: NodeId) => string | null,
): ProgressView | null {
  let farthest: Progress | undefined;
  for (const bundle of bundles) {
    const progress = custody.sender.progressOf(bundle);
    if (progress !== undefined && progress.bytes >= (farthest?.bytes ?? 0)) farthest = progress;
  }
  if (farthest === undefined) return null;
  return { ...progressNumbers(farthest), next_hop_callsign: callsignOf(farthest.to) };
}
