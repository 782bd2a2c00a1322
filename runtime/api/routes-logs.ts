/** The last lines of the node's own log. */
import { goneOf } from "./access.ts";
import { godwitError } from "../kernel/errors.ts";
import type { RecentLine } from "../kernel/recent-log.ts";
import type { LogEntryView, LogsView } from "../view/contract/node.ts";
import { defineRoute, jsonResponse, schemasOf, type Route } from "./route.ts";

const schemas = schemasOf(() => import("./schemas-logs.ts"));

/** Requests that wait for the next line, at once. */
export const LOG_WAITERS_MAX = 16;

/** Built per API: the number of those that wait is its state. */
export function logRoutes(): Route[] {
  let waiting = 0;
  return [
    defineRoute({
      method: "get",
      path: "/logs",
      operation: "getLogs",
      summary:
        "The last lines of this node's log, oldest first; with `wait_seconds` the answer waits for the next one.",
      // Not `read`: a log tells of the insides of a node, which problem documents keep from their readers.
      access: { scope: "operate" },
      query: schemas.logsQuery,
      answers: [{ status: 200, description: "lines", schema: schemas.logs }],
      async handle({ parts, request, connection, query }) {
        const { recent, clock, signal } = parts;
        const { level, after, since_seconds: sinceSeconds, wait_seconds: waitSeconds } = query;
        const sinceMs = sinceSeconds === undefined ? -Infinity : clock.monotonicMs() - sinceSeconds * 1_000;
        const read = () => recent.read({ after, level, sinceMs });
        let lines = read();
        if (lines.length === 0 && waitSeconds > 0) {
          if (waiting >= LOG_WAITERS_MAX)
            throw godwitError("GODWIT_QUEUE_FULL", `${LOG_WAITERS_MAX} requests wait for the log already`);
          connection.holdOpen?.();
          const late = new AbortController();
          const timer = clock.after(waitSeconds * 1_000, () => late.abort());
          const ended = AbortSignal.any([late.signal, goneOf(request, connection), signal]);
          waiting++;
          try {
            while (lines.length === 0 && !ended.aborted) {
              await recent.next(ended);
              lines = read();
            }
          } finally {
            waiting--;
            timer.cancel();
          }
        }
        const answer: LogsView = {
          lines: lines.map(entryView),
          started_at: recent.startedAt,
          last: recent.last,
          lost: recent.lostAfter(after),
        };
        return jsonResponse(answer);
      },
    }),
  ];
}

function entryView({ number, level, json }: RecentLine): LogEntryView {
  const {
    time,
    event,
    level: _,
    ...fields
  } = JSON.parse(json) as { time: string; event: string; level: string };
  return { number, time, level, event, fields };
}
