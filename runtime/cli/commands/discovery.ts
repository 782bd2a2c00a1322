/** `godwit discovery`: what was heard of where nodes may be, and what became of it. */
import type { DiscoveryView, StatusView } from "../../view/contract/node.ts";
import type { PluginRow } from "../../view/contract/plugins.ts";
import { type CommandContext, type CommandModule, exitCodes } from "../command.ts";
import * as render from "../render.ts";
import { spareColumn, stateColumn, table } from "../table-text.ts";

export const discovery: CommandModule = {
  async run(context) {
    const answer = await (await context.client()).call<DiscoveryView>("GET", "/mesh/discovery");
    const { hints } = answer.value;
    const { paint } = context;
    if (context.isJson) context.io.stdout(`${answer.text}\n`);
    else if (hints.length === 0) context.io.stdout(await nothingHeard(context));
    else {
      const rows = hints.map((hint) => [
        hint.endpoint,
        hint.id === null ? "-" : render.short(hint.id),
        hint.source,
        paint.ahead(-hint.age_seconds),
        paint.ahead(hint.expires_in_seconds),
        hint.verdict,
        paint.ahead(hint.next_try_seconds),
        whyOf(hint),
      ]);

      const header = [
        "ENDPOINT",
        spareColumn("ID"),
        spareColumn("SOURCE"),
        spareColumn("HEARD"),
        spareColumn("EXPIRES"),
        stateColumn("VERDICT"),
        spareColumn("NEXT TRY"),
        "WHY",
      ];
      context.io.stdout(table(header, rows, paint));
    }
    return exitCodes.fine;
  },
};

/** Of a failed dial the reason begins with the endpoint, which stands in the row already. */
const whyOf = ({ endpoint, reason }: DiscoveryView["hints"][number]): string =>
  reason?.startsWith(`${endpoint} `) === true ? reason.slice(endpoint.length + 1) : (reason ?? "");

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
