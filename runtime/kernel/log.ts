/**
 * Structured log: one JSON object a line, or a readable line on a terminal. A constant event phrase, variables as
 * fields, never keys, secrets or payloads.
 */
import type { Log, LogFields } from "@godwit/sdk";
import type { Clock } from "./clock.ts";

export type { Log, LogFields };

export const logLevels = ["debug", "info", "warn", "error"] as const;
export type LogLevel = (typeof logLevels)[number];

export interface LogSink {
  /** One finished line without its newline. Must not throw. */
  write(line: string): void;
}

export interface LogOptions {
  readonly level: LogLevel;
  readonly format: "json" | "text";
  readonly clock: Clock;
  readonly sink: LogSink;
}

export function createLog(options: LogOptions, fields: LogFields = {}): Log {
  const threshold = logLevels.indexOf(options.level);
  const emit = (level: LogLevel, event: string, extra: LogFields | undefined) => {
    if (logLevels.indexOf(level) < threshold) return;
    const at = new Date(options.clock.wallMs()).toISOString();
    const all = flatten({ ...fields, ...extra });
    options.sink.write(
      options.format === "json"
        ? JSON.stringify({ time: at, level, event, ...all })
        : textLine(at, level, event, all),
    );
  };
  return {
    debug: (event, extra) => emit("debug", event, extra),
    info: (event, extra) => emit("info", event, extra),
    warn: (event, extra) => emit("warn", event, extra),
    error: (event, extra) => emit("error", event, extra),
    child: (extra) => createLog(options, { ...fields, ...extra }),
  };
}

export const silentLog: Log = {
  debug() {},
  info() {},
  warn() {},
  error() {},
  child: () => silentLog,
};

export const stderrSink: LogSink = {
  write(line) {
    process.stderr.write(`${line}\n`);
  },
};

function flatten(fields: LogFields): Record<string, unknown> {
  const out: Record<string, unknown> = {};
  for (const [key, value] of Object.entries(fields)) {
    if (value === undefined) continue;
    if (value instanceof Error) {
      out[key] = value.message;
      if ("code" in value && typeof value.code === "string") out[`${key}_code`] = value.code;
    } else out[key] = value;
  }
  return out;
}

function textLine(at: string, level: LogLevel, event: string, fields: Record<string, unknown>): string {
  const pairs = Object.entries(fields).map(
    ([key, value]) => `${key}=${typeof value === "string" ? quote(value) : String(value)}`,
  );
  return `${at.slice(11, 23)} ${level.padEnd(5)} ${[event, ...pairs].join(" ")}`;
}

/** Control characters in a field could forge lines or drive a terminal. */
const quote = (text: string) => (/^[\w.:/@+-]+$/.test(text) ? text : JSON.stringify(text));
