/** `godwit logs`: the last lines of the node's own log, and with -f those that come, also over a restart of the node. */
import type { LogEntryView, LogsView } from "../../view/contract/node.ts";
import { didYouMean } from "../../config/suggest.ts";
import { sleep } from "../../kernel/clock.ts";
import { godwitError } from "../../kernel/errors.ts";
import { logLevels, textLine } from "../../kernel/log.ts";
import { type ApiClient, isNodeAway } from "../client.ts";
import { type CommandContext, type CommandModule, exitCodes } from "../command.ts";
import { durationOf } from "../duration.ts";
import type { Paint } from "../paint.ts";
import { counted, safeLine } from "../render.ts";

/** How long the node keeps a request for the next line; the answer is waited for a little longer. */
const WAIT_SECONDS = 20;
const ANSWER_MS = 40_000;
/** Between attempts to reach a node that is away. */
const AWAY_MS = 1_000;
const ELSEWHERE =
  "the log of a node that does not run is where its standard error went: journalctl -u godwit, docker logs NAME, or the file that it was led to";

export const logs: CommandModule = {
  async run(context) {
    const { io } = context;
    const level = context.option("level");
    if (level !== undefined && !logLevels.some((known) => known === level))
      throw godwitError(
        "GODWIT_USAGE",
        `"${level}" is no level: ${logLevels.join(", ")}${didYouMean(level, logLevels)}`,
      );
    const sinceMs = durationOf(context, "since");
    const query = new URLSearchParams();
    if (level !== undefined) query.set("level", level);
    if (sinceMs !== undefined) query.set("since_seconds", String(sinceMs / 1_000));
    const client = await context.client();
    const first = await client.call<LogsView>("GET", `/logs?${query.toString()}`).catch((error: unknown) => {
      throw isNodeAway(error) && error instanceof Error
        ? godwitError("GODWIT_NODE_UNREACHABLE", `${error.message}; ${ELSEWHERE}`, error)
        : error;
    });
    const isFollowing = context.isSet("follow");
    if (context.isJson && !isFollowing) io.stdout(`${first.text}\n`);
    else print(context, first.value);
    if (!isFollowing) {
      if (!context.isJson && first.value.lines.length === 0)
        io.stdout("nothing of the kind was logged lately\n");
      return exitCodes.fine;
    }
    try {
      return await follow(context, client, level, first.value);
    } catch (error) {
      if (io.signal.aborted) return exitCodes.fine;
      throw error;
    }
  },
};

/** Comes back by the user's Ctrl-C alone, which rejects what is waited for. */
async function follow(
  context: CommandContext,
  client: ApiClient,
  level: string | undefined,
  first: LogsView,
): Promise<never> {
  const { io } = context;
  let { last, started_at: startedAt } = first;
  let isAway = false;
  for (;;) {
    const query = new URLSearchParams({ after: String(last), wait_seconds: String(WAIT_SECONDS) });
    if (level !== undefined) query.set("level", level);
    try {
      const { value } = await client.call<LogsView>("GET", `/logs?${query.toString()}`, {
        timeoutMs: ANSWER_MS,
      });
      isAway = false;
      if (value.started_at !== startedAt) {
        // Another log, counted from its own beginning.
        startedAt = value.started_at;
        last = 0;
        continue;
      }
      if (value.lost > 0)
        io.stderr(`${counted(value.lost, "line")} gave way to newer ones before they were read\n`);
      print(context, value);
      last = value.last;
    } catch (error) {
      if (io.signal.aborted || !isNodeAway(error)) throw error;
      if (!isAway) io.stderr("the node is away: waiting for it\n");
      isAway = true;
      await sleep(io.clock, AWAY_MS, io.signal);
    }
  }
}

function print({ io, isJson, paint }: CommandContext, { lines }: LogsView): void {
  const text = lines.map((line) => (isJson ? JSON.stringify(line) : lineOf(line, paint)));
  if (text.length > 0) io.stdout(`${text.join("\n")}\n`);
}

const lineOf = ({ time, level, event, fields }: LogEntryView, paint: Paint): string =>
  textLine(safeLine(time), level, event, fields, paint);
