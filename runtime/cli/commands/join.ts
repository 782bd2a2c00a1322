/** `godwit join`: makes this machine a member, or gives the node that runs here the addresses of the token. */
import { existsSync } from "node:fs";
import type { JoinView } from "../../view/contract/node.ts";
import { parseToken } from "../../identity/token.ts";
import { asGodwitError, godwitError } from "../../kernel/errors.ts";
import { silentLog } from "../../kernel/log.ts";
import { systemRandom } from "../../kernel/random.ts";
import { type CommandContext, type CommandModule, exitCodes } from "../command.ts";
import { invitationOf } from "../invitation.ts";
import { joinByToken, joinConfigPath } from "../joining.ts";
import { placeBeside, placeOf } from "../starter.ts";
import { counted, safeLine } from "../render.ts";
import { facts } from "../table-text.ts";

export const join: CommandModule = {
  async run(context) {
    const exposures: string[] = [];
    const token = await invitationOf(
      context.args[0],
      context.option("file"),
      context.io,
      context.env,
      (words) => exposures.push(words),
    );
    // A typo is told before anything is looked for. Of an open mesh it holds addresses, which are no secret.
    const isSecret = parseToken(token).membership !== undefined;
    if (isSecret && !context.isJson)
      for (const words of exposures) context.io.stderr(`godwit: ${safeLine(words)}\n`);
    const path = joinConfigPath(context.option("config"), context.env);
    if (existsSync(path) || context.isSet("socket")) return await tellRunningNode(context, token, path);
    const { env, io } = context;
    const outcome = await joinByToken({
      token,
      configPath: path,
      callsign: context.option("callsign"),
      stateDir: placeOf(context) ?? placeBeside(context.option("config"), env),
      listen: context.options("listen"),
      apiListen: context.option("api"),
      env,
      clock: io.clock,
      random: systemRandom,
      log: silentLog,
      signal: io.signal,
    });
    io.stdout(context.isJson ? `${JSON.stringify(outcome)}\n` : describe(context, outcome));
    return exitCodes.fine;
  },
};

function describe(context: CommandContext, outcome: Awaited<ReturnType<typeof joinByToken>>): string {
  const rows: [string, string][] = [
    ["id", outcome.id],
    ["callsign", outcome.callsign ?? "-"],
    ["network", outcome.network],
    ["let in by", outcome.member],
    ["wrote", outcome.config],
    ...outcome.secrets.map((path): [string, string] => ["wrote", `${path} (the network secret: keep it)`]),
    ["state", outcome.state_dir],
    ["peers", outcome.peers.join(" ")],
  ];
  return `${facts(rows, context.paint)}next: godwit run --config ${outcome.config}\n`;
}

async function tellRunningNode(context: CommandContext, token: string, path: string): Promise<number> {
  const client = await context.client();
  const answer = await client
    .call<JoinView>("POST", "/mesh/join", { json: { token } })
    .catch((error: unknown) => {
      if (asGodwitError(error).code !== "GODWIT_NODE_UNREACHABLE") throw error;
      throw godwitError(
        "GODWIT_JOIN_REFUSED",
        `${path} is there already and its node does not run: start it and join again to give it the addresses, or name another file with --config`,
        error,
      );
    });
  const { hints, network } = answer.value;
  context.io.stdout(
    context.isJson
      ? `${answer.text}\n`
      : `the running node tries ${counted(hints, "address", "addresses")} of ${network}: godwit discovery\n`,
  );
  return exitCodes.fine;
}
