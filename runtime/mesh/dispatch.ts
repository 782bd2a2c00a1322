/**
 * Which part takes a frame of a neighbour, or a packet that has reached its end here: one table, made from what the parts
 * say they take. Two that want the same are refused when it is made. What nobody takes is counted and skipped, because a
 * later version may send it. docs/registry.md lists the numbers.
 */
import { godwitError } from "../kernel/errors.ts";
import type { NodeId } from "../kernel/ids.ts";
import type { CounterMetric, Metrics } from "../kernel/metrics.ts";
import { FrameType } from "../wire/constants.ts";
import { PacketKind, type PacketHeader } from "../wire/packet.ts";

/** Frames of neighbours that a part takes. */
export interface FrameClaim {
  /** First and last type, both included. */
  readonly types: readonly [first: number, last: number];
  /** `frame` is borrowed until this returns. Throws GODWIT_DECODE: the link closes as for any protocol error. */
  take(from: NodeId, type: number, frame: Uint8Array): void;
}

/** Routed packets that have reached their end here. */
export interface PacketClaim {
  readonly kind: number;
  /**
   * `payload` is borrowed until this returns. Throws GODWIT_DECODE: the packet is counted as malformed, and the neighbour
   * that only carried it keeps its link.
   */
  take(header: PacketHeader, payload: Uint8Array): void;
}

/** What a part takes, as data: no two parts may take the same. */
export interface Claims {
  readonly frames?: readonly FrameClaim[];
  readonly packets?: readonly PacketClaim[];
}

/** A type and a kind are one byte each. */
const NUMBERS = 256;

/** Taken before anything reaches the table, by whom. */
const RESERVED = {
  frames: { by: "the link itself", first: FrameType.hello, last: FrameType.goodbye },
  packets: { by: "the packets themselves", first: PacketKind.traceRequest, last: PacketKind.traceReply },
} as const;

interface Taker<Take> {
  readonly part: string;
  /** False: the part has stopped. */
  isOpen(): boolean;
  readonly take: Take | undefined;
}

type FrameTaker = Taker<FrameClaim["take"]>;
type PacketTaker = Taker<PacketClaim["take"]>;

export class DispatchTable {
  readonly #frames: (FrameTaker | undefined)[] = Array.from({ length: NUMBERS });
  readonly #packets: (PacketTaker | undefined)[] = Array.from({ length: NUMBERS });
  readonly #unknown: CounterMetric;

  constructor(metrics: Metrics) {
    this.#unknown = metrics.counter("godwit_frames_unknown_total");
    const { frames, packets } = RESERVED;
    const nobody = { isOpen: () => false, take: undefined };
    claim(this.#frames, "frame type", frames.first, frames.last, { ...nobody, part: frames.by });
    claim(this.#packets, "packet kind", packets.first, packets.last, { ...nobody, part: packets.by });
  }

  /** Throws GODWIT_BUG, naming both, when a part before it takes one of the same. */
  add(part: string, isOpen: () => boolean, { frames = [], packets = [] }: Claims): void {
    for (const { types, take } of frames)
      claim(this.#frames, "frame type", types[0], types[1], { part, isOpen, take });
    for (const { kind, take } of packets)
      claim(this.#packets, "packet kind", kind, kind, { part, isOpen, take });
  }

  /** Borrowed. Throws what the part throws. */
  frame(from: NodeId, type: number, frame: Uint8Array): void {
    const taker = this.#frames[type];
    if (taker?.take === undefined) return this.#unknown.add();
    if (taker.isOpen()) taker.take(from, type, frame);
  }

  /** Borrowed. Throws what the part throws. False: no part takes packets of this kind. */
  packet(header: PacketHeader, payload: Uint8Array): boolean {
    const taker = this.#packets[header.kind];
    if (taker?.take === undefined) return false;
    if (taker.isOpen()) taker.take(header, payload);
    return true;
  }
}

function claim<T extends { readonly part: string }>(
  table: (T | undefined)[],
  what: string,
  first: number,
  last: number,
  taker: T,
): void {
  if (!(first >= 0 && first <= last && last < NUMBERS))
    throw godwitError("GODWIT_BUG", `${taker.part} takes ${what} ${first} to ${last}, which is no range`);
  for (let number = first; number <= last; number++) {
    const other = table[number];
    if (other !== undefined)
      throw godwitError("GODWIT_BUG", `${what} ${number} is taken by ${other.part} and by ${taker.part}`);
    table[number] = taker;
  }
}
