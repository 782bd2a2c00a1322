/** API tokens: new, list, revoke. */
import { segment } from "../client.ts";
import { type CommandModule, exitCodes } from "../command.ts";
import { didYouMean } from "../../config/suggest.ts";
import { godwitError } from "../../kernel/errors.ts";
import * as render from "../render.ts";
import { table } from "../table-text.ts";

const SCOPES: readonly string[] = ["read", "send", "operate", "admin"];

export const create: CommandModule = {
  async run(context) {
    const scopes = context.options("scope").flatMap((text) => text.split(","));
    if (scopes.length === 0)
      throw godwitError(
        "GODWIT_USAGE",
        "say what it may do: --scope read, send, operate, admin or pages:NAME (more than one is fine)",
      );
    const wrong = scopes.find((scope) => !SCOPES.includes(scope) && !scope.startsWith("pages:"));
    if (wrong !== undefined)
      throw godwitError(
        "GODWIT_USAGE",
        `"${wrong}" is no scope: ${SCOPES.join(", ")} or pages:NAME${didYouMean(wrong, SCOPES)}`,
      );
    const client = await context.client();
    const json = { scopes, label: context.option("label") ?? "made on the command line" };
    const answer = await client.call<{ id: string; secret: string }>("POST", "/tokens", { json });
    if (context.isJson) context.io.stdout(`${answer.text}\n`);
    else {
      // The secret alone on stdout, so that TOKEN=$(godwit token new --scope send) is all it takes.
      context.io.stdout(`${answer.value.secret}\n`);
      context.io.stderr(
        `token ${answer.value.id}, scope ${scopes.join(", ")}; the secret is shown this once only\n`,
      );
    }
    return exitCodes.fine;
  },
};

interface TokenRow {
  id: string;
  label: string;
  scopes: string[];
  created_at: string | null;
}

export const list: CommandModule = {
  async run(context) {
    const answer = await (await context.client()).call<{ tokens: TokenRow[] }>("GET", "/tokens");
    if (context.isJson) context.io.stdout(`${answer.text}\n`);
    else if (answer.value.tokens.length === 0)
      context.io.stdout("no tokens: godwit token new --scope read\n");
    else {
      const rows = answer.value.tokens.map((token) => [
        token.id,
        token.scopes.join(","),
        token.created_at === null ? "by configuration" : context.paint.moment(token.created_at),
        token.label,
      ]);
      context.io.stdout(table(["ID", "SCOPES", "MADE", "LABEL"], rows, context.paint));
    }
    return exitCodes.fine;
  },
};

export const revoke: CommandModule = {
  async run(context) {
    const id = context.args[0]!;
    const answer = await (await context.client()).call("DELETE", `/tokens/${segment(id)}`);
    context.io.stdout(context.isJson ? `${answer.text}\n` : `token ${render.safeLine(id)} is revoked\n`);
    return exitCodes.fine;
  },
};
