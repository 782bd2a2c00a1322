/** A neighbour is there while its session says so; beacons, or want of them, decide nothing alone. */
import { expect, test } from "bun:test";
import { ANSWER_FOR_MS, HEARD_FOR_MS, HINTED_FOR_MS, Presence } from "./presence.ts";

const MINUTE_MS = 60_000;
const HOUR_MS = 60 * MINUTE_MS;

/** Looks every minute; when it was asked, and when it was there last. */
function watch(presence: Presence, fromMs: number, toMs: number, isHeard: boolean, isShutOut = false) {
  const askedMs: number[] = [];
  let thereMs = Number.NaN;
  for (let nowMs = fromMs; nowMs <= toMs; nowMs += MINUTE_MS) {
    const { isThere, isAsked } = presence.judge(nowMs, isHeard, isShutOut);
    if (isAsked) {
      presence.noteAsked(nowMs);
      askedMs.push(nowMs);
    }
    if (isThere) thereMs = nowMs;
  }
  return { askedMs, thereMs };
}

test("who is silent is gone after six hours, and nobody asks", () => {
  const { askedMs, thereMs } = watch(new Presence(0), 0, 48 * HOUR_MS, false);
  expect(askedMs).toEqual([]);
  expect(thereMs).toBe(HEARD_FOR_MS - MINUTE_MS);
});

test("whose beacons were passed over is asked some times on its link before it counts as gone", () => {
  const { askedMs, thereMs } = watch(new Presence(0), 0, HEARD_FOR_MS + HOUR_MS, false, true);
  expect(askedMs[0]).toBe(HEARD_FOR_MS);
  expect(askedMs.length).toBeGreaterThan(2);
  expect(askedMs.length).toBeLessThan(6);
  expect(thereMs).toBe(HEARD_FOR_MS + ANSWER_FOR_MS - MINUTE_MS);
});

test("who was gone is not there again because old beacons are repeated", () => {
  const presence = new Presence(0);
  watch(presence, 0, 12 * HOUR_MS, false);
  const { askedMs, thereMs } = watch(presence, 12 * HOUR_MS, 10 * 24 * HOUR_MS, false, true);
  expect(thereMs).toBeNaN();
  expect(askedMs.length).toBeLessThan(10 + 10 * 4);
});

test("who answers is there for another time, and is not asked while beacons are heard for two days", () => {
  const presence = new Presence(0);
  watch(presence, 0, HEARD_FOR_MS, false, true);
  presence.prove(HEARD_FOR_MS + MINUTE_MS);
  const end = HEARD_FOR_MS + HINTED_FOR_MS;
  expect(watch(presence, HEARD_FOR_MS + 2 * MINUTE_MS, end, true)).toEqual({ askedMs: [], thereMs: end });
});

test("beacons alone keep nobody there for longer than two days, and make nobody ask without end", () => {
  const days = 30;
  const { askedMs, thereMs } = watch(new Presence(0), 0, days * 24 * HOUR_MS, true);
  expect(thereMs).toBeGreaterThanOrEqual(HINTED_FOR_MS);
  expect(thereMs).toBeLessThan(HINTED_FOR_MS + ANSWER_FOR_MS);
  // Whoever is back may be heard before it can answer: it is asked as long as it is heard.
  expect(askedMs.length).toBeLessThan(10 + days * 4);
  expect(askedMs.at(-1)).toBeGreaterThan((days - 1) * 24 * HOUR_MS);
});
