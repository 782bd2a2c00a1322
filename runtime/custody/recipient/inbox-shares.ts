/**
 * Who fills how much of the inbox: sums by sender and by who brought it, which is what the store counts as groups. Nothing for each
 * message. Bounded by refusing: what is accepted stays.
 */
import type { NodeId } from "../../kernel/ids.ts";
import { type Booking, Quota, QuotaSums } from "../../kernel/quota.ts";
import { EARLIER_RUN, type Share } from "../../kernel/room.ts";
import type { GroupTotal } from "../../store/types.ts";
import type { CustodyContext } from "../context.ts";

/** Senders of what is in the inbox; one that comes by several ways counts once for each. Strangers are refused beyond their share of it. */
export const INBOX_SENDERS_MAX = 65_536;

/** Of whom a message is: see `InboxEntry`. */
export interface Sent {
  readonly from: NodeId;
  readonly via?: string;
}

interface Group extends Booking {
  readonly count: number;
  readonly bytes: number;
}

/** As the store counts it. A node id has no blank. */
export const groupOf = ({ from, via }: Sent): string => (via === undefined ? from : `${from} ${via}`);

function sentBy(group: string): Sent {
  const blank = group.indexOf(" ");
  if (blank < 0) return { from: group as NodeId };
  return { from: group.slice(0, blank) as NodeId, via: group.slice(blank + 1) };
}

export class InboxShares {
  readonly #ctx: Pick<CustodyContext, "limits" | "regard" | "fullTables">;
  #sums!: QuotaSums;
  #places!: Quota<string>;
  readonly #groups = new Map<string, Group>();

  constructor(ctx: Pick<CustodyContext, "limits" | "regard" | "fullTables">) {
    this.#ctx = ctx;
    this.load([]);
  }

  get count(): number {
    return this.#sums.count;
  }

  get bytes(): number {
    return this.#sums.bytes;
  }

  /** Forgets what was counted before. */
  load(groups: readonly GroupTotal[]): void {
    const { limits } = this.#ctx;
    this.#sums = new QuotaSums({
      get countMax() {
        return limits.inboxMessagesMax;
      },
      get bytesMax() {
        return limits.inboxBytesMax;
      },
      oneShare: limits.senderShare,
    });
    const bytesMax = Number.MAX_SAFE_INTEGER;
    this.#places = new Quota({ countMax: INBOX_SENDERS_MAX, bytesMax, oneShare: 1 });
    this.#groups.clear();
    for (const { group, count, bytes } of groups) this.add(group, count, bytes);
  }

  /** Undefined when there is room for a body of `bytes` from this sender, else why not. */
  refusal(from: NodeId, share: Share, bytes: number): "full" | "quota" | undefined {
    const refusal = this.#sums.refusal(from, share, bytes);
    if (refusal !== undefined || share.isKnown) return refusal;
    if (this.#groups.has(groupOf({ from, via: share.by }))) return undefined;
    if (this.#places.refusal(from, share, 0) === undefined) return undefined;
    this.#ctx.fullTables.refused("senders in the inbox");
    return "quota";
  }

  /** Both may be negative. */
  add(group: string, count: number, bytes: number): void {
    const held = this.#groups.get(group);
    const source = this.#sourceOf(group);
    // Who was a stranger at the start and is known by now takes no more of theirs: all that it sent.
    const isMoved = held !== undefined && held.source !== undefined && source === undefined;
    const booking = held !== undefined && !isMoved ? held : { who: sentBy(group).from, source };
    if (isMoved) {
      this.#sums.book(held, -held.count, -held.bytes);
      this.#sums.book(booking, held.count, held.bytes);
    }
    this.#sums.book(booking, count, bytes);
    const now = { ...booking, count: (held?.count ?? 0) + count, bytes: (held?.bytes ?? 0) + bytes };
    if (now.count <= 0) {
      this.#groups.delete(group);
      this.#places.drop(group);
      return;
    }
    this.#groups.set(group, now);
    if (held === undefined || isMoved) this.#places.add(group, group, shareOf(booking), 0);
  }

  /** Of one of a release that noted no share, or of somebody who was known when it came: as it is now. */
  #sourceOf(group: string): string | undefined {
    const { from, via } = sentBy(group);
    if (via !== undefined) return via;
    return group !== "" && this.#ctx.regard.isKnown(from) ? undefined : EARLIER_RUN.by;
  }
}

const shareOf = ({ who, source }: Booking): Share =>
  source === undefined ? { by: who, isKnown: true } : { by: source, isKnown: false };
