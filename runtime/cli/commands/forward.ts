/** `godwit forward`: a TCP port here to a target at another node, as long as the command runs. */
import { ApiClient, segment } from "../client.ts";
import { type CommandContext, type CommandModule, exitCodes } from "../command.ts";
import { godwitError } from "../../kernel/errors.ts";
import { sleep } from "../../kernel/clock.ts";
import type { ForwardView } from "../../view/contract/node.ts";
import * as render from "../render.ts";
import { spareColumn, table } from "../table-text.ts";

const POLL_MS = 500;

export const forward: CommandModule = {
  async run(context) {
    const remove = context.option("remove");
    if (context.isSet("list")) return await list(context);
    if (remove !== undefined) {
      await (await context.client()).call("DELETE", `/forwards/${segment(remove)}`);
      context.io.stdout(context.isJson ? "{}\n" : `forward ${render.safeLine(remove)} is removed\n`);
      return exitCodes.fine;
    }
    if (context.isSet("watch")) throw godwitError("GODWIT_USAGE", "--watch goes with --list");
    const [listen, to, target] = context.args;
    if (listen === undefined || to === undefined || target === undefined)
      throw godwitError(
        "GODWIT_USAGE",
        "usage: godwit forward LISTEN NODE TARGET, or --list, or --remove ID",
      );
    const client = await context.client();
    const answer = await client.call<ForwardView>("POST", "/forwards", { json: { listen, to, target } });
    try {
      if (context.isJson) context.io.stdout(`${answer.text}\n`);
      else
        context.io.stdout(
          `${answer.value.listen} leads to ${render.safeLine(answer.value.target)} at ${render.safeLine(to)}; Ctrl-C ends it\n`,
        );
      return await follow(context, client, answer.value.id);
    } finally {
      // The user's Ctrl-C ended the first client; this one removes what it left.
      const last = new ApiClient(
        client.socketPath,
        client.command,
        new AbortController().signal,
        context.io.clock,
      );
      await last.call("DELETE", `/forwards/${segment(answer.value.id)}`).catch(() => {});
    }
  },
};

/** Says why connections fail, in the far side's words, until the user has had enough. */
async function follow({ io }: CommandContext, client: ApiClient, id: string): Promise<number> {
  let failures = 0;
  while (!io.signal.aborted) {
    await sleep(io.clock, POLL_MS, io.signal).catch(() => {});
    if (io.signal.aborted) break;
    const answer = await client
      .call<{ forwards: ForwardView[] }>("GET", "/forwards")
      .catch((error: unknown) => {
        // Ctrl-C in the middle of a question ends the forward as well as between two.
        if (io.signal.aborted) return undefined;
        throw error;
      });
    if (answer === undefined) break;
    const row = answer.value.forwards.find((candidate) => candidate.id === id);
    if (row === undefined) throw godwitError("GODWIT_NOT_FOUND", "the forward was removed");
    if (row.failures > failures) io.stderr(`${render.safeLine(row.last_error ?? "a connection failed")}\n`);
    failures = row.failures;
  }
  return exitCodes.fine;
}

async function list(context: CommandContext): Promise<number> {
  const answer = await (await context.client()).call<{ forwards: ForwardView[] }>("GET", "/forwards");
  if (context.isJson) context.io.stdout(`${answer.text}\n`);
  else if (answer.value.forwards.length === 0)
    context.io.stdout("no forwards: godwit forward 127.0.0.1:8080 NODE 127.0.0.1:80\n");
  else {
    const rows = answer.value.forwards.map((row) => [
      row.id,
      row.listen,
      `${row.to} ${row.target}`,
      `${row.connections}/${row.connections_total}`,
      String(row.bytes_sent),
      String(row.bytes_received),
      row.last_error ?? "",
    ]);
    const heads = [
      "ID",
      "LISTEN",
      "TO",
      "OPEN/ALL",
      spareColumn("SENT"),
      spareColumn("RECEIVED"),
      "LAST ERROR",
    ];
    context.io.stdout(table(heads, rows, context.paint));
  }
  return exitCodes.fine;
}
