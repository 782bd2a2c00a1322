/**
 * How far a large bundle is on its way to a neighbour, as that neighbour says: it asks for what it does not have. Owns no timer, decides
 * nothing.
 */
import { BoundedMap } from "@godwit/sdk/bounded";
import type { BundleId, MessageId, NodeId } from "../../kernel/ids.ts";
import { Rate } from "../../kernel/rate.ts";
import type { Holding } from "../context.ts";

/** Of which it is shown how far they are. */
const SENDINGS_MAX = 1_024;
/** Of one transfer it is told at most so often. */
const TOLD_EVERY_MS = 1_000;

/** At one moment. */
export interface Progress {
  /** The next hop. */
  readonly to: NodeId;
  /** Sealed bytes that it has. */
  readonly bytes: number;
  readonly totalBytes: number;
  /** Undefined: it is too early to say. */
  readonly bitsPerSecond: number | undefined;
  /** Until the next hop has all of it; undefined: nobody knows. */
  readonly secondsLeft: number | undefined;
}

export interface SendingEvents {
  /** A message of this node is being sent, and some more of it has arrived: at most once a second, and not of what takes less. */
  outboxProgress: Progress & { readonly id: MessageId };
}

interface Sending {
  readonly to: NodeId;
  readonly totalBytes: number;
  readonly rate: Rate;
  bytes: number;
  toldAtMs: number;
}

/** As many as there are offers under way, for whoever begins one ends it; and those of neighbours that ask for what was sent to them whole. */
export class Sendings {
  readonly #sendings = new BoundedMap<BundleId, Sending>({ name: "transfers under way", max: SENDINGS_MAX });

  get count(): number {
    return this.#sendings.size;
  }

  /** `to` has all before `bytes`. Answers how far it is when it is time to tell. */
  onWanted(to: NodeId, holding: Holding, bytes: number, nowMs: number): Progress | undefined {
    const { id, sealedBytes } = holding;
    const sending = this.#sendings.get(id);
    if (sending?.to !== to) {
      // What it had before says nothing of the pace.
      const rate = new Rate(nowMs);
      this.#sendings.set(id, { to, totalBytes: sealedBytes, rate, bytes, toldAtMs: nowMs });
      return undefined;
    }
    // Asked again for what was lost, or for all of it anew.
    if (bytes > sending.bytes) {
      sending.rate.add(bytes - sending.bytes, nowMs);
      holding.movedAtMs = nowMs;
    }
    sending.bytes = bytes;
    if (nowMs - sending.toldAtMs < TOLD_EVERY_MS) return undefined;
    sending.toldAtMs = nowMs;
    return this.of(id, nowMs);
  }

  end(to: NodeId, id: BundleId): void {
    if (this.#sendings.get(id)?.to === to) this.#sendings.delete(id);
  }

  /** Undefined: it is not being sent. */
  of(id: BundleId, nowMs: number): Progress | undefined {
    const sending = this.#sendings.get(id);
    if (sending === undefined) return undefined;
    const { to, bytes, totalBytes, rate } = sending;
    return {
      to,
      bytes,
      totalBytes,
      bitsPerSecond: rate.bitsPerSecond(nowMs),
      secondsLeft: rate.secondsLeft(totalBytes - bytes, nowMs),
    };
  }
}
