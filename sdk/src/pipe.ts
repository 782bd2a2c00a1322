/**
 * A pipe is what a transport yields: one bidirectional flow of bytes (`stream`) or of packets (`datagram`) to one far
 * end whose identity is unknown until the link handshake above it. In a datagram of a link bit 7 of the first byte is
 * clear in a handshake message and set in a record: only the former may open a pipe. Callback-based, because promises per packet cost
 * more than the packet.
 */

import type { Medium, Urgency } from "./medium.ts";

/** Which timers and control budget fit: fast >= 1 Mbit/s, medium >= 10 kbit/s (Tor), slow below (LoRa). */
export type LinkClass = "fast" | "medium" | "slow";
export type PipeDirection = "outbound" | "inbound";

export interface PipeHandlers {
  /** Bytes arrived (a piece of the stream, or one whole datagram). Borrowed: valid until the call returns. */
  data(bytes: Uint8Array): void;
  /** After `write` returned false: there is room again. */
  drain(): void;
  /**
   * Only of pipes that have `answerMs`: of the datagrams written and not told of yet, in the order of writing, the one at this place, by default 0, the first, is on
   * its way as a whole, or was dropped. Once for each, not within `write`.
   */
  left?(at?: number): void;
  /** Exactly once, last, whoever closed. No error when the far end or we closed politely. */
  closed(error?: Error): void;
}

export interface Pipe {
  readonly kind: "stream" | "datagram";
  readonly direction: PipeDirection;
  /**
   * Endpoint of the far end as a URL, e.g. `tcp://192.0.2.1:4860`. For an inbound pipe it need not be dialable. It may
   * change when a datagram pipe's far end moves.
   */
  readonly remote: string;
  /** Endpoint of this end as a URL. */
  readonly local: string;
  readonly linkClass: LinkClass;
  /**
   * The medium hides who and where its ends are (Tor). The handshake then hides identities too, whoever is known already, and
   * nothing is counted by source. The end without an address is `<scheme>://anonymous`. Default false.
   */
  readonly isAnonymous?: boolean;
  /**
   * How long an answer may take, in ms, where that is beyond what `linkClass` allows: a medium that is carried. Whatever
   * waits for the far end waits this long, at most 30 days; such a link is dear, so that any live way goes before it.
   */
  readonly patienceMs?: number;
  /** The channel that it shares with others. */
  readonly medium?: Medium;
  /**
   * Of datagrams that may wait here for long before they leave: from when one has left until an answer to it can be there at the earliest, ms. Such a pipe calls
   * `left`, and whatever waits for an answer waits from then. No value: what is written has left.
   */
  readonly answerMs?: number;
  /** Expected rate in bits per second before anything was measured; routing starts from it. */
  readonly rateBitsPerSecond: number;
  /**
   * Largest datagram in bytes; for a stream 0. May change while the pipe lives, as the path does; what is already on its
   * way may then be lost.
   */
  readonly mtu: number;
  /** Bytes accepted by `write` and not yet handed to the operating system. */
  readonly bufferedBytes: number;
  /** Starts delivery. Called exactly once; nothing is delivered before. A pipe already dead calls `closed` soon after. */
  open(handlers: PipeHandlers): void;
  /**
   * Sends bytes (for a datagram pipe: one datagram, at most `mtu`). Borrowed until the call returns: what cannot go at
   * once is copied. False means that more than the pipe's high-water mark is buffered: stop until `drain`. A write
   * after close is ignored. A datagram may be dropped silently when the medium is full. `urgency` is told of datagrams on slow links: a pipe whose datagrams
   * wait for long lets the more urgent go first, also after it has answered false. One that is not told it takes what comes as it comes.
   */
  write(bytes: Uint8Array, urgency?: Urgency): boolean;
  /** Stops (or resumes) reading from the medium, so that a slow reader bounds memory. No-op for datagrams. */
  pause(paused: boolean): void;
  /**
   * The link calls it from within `data`: what it was just handed proved genuine, and newer than all before it. On a
   * datagram pipe after each such datagram, so that the pipe may follow a far end that moved; on a stream once, so that a
   * transport can tell links from strangers. Handshake messages prove nothing.
   */
  proven?(): void;
  /** Idempotent. Buffered stream bytes are flushed if that takes under a second. `closed` follows. */
  close(): void;
}
