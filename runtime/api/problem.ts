/** RFC 9457 problem documents: the one form in which the API and the CLI report a failure. Light: the CLI loads it. */
import {
  asGodwitError,
  errorCodes,
  type ErrorCode,
  GodwitError,
  type RetryAdvice,
} from "../kernel/errors.ts";

/** One field of a request that does not fit, by its path in the body or query. */
export interface FieldError {
  readonly path: string;
  readonly message: string;
}

export interface Problem {
  /** `urn:godwit:error:<code>`; docs/errors.md explains each. */
  readonly type: string;
  readonly title: string;
  readonly status: number;
  readonly detail: string;
  readonly code: string;
  readonly retry: RetryAdvice;
  readonly errors?: readonly FieldError[];
}

export const PROBLEM_MEDIA_TYPE = "application/problem+json";

/** A refused request with its fields; `detail` repeats the first so that a person who sees only that can act. */
export function requestInvalid(errors: readonly FieldError[]): GodwitError {
  const [first] = errors;
  const detail =
    first === undefined
      ? "the request does not match its schema"
      : `${first.path === "" ? "request" : first.path}: ${first.message}`;
  return new GodwitError("GODWIT_REQUEST_INVALID", detail, { kind: "protocol", cause: errors });
}

/** Never tells a caller what a bug said of our insides; whoever calls this logs the cause. */
export function problemOf(thrown: unknown): Problem {
  const error = asGodwitError(thrown);
  const known = isKnownCode(error.code) ? errorCodes[error.code] : undefined;
  const problem: Problem = {
    type: `urn:godwit:error:${error.code}`,
    title: known?.help ?? "a plugin reported an error",
    status: known?.status ?? 500,
    detail: error.kind === "bug" ? "an internal fault; the node's log has the details" : error.message,
    code: error.code,
    retry: error.retry,
  };
  return error.code === "GODWIT_REQUEST_INVALID" && isFieldErrors(error.cause)
    ? { ...problem, errors: error.cause }
    : problem;
}

export function problemResponse(thrown: unknown, headers: Readonly<Record<string, string>> = {}): Response {
  const problem = problemOf(thrown);
  const wait = problem.retry === "later" && (problem.status === 429 || problem.status === 503);
  return new Response(JSON.stringify(problem), {
    status: problem.status,
    headers: {
      "content-type": PROBLEM_MEDIA_TYPE,
      "cache-control": "no-store",
      ...(wait ? { "retry-after": "5" } : {}),
      ...headers,
    },
  });
}

const isKnownCode = (code: string): code is ErrorCode => Object.hasOwn(errorCodes, code);

const isFieldErrors = (value: unknown): value is readonly FieldError[] =>
  Array.isArray(value) && value.every((item) => typeof item === "object" && item !== null && "path" in item);
