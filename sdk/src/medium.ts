/**
 * A channel that everybody in earshot shares, as a radio's: what one end sends, all others wait for. A transport that has such a channel gives
 * the node one object for it, in its registration and in each of its pipes; the node keeps one budget of airtime for all that it controls there.
 * A plugin that is contained or untrusted has one as well: the node then hears within 10 s how busy the channel is, airtimes as they were at the registration, and
 * takes what is to go to all for sent.
 * docs/protocol/slow.md "One channel, one budget"
 */

/**
 * What a datagram is for: 0 alarms, what makes a link and what spares a repetition; 1 text; 2 receipts and what keeps ways up; 3 presence; 4 digests. Smaller goes first
 * where there is a queue, and on a shared channel that is busy the larger ones wait (`Medium.admits`).
 */
export type Urgency = 0 | 1 | 2 | 3 | 4;

/** Called synchronously; bytes are borrowed until it returns. */
export type MediumHeard = (from: string, bytes: Uint8Array) => void;

export interface Medium {
  /** Names it in log, metrics and API: the transport's instance. */
  readonly name: string;
  /** Of the channel, bits per second on the air, above 0. */
  readonly rateBitsPerSecond: number;
  /** How long one datagram of so many bytes keeps the channel busy, ms: with all that the medium adds, as preamble, headers, signatures and relaying. */
  airtimeMs(bytes: number, to: "one" | "all"): number;
  /** Share of the last minutes in which the channel was busy, whoever sent, as far as is heard here: 0 to 1. */
  readonly utilisation: number;
  /**
   * Of all airtime, what this station may take itself on the average, 0 to 1, as a region's duty cycle or a rule of the channel says: of that too control takes
   * a part only, so that mail keeps the rest. Read again at any time; without it, as much as there is.
   */
  readonly ownShare?: number;
  /**
   * The least urgent of what may be sent now, as a channel that is busy is left to others: 4, everything, to 0, alarms alone. Read again at any time, at least each 15 s; mail
   * that it does not admit waits at the node, which says why. Without it, everything.
   */
  readonly admits?: Urgency;
  /** Largest datagram to all, bytes. */
  readonly broadcastBytesMax: number;
  /**
   * Sends to everybody in earshot, borrowed until the call returns; not acknowledged, not encrypted, from anybody. `urgency`: what it is for, without it 3, presence; 0
   * where mail waits for it. False: it was not taken, because it is too large, the channel does not admit it now, or something else to all waits still; where it admits
   * less at times, what waits for that must not keep out what is more urgent.
   */
  broadcast(bytes: Uint8Array, urgency?: Urgency): boolean;
  /**
   * Whether an endpoint of its scheme is on this channel: a node may have several radios, and each hears others. Default: whatever has its scheme. May throw
   * for what is no endpoint, which then is not. Of a plugin that is contained or untrusted the default holds.
   */
  reaches?(endpoint: string): boolean;
  /** What others send to all. `from`: an endpoint of theirs that can be dialled here. The node calls it, and the last call counts. */
  listen(heard: MediumHeard): void;
}
