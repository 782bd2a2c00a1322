/**
 * Yggdrasil's admin socket: one JSON object each way and one connection for each request, which the daemon then closes.
 * What it says is bounded here and checked in facts.ts before anything believes it.
 */
import { GodwitError, type Clock } from "@godwit/sdk";
import { z } from "zod/mini";

const ANSWER_BYTES_MAX = 1_048_576;
const TIMEOUT_MS = 3_000;
const REASON_CHARS_MAX = 200;

export type AdminAddress = { readonly unix: string } | { readonly hostname: string; readonly port: number };

/** `unix:///path` or `tcp://host:port`; undefined for anything else. */
export function parseAdmin(text: string): AdminAddress | undefined {
  const unix = /^unix:\/\/(\/.{1,100})$/.exec(text);
  if (unix !== null) return { unix: unix[1]! };
  const tcp = /^tcp:\/\/(?:\[([0-9a-fA-F:]+)\]|([\w.-]+)):(\d{1,5})$/.exec(text);
  const port = Number(tcp?.[3]);
  return tcp === null || port < 1 || port > 65_535 ? undefined : { hostname: (tcp[1] ?? tcp[2])!, port };
}

const answerSchema = z.object({
  status: z.string(),
  error: z.optional(z.string()),
  response: z.optional(z.unknown()),
});

export const failed = (what: string, cause?: unknown): GodwitError =>
  new GodwitError("GODWIT_PLUGIN_FAILED", `yggdrasil: ${what}`, { kind: "transport", retry: "later", cause });

/** The daemon was asked properly and said no. */
export class Refusal extends Error {}

/** The `response` of one answer. Throws GODWIT_PLUGIN_FAILED, or Refusal with the daemon's words. */
export function parseAnswer(text: string): unknown {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch (cause) {
    throw failed("the answer of the admin socket is no JSON", cause);
  }
  const { success, data } = answerSchema.safeParse(value);
  if (!success) throw failed("the answer of the admin socket has no status");
  if (data.status !== "success")
    throw new Refusal(`yggdrasil: ${(data.error ?? "refused").slice(0, REASON_CHARS_MAX)}`);
  return data.response;
}

/** One request. Rejects with Refusal, with GODWIT_PLUGIN_FAILED, or with the signal's reason. */
export function ask(
  admin: AdminAddress,
  request: string,
  args: Readonly<Record<string, string>>,
  { clock, signal }: { readonly clock: Clock; readonly signal: AbortSignal },
): Promise<unknown> {
  return new Promise((resolve, reject) => {
    if (signal.aborted) return reject(signal.reason);
    const pieces: Buffer[] = [];
    let bytes = 0;
    let isOver = false;
    let close = () => {};
    const finish = (settle: () => void) => {
      if (isOver) return;
      isOver = true;
      timer.cancel();
      signal.removeEventListener("abort", onAbort);
      close();
      settle();
    };
    const fail = (what: string, cause?: unknown) => finish(() => reject(failed(what, cause)));
    const onAbort = () => finish(() => reject(signal.reason));
    const timer = clock.after(TIMEOUT_MS, () =>
      fail(`no answer to ${request} within ${TIMEOUT_MS / 1_000} s`),
    );
    signal.addEventListener("abort", onAbort, { once: true });
    const onEnd = () =>
      finish(() => {
        try {
          resolve(parseAnswer(Buffer.concat(pieces).toString()));
        } catch (error) {
          reject(error);
        }
      });
    const socket = {
      data(_: unknown, piece: Buffer) {
        bytes += piece.length;
        if (bytes > ANSWER_BYTES_MAX) fail(`the answer to ${request} is too long`);
        else pieces.push(Buffer.from(piece));
      },
      end: onEnd,
      close: onEnd,
      error: (_: unknown, error: Error) => fail(error.message, error),
    };
    const connecting =
      "unix" in admin ? Bun.connect({ ...admin, socket }) : Bun.connect({ ...admin, socket });
    connecting.then(
      (connected) => {
        if (isOver) return void connected.terminate();
        close = () => void connected.terminate();
        connected.write(JSON.stringify({ request, arguments: args }));
      },
      (error: unknown) =>
        fail(
          `the admin socket does not answer: ${error instanceof Error ? error.message : String(error)}`,
          error,
        ),
    );
  });
}
