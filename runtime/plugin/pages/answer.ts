/** What a plugin answers a request with, judged and made into bytes. Pure; the node and the far end of frames use it. */
import { type PageResponse, pageResponseFault } from "@godwit/sdk";
import { GodwitError } from "../../kernel/errors.ts";

export interface JudgedAnswer {
  readonly status: number;
  readonly headers: Readonly<Record<string, string>>;
  readonly body: Uint8Array | AsyncIterable<string | Uint8Array>;
}

/** It answered, and not what a page may. */
export class BadAnswer extends GodwitError {
  constructor(fault: string) {
    super("GODWIT_PLUGIN_FAILED", fault, { kind: "plugin" });
  }
}

/** Throws a BadAnswer for what no page may answer. */
export function judgeAnswer(response: PageResponse): JudgedAnswer {
  const fault = pageResponseFault(response);
  if (fault !== undefined) throw new BadAnswer(fault);
  const { status = 200, headers = {}, body = "" } = response;
  const type = typeof body === "string" ? "text/plain; charset=utf-8" : "application/octet-stream";
  return {
    status,
    headers: { "content-type": type, ...headers },
    body: typeof body === "string" ? encoder.encode(body) : body,
  };
}

/** A piece of a body. Throws a BadAnswer for what is none. */
export function pieceBytes(piece: unknown): Uint8Array {
  const bytes = typeof piece === "string" ? encoder.encode(piece) : piece;
  if (!(bytes instanceof Uint8Array)) throw new BadAnswer("a piece of its body is no text and no bytes");
  return bytes;
}

const encoder = new TextEncoder();

/** Of an answer that nobody waits for: its body must not be left open. Never rejects. */
export async function dropAnswer(late: PageResponse): Promise<void> {
  const body = late?.body;
  if (body === undefined || typeof body !== "object" || body instanceof Uint8Array) return;
  try {
    await body[Symbol.asyncIterator]().return?.();
  } catch {
    // It is over all the same.
  }
}
