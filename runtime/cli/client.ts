/** The API over the unix socket. Every refusal becomes an `ApiProblem` that carries the node's own problem document. */
import type { Clock } from "../kernel/clock.ts";
import { godwitError } from "../kernel/errors.ts";
import { whoMayOpen } from "./may-open.ts";
import type { Problem } from "../api/problem.ts";

/** Bytes of one answer; the largest is a 16 MiB body. */
const ANSWER_BYTES_MAX = 64 * 1024 * 1024;

/** How long a node may think before its answer begins. One that hangs must fail a health check, not hang it too. */
export const ANSWER_TIMEOUT_MS = 10_000;

/** What a node refused, in its words. */
export class ApiProblem extends Error {
  readonly problem: Problem;

  constructor(problem: Problem) {
    super(problem.detail);
    this.name = "ApiProblem";
    this.problem = problem;
  }
}

export interface RequestOptions {
  readonly json?: unknown;
  readonly body?: Uint8Array;
  readonly contentType?: string;
  /** Statuses below 600 that are an answer and no failure, beside 2xx. */
  readonly alsoFine?: readonly number[];
  /** Instead of ANSWER_TIMEOUT_MS. */
  readonly timeoutMs?: number;
}

/** An answer as it came: `text` is the API's body on one line. */
export interface ApiAnswer<T> {
  readonly status: number;
  readonly text: string;
  readonly value: T;
}

/** What the operating system says of a socket where nobody is, in words. */
const REASONS: Readonly<Record<string, string>> = {
  ENOENT: "there is no such socket",
  ECONNREFUSED: "a node that is gone has left it",
  ENOTSOCK: "this is no socket",
};

export class ApiClient {
  readonly socketPath: string;
  /** That asks, as it is typed. */
  readonly command: string;
  readonly #signal: AbortSignal;
  readonly #clock: Clock;

  constructor(socketPath: string, command: string, signal: AbortSignal, clock: Clock) {
    this.socketPath = socketPath;
    this.command = command;
    this.#signal = signal;
    this.#clock = clock;
  }

  /** A JSON call; T is trusted, because the far end is this machine's own node. */
  async call<T>(
    method: "GET" | "POST" | "DELETE",
    path: string,
    options: RequestOptions = {},
  ): Promise<ApiAnswer<T>> {
    const response = await this.fetch(method, path, options);
    const text = (await response.text()).trim();
    return { status: response.status, text: text === "" ? "{}" : text, value: JSON.parse(text || "{}") as T };
  }

  async fetch(method: string, path: string, options: RequestOptions = {}): Promise<Response> {
    const { json, body, contentType = "application/json", alsoFine = [] } = options;
    const { timeoutMs = ANSWER_TIMEOUT_MS } = options;
    const payload = json === undefined ? body : JSON.stringify(json);
    const late = new AbortController();
    const timer = this.#clock.after(timeoutMs, () =>
      late.abort(
        godwitError(
          "GODWIT_TIMEOUT",
          `the node at ${this.socketPath} does not answer within ${timeoutMs / 1000} s`,
        ),
      ),
    );
    let response: Response;
    try {
      response = await fetch(`http://localhost${path}`, {
        method,
        unix: this.socketPath,
        signal: AbortSignal.any([this.#signal, late.signal]),
        ...(payload === undefined
          ? {}
          : { body: payload as string, headers: { "content-type": contentType } }),
      });
    } catch (error) {
      throw late.signal.aborted ? late.signal.reason : this.#unreachable(error);
    } finally {
      timer.cancel();
    }
    if (!response.ok && !alsoFine.includes(response.status)) throw await problemIn(response);
    if (Number(response.headers.get("content-length") ?? 0) > ANSWER_BYTES_MAX)
      throw godwitError("GODWIT_TOO_BIG", `the node answered with more than ${ANSWER_BYTES_MAX} bytes`);
    return response;
  }

  #unreachable(error: unknown): unknown {
    if (this.#signal.aborted) return this.#signal.reason;
    const reason = error instanceof Error && "code" in error ? String(error.code) : String(error);
    if (reason === "EACCES" || reason === "EPERM")
      return godwitError("GODWIT_FORBIDDEN", whoMayOpen(this.socketPath, this.command), error);
    return godwitError(
      "GODWIT_NODE_UNREACHABLE",
      `no node answers at ${this.socketPath} (${REASONS[reason] ?? reason}); is it running? start it with godwit run, or name its socket with --socket`,
      error,
    );
  }
}

/** Nobody answers at the socket, or says that it is not ready: whoever waits for the node asks again. */
export function isNodeAway(error: unknown): boolean {
  if (error instanceof ApiProblem) return error.problem.status === 503;
  return error instanceof Error && "code" in error && AWAY.has(String(error.code));
}

const AWAY: ReadonlySet<string> = new Set(["GODWIT_NODE_UNREACHABLE", "GODWIT_TIMEOUT"]);

/** Path segments come from the command line: `/` or `?` in a name must not change the call. */
export const segment = (text: string): string => encodeURIComponent(text);

async function problemIn(response: Response): Promise<Error> {
  try {
    const problem = (await response.json()) as Partial<Problem>;
    if (typeof problem.code === "string" && typeof problem.detail === "string")
      return new ApiProblem(problem as Problem);
  } catch {
    // Not a node of ours: said below.
  }
  return godwitError(
    "GODWIT_NODE_UNREACHABLE",
    `what answers at the socket is no Godwit node (${response.status})`,
  );
}
