/** What is under way to one neighbour and not yet answered, and how much that may be. docs/protocol/delivery.md "Windows". */
import type { BundleId, NodeId } from "../../kernel/ids.ts";
import type { Holding } from "../context.ts";

/** Bundles sent whole. */
const BUNDLES_MAX = 512;
const BYTES_MAX = 4 * 1024 * 1024;
/** Offers of any size: each may hold a whole large bundle in memory. */
const LARGE_OFFERS_MAX = 2;
/** Offers that are small together: on links with small frames every bundle is one. */
const SMALL_OFFERS_MAX = 32;
const SMALL_OFFERS_BYTES_MAX = 256 * 1024;

export interface Window {
  readonly inflight: Map<BundleId, { holding: Holding; sentAtMs: number; isOffer: boolean }>;
  /** Of bundles sent whole. */
  bytes: number;
  offers: number;
  offeredBytes: number;
  /** Destinations that wait for room here. */
  readonly waiting: Set<NodeId>;
}

export const newWindow = (): Window => ({
  inflight: new Map(),
  bytes: 0,
  offers: 0,
  offeredBytes: 0,
  waiting: new Set(),
});

/** One bundle always has room in an empty window, whatever its size. */
export function hasRoom(window: Window, sealedBytes: number, isOffer: boolean): boolean {
  if (window.inflight.size >= BUNDLES_MAX) return false;
  if (!isOffer) return window.bytes === 0 || window.bytes + sealedBytes <= BYTES_MAX;
  if (window.offers < LARGE_OFFERS_MAX) return true;
  return window.offers < SMALL_OFFERS_MAX && window.offeredBytes + sealedBytes <= SMALL_OFFERS_BYTES_MAX;
}
