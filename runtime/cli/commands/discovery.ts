/** `godwit discovery`: what was heard of where nodes may be, and what became of it. */
import type { DiscoveryView, StatusView } from "../../view/contract/node.ts";
import type { PluginRow } from "../../view/contract/plugins.ts";
import { type CommandContext, type CommandModule, exitCodes } from "../command.ts";
import * as render from "../render.ts";

export const discovery: CommandModule = {
  async run(context) {
    const answer = await (await context.client()).call<DiscoveryView>("GET", "/mesh/discovery");
    const { hints } = answer.value;
    if (context.isJson) context.io.stdout(`${answer.text}\n`);
    else if (hints.length === 0) context.io.stdout(await nothingHeard(context));
    else {
      const rows = hints.map((hint) => [
        hint.endpoint,
        hint.id === null ? "-" : render.short(hint.id),
        hint.source,
        render.duration(hint.age_seconds),
        hint.expires_in_seconds === null ? "-" : render.duration(hint.expires_in_seconds),
        hint.verdict,
        hint.next_try_seconds === null ? "-" : `${hint.next_try_seconds} s`,
        hint.reason ?? "",
      ]);
      const header = ["ENDPOINT", "ID", "SOURCE", "AGE", "EXPIRES", "VERDICT", "NEXT TRY", "WHY"];
      const { paint } = context;
      context.io.stdout(
        render.table(header, rows, paint, (cell, column) => {
          if (column !== 5) return cell;
          if (cell === "linked") return paint.good(cell);
          return /^(refused|unreachable)$/.test(cell) ? paint.bad(cell) : paint.warn(cell);
        }),
      );
    }
    return exitCodes.fine;
  },
};

/** An empty list has three causes, and each wants something else of whoever reads it. */
async function nothingHeard(context: CommandContext): Promise<string> {
  const client = await context.client();
  const [{ value: offered }, { value: status }] = await Promise.all([
    client.call<{ plugins: PluginRow[] }>("GET", "/mesh/plugins"),
    client.call<StatusView>("GET", "/mesh/status"),
  ]);
  const sources = offered.plugins.filter(({ namespace }) => namespace === "discovery");
  const { connected } = status.peers;
  const lines = [
    sources.length > 0
      ? "nothing was heard of anybody yet by"
      : "nothing is configured that finds others: configure discovery, or godwit join",
    ...sources.map(
      ({ name, type, state, reason }) =>
        `  discovery.${name} (${type}): ${[state, reason].filter((part) => part !== null).join(", ")}`,
    ),
    ...(connected > 0 ? [`linked all the same, because they called: ${connected} (godwit peers)`] : []),
  ];
  return lines.map((line) => `${render.safeLine(line)}\n`).join("");
}
