/**
 * What was sent, and when it really left this node: a frame may wait in a lane of its neighbour, and behind it in a pipe until a budget of airtime
 * lets it go. Whoever waits for an answer hands one along with the frame and counts from there. docs/protocol/slow.md "Timers"
 */
export interface Departure {
  /** Monotonic; undefined while it waits, -Infinity when it was dropped instead. */
  leftAtMs: number | undefined;
}

/** It was sent, and waits here. */
export const isWaiting = (departure: Departure | undefined): boolean =>
  departure !== undefined && departure.leftAtMs === undefined;

/** It will not be sent. */
export function noteDropped(departure: Departure | undefined): void {
  if (departure !== undefined) departure.leftAtMs ??= Number.NEGATIVE_INFINITY;
}

export const newDeparture = (): Departure => ({ leftAtMs: undefined });
