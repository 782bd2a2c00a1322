/**
 * Structured log: one JSON object a line, or a readable line on a terminal. A constant event phrase, variables as
 * fields, never keys, secrets or payloads.
 */
import { fstatSync } from "node:fs";
import type { Log, LogFields } from "@godwit/sdk";
import { type Clock, isoTime } from "./clock.ts";
import { type Colours, createColours } from "./colours.ts";
import { escapeJson } from "./terminal.ts";

export type { Log, LogFields };

export const logLevels = ["debug", "info", "warn", "error"] as const;
export type LogLevel = (typeof logLevels)[number];

export interface LogSink {
  /** One finished line without its newline. Must not throw. */
  write(line: string, level: LogLevel): void;
}

export interface LogKeeper {
  /** Must not throw. */
  add(level: LogLevel, json: string): void;
}

/** May be changed while the log is in use: it is looked at for each line. */
export interface LogSettings {
  level: LogLevel;
  format: "json" | "text";
}

export interface LogOptions extends Readonly<LogSettings> {
  readonly clock: Clock;
  readonly sink: LogSink;
  /** Of a line as text. */
  readonly colours?: Colours;
  /** Takes each line as JSON, whatever the format. */
  readonly recent?: LogKeeper;
}

export function createLog(options: LogOptions, fields: LogFields = {}): Log {
  const emit = (level: LogLevel, event: string, extra: LogFields | undefined) => {
    if (logLevels.indexOf(level) < logLevels.indexOf(options.level)) return;
    const at = isoTime(options.clock.wallMs());
    const all = flatten({ ...fields, ...extra });
    const isJson = options.format === "json";
    const json = isJson || options.recent !== undefined ? quoteJson({ time: at, level, event, ...all }) : "";
    options.recent?.add(level, json);
    options.sink.write(
      isJson ? json : textLine(at.slice(11, 23), level, event, all, options.colours ?? plain),
      level,
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

/** `log` for somebody who is not to pass for another: its lines and those of its children have these fields, whatever they say themselves. */
export function signedLog(log: Log, fields: LogFields): Log {
  const own = log.child(fields);
  return {
    debug: (event, extra) => own.debug(event, { ...extra, ...fields }),
    info: (event, extra) => own.info(event, { ...extra, ...fields }),
    warn: (event, extra) => own.warn(event, { ...extra, ...fields }),
    error: (event, extra) => own.error(event, { ...extra, ...fields }),
    child: (extra) => signedLog(own.child(extra), fields),
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

/** Priorities of syslog(3), as the journal reads them at the front of a line: sd-daemon(3). */
const journalPrefix: Readonly<Record<LogLevel, string>> = {
  debug: "<7>",
  info: "<6>",
  warn: "<4>",
  error: "<3>",
};

type Environment = Readonly<Record<string, string | undefined>>;

/** Of a line of text at its front. */
const LINE_TIME = /^\d\d:\d\d:\d\d\.\d{3} /;

/** Standard error; where that is the journal itself, each line carries its level, and no time, which the journal has. */
export const stderrSinkFor = (env: Environment): LogSink =>
  isJournal(env["JOURNAL_STREAM"], 2)
    ? {
        write: (line, level) =>
          stderrSink.write(`${journalPrefix[level]}${line.replace(LINE_TIME, "")}`, level),
      }
    : stderrSink;

/** People read a terminal and the journal, programs the rest. */
export const autoFormat = (env: Environment): LogOptions["format"] =>
  process.stderr.isTTY || isJournal(env["JOURNAL_STREAM"], 2) ? "text" : "json";

/** systemd.exec(5): device and inode of what it connected; a redirected stream is another file. */
export function isJournal(stream: string | undefined, descriptor: number): boolean {
  if (stream === undefined || !/^\d+:\d+$/.test(stream)) return false;
  try {
    const { dev, ino } = fstatSync(descriptor, { bigint: true });
    return stream === `${dev}:${ino}`;
  } catch {
    return false;
  }
}

/** A field of these names would pass for the line's own. */
const reserved = new Set(["time", "level", "event"]);

function flatten(fields: LogFields): Record<string, unknown> {
  const out: Record<string, unknown> = {};
  for (const [name, value] of Object.entries(fields)) {
    if (value === undefined) continue;
    const key = reserved.has(name) ? `${name}_` : name;
    if (value instanceof Error) {
      out[key] = value.message;
      if ("code" in value && typeof value.code === "string") out[`${key}_code`] = value.code;
    } else out[key] = value;
  }
  return out;
}

const plain = createColours(false);

/** For people: time, level, event, fields. */
export function textLine(
  time: string,
  level: LogLevel,
  event: string,
  fields: Readonly<Record<string, unknown>>,
  { dim, good, warn, bad }: Colours,
): string {
  const dress = { debug: dim, info: good, warn, error: bad }[level];
  return `${dim(time)} ${dress(level.padEnd(5))} ${textFields(event, fields)}`;
}

/** Safe for a terminal: `event key=value key="a value"`. Plugins choose all three. */
const textFields = (event: string, fields: Readonly<Record<string, unknown>>): string =>
  [
    /^[\x20-\x7e]*$/.test(event) ? event : quoteJson(event),
    ...Object.entries(fields).map(
      ([key, value]) => `${quote(key)}=${quote(Array.isArray(value) ? value.join(",") : String(value))}`,
    ),
  ].join(" ");

/** Control characters in a field could forge lines or drive a terminal. */
const quote = (text: string) => (/^[\w.:/@+,-]+$/.test(text) ? text : quoteJson(text));

const quoteJson = (value: unknown) => escapeJson(JSON.stringify(value));
