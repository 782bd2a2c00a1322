/** Fifty cuts of every kind, of which each is seen within 5 s: `--long fifty-cuts`, some 20 minutes. FIFTY_CUTS=n makes n of each. */
import { afterAll, expect } from "bun:test";
import { seededRandom } from "../../runtime/kernel/random.ts";
import { closeMeshes, report, scenario } from "../net/net-mesh.ts";
import { HalfLoad, kinds, moods, Pair, SEEN_WITHIN_MS } from "./cuts.ts";

afterAll(closeMeshes);

const CUTS = Number(process.env["FIFTY_CUTS"] ?? "50");
const names = Object.keys(kinds);
/** Pairs that are at work at once: two nodes each. */
const AT_ONCE = 7;
const CASE_TIMEOUT_MS = 3_600_000;

for (let first = 0; first < names.length; first += AT_ONCE) {
  const group = names.slice(first, first + AT_ONCE);
  scenario(
    `${CUTS} of ${CUTS} cuts are seen within 5 s: ${group.join("; ")}`,
    async (mesh) => {
      using _load = new HalfLoad();
      const all = await Promise.all(
        group.map(async (name, i) => {
          const random = seededRandom(first + i);
          const pair = await Pair.open(mesh, kinds[name]!, first + i);
          const seen: number[] = [];
          const wrong: string[] = [];
          for (let turn = 0; turn < CUTS; turn++)
            try {
              seen.push(...(await pair.cut(moods[turn % moods.length]!, random.float())));
            } catch (error) {
              wrong.push(`${moods[turn % moods.length]!}: ${String(error)}`);
            }
          const late = seen.filter((ms) => ms >= SEEN_WITHIN_MS);
          seen.sort((a, b) => a - b);
          const at = (share: number) =>
            `${Math.round(seen.at(Math.ceil(share * seen.length) - 1) ?? Number.NaN)}`;
          report(
            name,
            `median ${at(0.5)} ms, p95 ${at(0.95)}, longest ${at(1)}; ${late.length + wrong.length} too late`,
          );
          return { name, late, wrong };
        }),
      );
      for (const { name, late, wrong } of all)
        expect({ name, late, wrong }).toEqual({ name, late: [], wrong: [] });
    },
    CASE_TIMEOUT_MS,
  );
}
