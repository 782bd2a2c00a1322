export type LogFields = Readonly<
  Record<string, string | number | boolean | null | undefined | readonly string[] | Error>
>;

/**
 * Structured log. `event` is a constant phrase in lower case ("link up"); what varies goes into fields.
 * Never log keys, secrets or message bodies. Lifecycle is `info`; a quiet node logs under a line a minute.
 */
export interface Log {
  debug(event: string, fields?: LogFields): void;
  info(event: string, fields?: LogFields): void;
  warn(event: string, fields?: LogFields): void;
  error(event: string, fields?: LogFields): void;
  /** A log whose lines all carry `fields`. */
  child(fields: LogFields): Log;
}
