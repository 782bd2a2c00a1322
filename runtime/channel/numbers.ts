/**
 * Which beacons of one name count, by their numbers. Whoever has the key can forge any number, so none may shut out those that the
 * name's owner has still to say: what counts lies above the lowest that was heard of late, and was not heard itself. A forged one, however
 * high, takes nothing from it; one that is repeated lies below, or was heard. docs/protocol/slow.md "Beacons"
 */
import { BEACON_MIN_MS, HEARD_FOR_MS } from "./presence.ts";

/** Kept of one name. */
export const NUMBERS_MAX = 32;
/** Nothing of the name counted for so long: it begins anew, as on an older disk, ms. */
export const FORGOTTEN_MS = 24 * 3_600_000;
const EPOCH_SPAN = 2 ** 24;
/** A node starts again, and begins to speak, at most this often, ms. */
const START_MS = 10_000;
/** Beacons leave at most this often on the average, ms: half of the shortest interval. */
const BEACON_MS = BEACON_MIN_MS / 2;

interface Said {
  readonly number: number;
  readonly atMs: number;
}

export class BeaconNumbers {
  /** Rising. */
  #said: Said[] = [];
  #newestAtMs = Number.NEGATIVE_INFINITY;

  /** It was heard, and is kept. */
  knows(number: number): boolean {
    return this.#said.some((said) => said.number === number);
  }

  /** Takes a number, heard at a monotonic time. False: it was heard before, or is older than all that count. */
  take(number: number, nowMs: number): boolean {
    if (nowMs - this.#newestAtMs >= FORGOTTEN_MS) this.#said = [];
    const above = this.#said.findIndex((said) => said.number >= number);
    if (above === 0 || this.#said[above]?.number === number) return false;
    this.#said.splice(above < 0 ? this.#said.length : above, 0, { number, atMs: nowMs });
    this.#newestAtMs = nowMs;
    this.#raise(nowMs);
    return true;
  }

  /** Its owner has proved himself: whatever he says next is newer than what was said in his name. */
  forget(): void {
    this.#said = [];
  }

  /** The lowest follows what its owner can have come to since; what he cannot is forged, or of another life. */
  #raise(nowMs: number): void {
    const said = this.#said;
    while (said.length > 1 && nowMs - said[0]!.atMs >= HEARD_FOR_MS && canFollow(said[0]!, said[1]!))
      said.shift();
    if (said.length > NUMBERS_MAX) said.splice(1, 1);
  }
}

function canFollow(before: Said, after: Said): boolean {
  const elapsedMs = Math.max(0, after.atMs - before.atMs);
  const starts = Math.floor(after.number / EPOCH_SPAN) - Math.floor(before.number / EPOCH_SPAN);
  const counted = (after.number % EPOCH_SPAN) - (starts === 0 ? before.number % EPOCH_SPAN : 0);
  return starts <= 1 + elapsedMs / START_MS && counted <= 2 + elapsedMs / BEACON_MS;
}
