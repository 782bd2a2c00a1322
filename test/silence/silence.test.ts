/**
 * Whoever was a neighbour and is suddenly not there is seen to be gone within 5 s by whoever had a link to it: asked before or
 * not, idle or busy, both processors half loaded. Two cuts of every kind; `--long fifty-cuts` makes fifty of each.
 */
import { afterAll, expect } from "bun:test";
import { closeMeshes, report, scenario } from "../net/net-mesh.ts";
import { HalfLoad, kinds, moods, Pair, SEEN_WITHIN_MS } from "./cuts.ts";

afterAll(closeMeshes);

const names = Object.keys(kinds);
/** Pairs that are at work at once: two nodes each. */
const AT_ONCE = 4;
const CUTS = 2;

for (let first = 0; first < names.length; first += AT_ONCE) {
  const group = names.slice(first, first + AT_ONCE);
  scenario(`gone within 5 s: ${group.join("; ")}`, async (mesh) => {
    using _load = new HalfLoad();
    const all = await Promise.all(
      group.map(async (name, i) => {
        const pair = await Pair.open(mesh, kinds[name]!, first + i);
        const seen: number[] = [];
        for (let turn = 0; turn < CUTS; turn++)
          seen.push(...(await pair.cut(moods[(i + turn) % moods.length]!, (i * 0.23 + turn * 0.41) % 1)));
        return { name, seen };
      }),
    );
    for (const { name, seen } of all) report(name, seen.map((ms) => `${Math.round(ms)} ms`).join(", "));
    for (const { seen } of all) for (const ms of seen) expect(ms).toBeLessThan(SEEN_WITHIN_MS);
  });
}
