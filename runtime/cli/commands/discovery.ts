/** `godwit discovery`: what was heard of where nodes may be, and what became of it. */
import type { DiscoveryView } from "../../view/contract/node.ts";
import { type CommandModule, exitCodes } from "../command.ts";
import * as render from "../render.ts";

export const discovery: CommandModule = {
  async run(context) {
    const answer = await (await context.client()).call<DiscoveryView>("GET", "/mesh/discovery");
    const { hints } = answer.value;
    if (context.isJson) context.io.stdout(`${answer.text}\n`);
    else if (hints.length === 0)
      context.io.stdout("nothing was heard of anybody: configure discovery, or godwit join\n");
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
