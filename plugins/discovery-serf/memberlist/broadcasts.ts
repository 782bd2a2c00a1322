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

export class Broadcasts {
  #queue: Broadcast[] = [];
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
    return this.#queue.length;
  }

  /** `bytes` are kept. `sent` is called when it has been sent as often as it is, or was replaced. */
  add(bytes: Uint8Array, about?: string, sent?: () => void): void {
    if (bytes.length > BROADCAST_BYTES_MAX) {
      this.#dropped();
      return sent?.();
    }
    if (about !== undefined)
      this.#queue = this.#queue.filter((old) => {
        if (old.about !== about) return true;
        old.sent?.();
        return false;
      });
    this.#queue.push({ about, bytes, order: this.#made++, transmits: 0, sent });
    this.#added();
    if (this.#queue.length <= BROADCASTS_MAX) return;
    this.#sort();
    this.#queue.pop()?.sent?.();
    this.#dropped();
  }

  /** Those that fit in `room` bytes, of which each takes `overhead` more. `limit`: how often each is sent. */
  take(room: number, overhead: number, limit: number): Uint8Array[] {
    if (this.#queue.length === 0) return [];
    this.#sort();
    const taken: Uint8Array[] = [];
    let left = room;
    for (const broadcast of this.#queue) {
      const size = broadcast.bytes.length + overhead;
      if (size > left) continue;
      left -= size;
      taken.push(broadcast.bytes);
      broadcast.transmits++;
    }
    this.#queue = this.#queue.filter((broadcast) => {
      if (broadcast.transmits < limit) return true;
      broadcast.sent?.();
      return false;
    });
    return taken;
  }

  clear(): void {
    for (const { sent } of this.#queue.splice(0)) sent?.();
  }

  #sort(): void {
    this.#queue.sort(
      (a, b) => a.transmits - b.transmits || b.bytes.length - a.bytes.length || b.order - a.order,
    );
  }
}
