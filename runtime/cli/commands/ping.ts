/**
 * `godwit ping`: asks a node again and again until Ctrl-C. Each time is one trace, the only probe that nodes answer; so it
 * costs airtime on every hop of the way, and says which way the answer took.
 */
import type { TraceView } from "../../view/contract/node.ts";
import { sleep } from "../../kernel/clock.ts";
import { godwitError } from "../../kernel/errors.ts";
import { type ApiClient, segment } from "../client.ts";
import { type CommandContext, type CommandModule, exitCodes } from "../command.ts";
import { durationOf } from "../duration.ts";
import * as render from "../render.ts";
import { TRACE_TIMEOUT_MS } from "./mesh.ts";

const INTERVAL_DEFAULT_MS = 1_000;
const INTERVAL_MS_MIN = 100;
/** The last so many answer times are kept for the median; the others only count. */
const KEPT_MAX = 10_000;

interface Tally {
  sent: number;
  answered: number;
  minMs: number;
  maxMs: number;
  readonly keptMs: number[];
}

export const ping: CommandModule = {
  async run(context) {
    const { io, isJson } = context;
    const intervalMs = durationOf(context, "interval") ?? INTERVAL_DEFAULT_MS;
    if (intervalMs < INTERVAL_MS_MIN)
      throw godwitError(
        "GODWIT_USAGE",
        `--interval is at least ${INTERVAL_MS_MIN}ms: every probe costs airtime on the whole way`,
      );
    const countMax = countOf(context);
    const client = await context.client();
    const tally: Tally = { sent: 0, answered: 0, minMs: Infinity, maxMs: 0, keptMs: [] };
    while (tally.sent < countMax) {
      const startedMs = io.clock.monotonicMs();
      const answer = await probe(context, client);
      if (answer === undefined) break;
      const { text, value } = answer;
      count(tally, value);
      io.stdout(isJson ? `{"sequence":${tally.sent},${text.slice(1)}\n` : lineOf(context, tally.sent, value));
      if (tally.sent >= countMax) break;
      const restMs = intervalMs - (io.clock.monotonicMs() - startedMs);
      if (restMs > 0) await sleep(io.clock, restMs, io.signal).catch(() => {});
      if (io.signal.aborted) break;
    }
    // Behind the ^C that a terminal shows.
    if (io.isStdoutTty && io.signal.aborted && !isJson) io.stdout("\n");
    io.stdout(isJson ? `${JSON.stringify(summaryOf(tally))}\n` : summaryText(context, tally));
    return tally.answered > 0 ? exitCodes.fine : exitCodes.failed;
  },
};

function countOf(context: CommandContext): number {
  const text = context.option("count");
  if (text === undefined) return Infinity;
  if (!/^[1-9]\d{0,6}$/.test(text))
    throw godwitError("GODWIT_USAGE", `--count is a whole number from 1, not "${text}"`);
  return Number(text);
}

/** Undefined after Ctrl-C: what was on its way then counts neither as sent nor as lost. */
async function probe({ args, io }: CommandContext, client: ApiClient) {
  try {
    const path = `/mesh/trace/${segment(args[0]!)}`;
    return await client.call<TraceView>("POST", path, { timeoutMs: TRACE_TIMEOUT_MS });
  } catch (error) {
    if (io.signal.aborted) return undefined;
    throw error;
  }
}

function count(tally: Tally, { reached, rtt_ms: rttMs }: TraceView): void {
  const { keptMs } = tally;
  tally.sent++;
  if (!reached || rttMs === null) return;
  tally.minMs = Math.min(tally.minMs, rttMs);
  tally.maxMs = Math.max(tally.maxMs, rttMs);
  keptMs[tally.answered++ % KEPT_MAX] = rttMs;
}

function lineOf({ paint }: CommandContext, sequence: number, { reached, rtt_ms, hops }: TraceView): string {
  const last = hops.at(-1);
  if (reached && last !== undefined) {
    const between = hops.slice(0, -1).map(({ node, callsign }) => callsign ?? render.short(node));
    const way = between.length === 0 ? "direct" : `by ${between.join(", ")}`;
    const who = render.nodeName(last.node, last.callsign);
    return `${render.safeLine(`${sequence}  ${who}  ${render.millis(rtt_ms)}  ${way}`)}\n`;
  }
  const end = last === undefined ? "" : `, ${render.nodeName(last.node, last.callsign)} is as far as it came`;
  return `${sequence}  ${paint.bad("no answer")}${render.safeLine(end)}\n`;
}

function summaryOf({ sent, answered, minMs, maxMs, keptMs }: Tally) {
  const sorted = keptMs.toSorted((a, b) => a - b);
  const middle = sorted.length >> 1;
  const medianMs = sorted.length % 2 === 1 ? sorted[middle]! : (sorted[middle - 1]! + sorted[middle]!) / 2;
  return answered === 0
    ? { sent, answered, min_ms: null, median_ms: null, max_ms: null }
    : { sent, answered, min_ms: minMs, median_ms: medianMs, max_ms: maxMs };
}

function summaryText({ paint }: CommandContext, tally: Tally): string {
  const { sent, answered, min_ms, median_ms, max_ms } = summaryOf(tally);
  const times = [min_ms, median_ms, max_ms].map(render.millis).join(" / ");
  const counts = `${sent} sent, ${answered} answered`;
  const head = answered === sent ? counts : paint.bad(counts);
  return answered === 0 ? `${head}\n` : `${head}; min / median / max ${times}\n`;
}
