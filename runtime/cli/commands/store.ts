/** `godwit store ...`: the store of a node that is stopped, on its way to an earlier release and back. docs/releases.md */
import { loadConfig } from "../../config/load.ts";
import { godwitError } from "../../kernel/errors.ts";
import { createLog, stderrSinkFor } from "../../kernel/log.ts";
import {
  convertStore,
  earlierReleaseNames,
  takeIn,
  type StorePlace,
  type WentBack,
} from "../../node/going-back.ts";
import { type CommandContext, type CommandModule, exitCodes } from "../command.ts";
import * as render from "../render.ts";

/** Of what is told on a terminal; `--json` has more. */
const LINES_MAX = 50;

async function placeOf(context: CommandContext): Promise<StorePlace> {
  const { node } = await loadConfig({ path: context.option("config"), env: context.env });
  const { clock } = context.io;
  return {
    stateDir: node.stateDir,
    clock,
    log: createLog({ level: "warn", format: "text", clock, sink: stderrSinkFor(context.env) }),
  };
}

export const convert: CommandModule = {
  async run(context) {
    const to = earlierReleaseNames.find((name) => name === context.option("to"));
    if (to === undefined)
      throw godwitError(
        "GODWIT_USAGE",
        `say to which release: --to ${earlierReleaseNames.join(" or --to ")}`,
      );
    const isDryRun = context.isSet("dry-run");
    const result = await convertStore(await placeOf(context), to, isDryRun);
    context.io.stdout(context.isJson ? `${JSON.stringify(jsonOf(result))}\n` : textOf(result, to, isDryRun));
    return exitCodes.fine;
  },
};

const jsonOf = ({ wasEarlier, rows, noted, asideCount, asideFile, keptFile }: WentBack) => ({
  was_earlier: wasEarlier,
  rows,
  aside: asideCount,
  aside_file: asideFile ?? null,
  kept_file: keptFile ?? null,
  noted: noted.map((row) => ({ in: row.in, key: row.key, why: row.why, aside: row.isAside })),
});

function textOf(result: WentBack, to: string, isDryRun: boolean): string {
  if (result.wasEarlier) return `the store is one that ${to} opens\n`;
  const lines = result.noted
    .slice(0, LINES_MAX)
    .map(({ in: collection, key, why, isAside }) =>
      render.safeLine(`${isAside ? "aside" : "note "}  ${`${collection} ${key}`.trimEnd()}: ${why}`),
    );
  if (result.noted.length > LINES_MAX) lines.push(`and ${result.noted.length - LINES_MAX} more: --json`);
  const would = isDryRun ? "would be" : "are";
  lines.push(
    `${result.rows - result.asideCount} rows ${would} in the store of ${to}, ${result.asideCount} ${would} kept aside`,
  );
  if (isDryRun && result.asideCount > 0)
    lines.push(
      "Mail that would be aside is delivered first if this node runs until godwit outbox shows none of it open.",
    );
  if (result.asideFile !== undefined)
    lines.push(`aside: ${result.asideFile}; back at this release: godwit store take-in ${result.asideFile}`);
  if (result.keptFile !== undefined)
    lines.push(
      `the store as it was: ${result.keptFile}; delete it once ${to} runs, it is of no use after that`,
    );
  return `${lines.join("\n")}\n`;
}

export const takeInFile: CommandModule = {
  async run(context) {
    const file = context.args[0]!;
    const { taken, known } = await takeIn(await placeOf(context), file);
    context.io.stdout(
      context.isJson
        ? `${JSON.stringify({ taken, known })}\n`
        : `${taken} rows are in the store again, ${known} were there already; ${render.safeLine(file)} is gone\n`,
    );
    return exitCodes.fine;
  },
};
