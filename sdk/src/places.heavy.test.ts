/** A door without sources, in floods of every size. */
import { expect, test } from "bun:test";
import { seededRandom } from "@godwit/sdk/testkit";
import { type Place, Places } from "./places.ts";

/** How long a handshake of five seconds takes to get in beside `perSecond` that say nothing, dialling again each second or two. */
function secondsUntilIn(places: Places, perSecond: number, setNow: (nowMs: number) => void): number {
  const random = seededRandom(perSecond);
  const anyMs = () => (-Math.log((1 + random.below(999_999)) / 1_000_000) * 1_000) / perSecond;
  let [crowdMs, honestMs, beganMs] = [0, 10_000, 0];
  let honest: Place | undefined;
  for (let nowMs = 0; nowMs < 600_000;) {
    nowMs = Math.min(crowdMs, honestMs);
    setNow(nowMs);
    if (honest !== undefined && nowMs - beganMs >= 5_000) return (beganMs - 10_000) / 1_000;
    if (crowdMs <= honestMs) {
      places.enter(undefined, () => {});
      crowdMs += anyMs();
      continue;
    }
    honestMs += 1_000 + random.below(1_000);
    if (honest !== undefined) continue;
    beganMs = nowMs;
    honest = places.enter(undefined, () => (honest = undefined));
  }
  return Number.POSITIVE_INFINITY;
}

test("without a source a handshake of five seconds gets in by and by, however many come", () => {
  for (const perSecond of [50, 100, 400, 2_000]) {
    let nowMs = 0;
    const setNow = (to: number) => (nowMs = to);
    const grace = { ms: 5_000, nowMs: () => nowMs };
    const size = { max: 512, perSourceMax: 512 };
    const [before, after] = [new Places(size), new Places({ ...size, grace })].map((places) =>
      secondsUntilIn(places, perSecond, setNow),
    );
    console.log(`beside ${perSecond} a second: in after ${before} s where the oldest goes, ${after} s here`);
    expect(after).toBeLessThan(120);
    if (perSecond <= 100) expect(after).toBeLessThan(10);
  }
});
