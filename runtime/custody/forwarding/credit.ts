/**
 * How many bytes of a large bundle a neighbour is asked for ahead of what has arrived: what the way to it holds, by its measured pace and round
 * trip, and no more, because what is under way cannot be overtaken. Pure. docs/protocol/delivery.md "Large bundles".
 */
import type { NodeId } from "../../kernel/ids.ts";
import type { Offer } from "../../wire/bundle.ts";
import type { Carrier } from "../context.ts";

/** At first, when nothing is known of the pace. */
const CREDIT_FIRST_BYTES = 64 * 1024;
const CREDIT_BYTES_MIN = 16 * 1024;
/** Datagrams that come behind a gap wait in memory, and earlier releases send no more than twice this at one word. */
const CREDIT_BYTES = 1024 * 1024;
/** Over a reliable link, from a neighbour that tells sums. */
export const CREDIT_BYTES_MAX = 4 * 1024 * 1024;
/** Bytes that are granted, under way, or here and not durable yet. */
export const UNWRITTEN_BYTES_MAX = 4 * 1024 * 1024;
/** So much longer than two round trips the credit lasts at the pace that was seen: the ends do not answer at once. */
const SLACK_MS = 250;
/** A clock that stands still says nothing about the pace. */
const TOOK_MS_MIN = 0.1;

type Link = Pick<Carrier, "isReliable" | "isCarried">;

const isCarried = (carrier: Link, from: NodeId): boolean => carrier.isCarried?.(from) === true;

/** Each grant costs a round, so a carried medium gets all at once. */
export const creditFirst = (carrier: Link, from: NodeId): number =>
  isCarried(carrier, from) ? CREDIT_BYTES : CREDIT_FIRST_BYTES;

export const creditMax = (carrier: Link, from: NodeId, { sums }: Pick<Offer, "sums">): number =>
  sums !== undefined && carrier.isReliable(from) && !isCarried(carrier, from)
    ? CREDIT_BYTES_MAX
    : CREDIT_BYTES;

/** What came under the last grant. */
export interface Seen {
  readonly credit: number;
  readonly bytes: number;
  readonly tookMs: number;
}

/** The next grant: at most twice or half as much as the last one. */
export function creditAfter(
  carrier: Link & Pick<Carrier, "rttMs">,
  from: NodeId,
  offer: Pick<Offer, "sums">,
  { credit, bytes, tookMs }: Seen,
): number {
  if (isCarried(carrier, from)) return credit;
  const perMs = bytes / Math.max(tookMs, TOOK_MS_MIN);
  const wanted = Math.max(credit / 2, perMs * (2 * carrier.rttMs(from) + SLACK_MS));
  const within = Math.max(CREDIT_BYTES_MIN, Math.min(2 * credit, wanted));
  return Math.round(Math.min(creditMax(carrier, from, offer), within));
}
