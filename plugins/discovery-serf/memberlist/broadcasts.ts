/**
 * News that wait to be sent, each a bounded number of times: those sent least go first, then the larger, then the newer. What says something
 * newer of the same thing takes the place of what said it before.
 */

/** More are news of a flood: what was sent most is dropped. */
export const BROADCASTS_MAX = 512;
/** What is larger fits no datagram beside its envelope; it is told with the next exchange of states, or not at all. */
const BROADCAST_BYTES_MAX = 1_320;

interface Broadcast {
  /** What it is about; undefined: it replaces nothing. */
  readonly about: string | undefined;
  readonly bytes: Uint8Array;
  readonly order: number;
  transmits: number;
  readonly sent: (() => void) | undefined;
}

/** What is sent first stands first. */
const inTurn = (a: Broadcast, b: Broadcast): number =>
  a.transmits - b.transmits || b.bytes.length - a.bytes.length || b.order - a.order;

export class Broadcasts {
  readonly #queue = new Set<Broadcast>();
  readonly #byAbout = new Map<string, Broadcast>();
  #made = 0;
  /** Told of each that had to go unsent. */
  readonly #dropped: () => void;
  /** Told of each that waits now. */
  readonly #added: () => void;

  constructor(dropped: () => void, added: () => void) {
    this.#dropped = dropped;
    this.#added = added;
  }

  get size(): number {
    return this.#queue.size;
  }

  /** `bytes` are kept. `sent` is called when it has been sent as often as it is, or was replaced. */
  add(bytes: Uint8Array, about?: string, sent?: () => void): void {
    if (bytes.length > BROADCAST_BYTES_MAX) {
      this.#dropped();
      return sent?.();
    }
    const old = about === undefined ? undefined : this.#byAbout.get(about);
    if (old !== undefined) this.#end(old);
    const broadcast: Broadcast = { about, bytes, order: this.#made++, transmits: 0, sent };
    this.#queue.add(broadcast);
    if (about !== undefined) this.#byAbout.set(about, broadcast);
    this.#added();
    if (this.#queue.size <= BROADCASTS_MAX) return;
    // A state of strangers may be thousands of news: they are looked through for each, and not sorted.
    let last = broadcast;
    for (const one of this.#queue) if (inTurn(last, one) < 0) last = one;
    this.#end(last);
    this.#dropped();
  }

  /** Those that fit in `room` bytes, of which each takes `overhead` more. `limit`: how often each is sent. */
  take(room: number, overhead: number, limit: number): Uint8Array[] {
    const taken: Uint8Array[] = [];
    let left = room;
    for (const broadcast of [...this.#queue].sort(inTurn)) {
      const size = broadcast.bytes.length + overhead;
      if (size <= left) {
        left -= size;
        taken.push(broadcast.bytes);
        broadcast.transmits++;
      }
      if (broadcast.transmits >= limit) this.#end(broadcast);
    }
    return taken;
  }

  clear(): void {
    for (const broadcast of [...this.#queue]) this.#end(broadcast);
  }

  #end(broadcast: Broadcast): void {
    this.#queue.delete(broadcast);
    if (broadcast.about !== undefined && this.#byAbout.get(broadcast.about) === broadcast)
      this.#byAbout.delete(broadcast.about);
    broadcast.sent?.();
  }
}
