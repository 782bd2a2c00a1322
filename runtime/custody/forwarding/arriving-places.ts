/**
 * Who may send a body in chunks now. Each of the few places holds a body in memory, and keys cost nothing: two of them would keep large mail
 * of everybody else out for ever, a byte now and then. Decides who yields to whom; whoever yields offers again, and goes on where it
 * was. Pure. docs/protocol/delivery.md "Large bundles".
 */
import type { NodeId } from "../../kernel/ids.ts";
import type { Share } from "../../kernel/room.ts";

/** In a place for so long without this pace on average, a transfer yields to whoever has fewer or as many. */
const SLOW_AFTER_MS = 10_000;
const SLOW_BYTES_PER_SECOND = 16 * 1024;

export interface Holder<K> {
  readonly key: K;
  readonly from: NodeId;
  readonly share: Share;
  readonly startedAtMs: number;
  /** Bytes that came since. */
  readonly bytes: number;
}

export interface PlacesAsked {
  readonly from: NodeId;
  readonly share: Share;
  readonly nowMs: number;
  readonly max: number;
  readonly perNeighbourMax: number;
}

/** `yields`: it gets the place of that one. */
export type PlaceChoice<K> =
  { readonly kind: "free" } | { readonly kind: "none" } | { readonly kind: "yields"; readonly key: K };

const nameOf = ({ by, isKnown }: Share): string => `${isKnown ? "known" : "stranger"} ${by}`;

/** So long a body of so many bytes takes at the slowest pace that others wait for, ms. */
export const slowestMs = (bytes: number): number => SLOW_AFTER_MS + (bytes / SLOW_BYTES_PER_SECOND) * 1_000;

const paceOf = <K>({ bytes, startedAtMs }: Holder<K>, nowMs: number): number =>
  bytes / Math.max(1, nowMs - startedAtMs);

export const isSlow = <K>(one: Holder<K>, nowMs: number): boolean =>
  nowMs - one.startedAtMs >= SLOW_AFTER_MS && paceOf(one, nowMs) * 1_000 < SLOW_BYTES_PER_SECOND;

export function planPlace<K>(holders: readonly Holder<K>[], asked: PlacesAsked): PlaceChoice<K> {
  const { from, share, nowMs, max, perNeighbourMax } = asked;
  if (holders.filter((one) => one.from === from).length >= perNeighbourMax) return { kind: "none" };
  if (holders.length < max) return { kind: "free" };
  const counts = new Map<string, number>();
  for (const one of holders) counts.set(nameOf(one.share), (counts.get(nameOf(one.share)) ?? 0) + 1);
  const own = counts.get(nameOf(share)) ?? 0;
  const mayYield = (one: Holder<K>) => {
    const count = counts.get(nameOf(one.share))!;
    // A known one does not yield to a stranger, a stranger always to a known one that has less.
    if (one.share.isKnown && !share.isKnown) return false;
    if (!one.share.isKnown && share.isKnown) return true;
    // Of one source those that move would push each other out for ever.
    return count > own + 1 || (isSlow(one, nowMs) && count >= own);
  };
  const [first] = holders
    .filter(mayYield)
    .sort(
      (a, b) =>
        counts.get(nameOf(b.share))! - counts.get(nameOf(a.share))! || paceOf(a, nowMs) - paceOf(b, nowMs),
    );
  return first === undefined ? { kind: "none" } : { kind: "yields", key: first.key };
}
