export type ErrorKind = "config" | "permission" | "protocol" | "transport" | "capacity" | "plugin" | "bug";
/** What the caller may do: `never` the same again, `later` after a pause, `now` at once. */
export type RetryAdvice = "never" | "later" | "now";

/**
 * The one error class. `code` is stable and append-only (`docs/errors.md`); `message` is lower case and says what to do.
 */
export class GodwitError extends Error {
  readonly code: string;
  readonly kind: ErrorKind;
  readonly retry: RetryAdvice;

  constructor(
    code: string,
    message: string,
    options: { kind: ErrorKind; retry?: RetryAdvice; cause?: unknown },
  ) {
    super(message, options.cause === undefined ? undefined : { cause: options.cause });
    this.name = "GodwitError";
    this.code = code;
    this.kind = options.kind;
    this.retry = options.retry ?? "never";
  }
}
