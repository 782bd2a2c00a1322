/**
 * When a crowd of commits is worth a write of its own. Owns the wait before each step of a store; must never hold up one that is alone for
 * longer than a turn of the event loop.
 *
 * Where each was written as soon as the disk had written the one before, 10,000 messages over 128 connections went in 6,400 writes instead of
 * 1,100, and each of these had a frame to the neighbour and an acknowledgement of its own: half as much processor time again.
 */
import { nextTurn } from "../kernel/clock.ts";

/** How long the first that waits is held up at most by others that come, ms. */
export const GATHER_MS = 4;

/** Resolves when a turn of the event loop brought nothing to `waiting()`, `enough` wait, or the time is up by `nowMs`. */
export async function gather(waiting: () => number, enough: number, nowMs: () => number): Promise<void> {
  const untilMs = nowMs() + GATHER_MS;
  for (let seen = -1; seen < waiting() && waiting() < enough && nowMs() < untilMs;) {
    seen = waiting();
    await nextTurn();
  }
}
