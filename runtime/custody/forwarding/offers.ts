/** What goes to a neighbour whole and what is offered, and what an offer says. Pure. docs/protocol/delivery.md "Large bundles". */
import type { NodeId } from "../../kernel/ids.ts";
import { sumsBytes, TRACE_MAX, type Journey, type Offer } from "../../wire/bundle.ts";
import type { Carrier, Holding } from "../context.ts";

/** Sealed bytes that travel inline in one frame; larger bundles are offered and sent as chunks. */
export const INLINE_BYTES_MAX = 16 * 1024;
/** Journey without its trace, header and type around sealed bytes in one frame, and what each trace entry adds. */
const FRAME_OVERHEAD_MAX = 160;
const TRACE_ENTRY_BYTES = 38;

/** What one frame to a neighbour holds beside header and journey. */
const roomFor = (carrier: Pick<Carrier, "frameBytesMax">, { trace }: Holding, to: NodeId): number =>
  carrier.frameBytesMax(to) - FRAME_OVERHEAD_MAX - Math.min(trace.length + 1, TRACE_MAX) * TRACE_ENTRY_BYTES;

export const mustOffer = (carrier: Pick<Carrier, "frameBytesMax">, holding: Holding, to: NodeId): boolean =>
  holding.sealedBytes > Math.min(INLINE_BYTES_MAX, roomFor(carrier, holding, to));

/** With its sums, where they are known and the frame has room for them. */
export function offerOf(
  carrier: Pick<Carrier, "frameBytesMax">,
  holding: Holding,
  to: NodeId,
  journey: Journey,
): Offer {
  const { id, header, sealedBytes, sums } = holding;
  const offer = { id, header, journey, sealedBytes };
  const hasRoom = sums !== undefined && sumsBytes(sealedBytes) <= roomFor(carrier, holding, to);
  return hasRoom ? { ...offer, sums } : offer;
}
