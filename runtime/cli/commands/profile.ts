/** `godwit profile`: where the running node spends its time and what its memory is full of. */
import { writeFileSync } from "node:fs";
import type { CpuProfile, Profile } from "../../kernel/profile.ts";
import { godwitError } from "../../kernel/errors.ts";
import { type CommandModule, exitCodes } from "../command.ts";
import * as render from "../render.ts";
import { facts, table } from "../table-text.ts";

const SECONDS_DEFAULT = 10;
/** For the node to answer, beyond the time that is sampled. */
const ANSWER_MS = 30_000;
const ROWS = 15;

export const profile: CommandModule = {
  async run(context) {
    const text = context.option("seconds") ?? String(SECONDS_DEFAULT);
    const seconds = Number(text);
    if (!(seconds > 0))
      throw godwitError("GODWIT_USAGE", `--seconds is a number above 0, not ${text.slice(0, 40)}`);
    const client = await context.client();
    const answer = await client.call<Profile>("GET", `/profile?seconds=${seconds}`, {
      timeoutMs: seconds * 1_000 + ANSWER_MS,
    });
    const { cpu, heap } = answer.value;
    const path = context.option("out");
    if (path !== undefined) writeFileSync(path, JSON.stringify(cpu), { mode: 0o600 });
    if (context.isJson) {
      context.io.stdout(`${answer.text}\n`);
      return exitCodes.fine;
    }
    const { paint } = context;
    const memory = facts(
      [
        [
          "heap",
          `${render.size(heap.bytes)} of ${render.size(heap.capacityBytes)}, in ${heap.objects} objects`,
        ],
        ["beside it", `${render.size(heap.extraBytes)} in buffers and the like`],
        ...(path === undefined
          ? []
          : [["wrote", `${path} (open it in the developer tools of a browser)`] as const]),
      ],
      paint,
    );
    const types = heap.byType.slice(0, ROWS).map(({ type, count }) => [type, String(count)]);
    const rows = busiest(cpu);
    if (rows.length === 0) context.io.stdout("no sample found the node at work: it was idle\n\n");
    else context.io.stdout(`${table(["FUNCTION", "SHARE", "WHERE"], rows, paint)}\n`);
    context.io.stdout(`${memory}\n${table(["TYPE", "OBJECTS"], types, paint)}`);
    return exitCodes.fine;
  },
};

/** Functions by the samples that found them at work themselves; the rest of the time nothing of JavaScript ran. */
function busiest({ nodes, samples = [] }: CpuProfile): string[][] {
  const own = new Map<string, { where: string; hits: number }>();
  let hits = 0;
  for (const { callFrame, hitCount = 0 } of nodes) {
    if (hitCount === 0) continue;
    hits += hitCount;
    const name = callFrame.functionName || "(anonymous)";
    const where =
      callFrame.lineNumber < 0 ? "-" : `${callFrame.url.split("/").at(-1) ?? ""}:${callFrame.lineNumber + 1}`;
    const key = `${name} ${where} ${callFrame.columnNumber}`;
    own.set(key, { where, hits: (own.get(key)?.hits ?? 0) + hitCount });
  }
  const all = Math.max(hits, samples.length, 1);
  return [...own]
    .sort(([, a], [, b]) => b.hits - a.hits)
    .slice(0, ROWS)
    .map(([key, { where, hits: found }]) => [
      key.split(" ")[0]!,
      `${((100 * found) / all).toFixed(1)} %`,
      where,
    ]);
}
