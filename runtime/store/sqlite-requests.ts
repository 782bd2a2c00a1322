/** What a store is asked for, and how a batch of it goes to the worker. */
import { asGodwitError } from "../kernel/errors.ts";
import { FILE_BODY_BYTES } from "./body-files.ts";
import { SET_ASIDE, type WireEntry, type WireOp } from "./sqlite-messages.ts";
import type { Reader } from "./sqlite-reader.ts";
import type { StoreOp } from "./types.ts";

export interface CommitRequest {
  readonly kind: "commit";
  readonly ops: readonly StoreOp[];
}
/** Of rows, as they are with what is in the log alone. */
export interface ReadRequest {
  readonly kind: "read";
  /** Without a question to the worker. */
  isKnown(reader: Reader): boolean;
  read(reader: Reader): Promise<unknown>;
}
export type Request = CommitRequest | ReadRequest | Extract<WireEntry, { kind: "body" | "piece" | "usage" }>;

/** One copy of each body, which is what frees the caller's buffer; the pack itself moves to the worker uncopied. */
export function packed(pending: readonly { readonly request: Request }[]): {
  entries: WireEntry[];
  pack: Uint8Array;
} {
  const pack = new Uint8Array(pending.reduce((total, { request }) => total + bodyBytesOf(request), 0));
  let at = 0;
  const entries = pending.map(({ request }): WireEntry => {
    if (request.kind !== "commit") return request as WireEntry;
    return {
      kind: "commit",
      ops: request.ops.map((op): WireOp => {
        if (op.op === "delete") return [op.in, op.key, null, -1, 0];
        if (op.op === "set-aside") return [op.in, op.key, null, SET_ASIDE, 0];
        const slot =
          op.slot === undefined ? ([] as const) : ([undefined, op.slot.order, op.slot.group] as const);
        if (op.body === undefined) return [op.in, op.key, op.meta, -1, 0, ...slot];
        const offset = at;
        pack.set(op.body, offset);
        at += op.body.length;
        return [op.in, op.key, op.meta, offset, op.body.length, ...slot];
      }),
    };
  });
  return { entries, pack };
}

/** Of a commit. */
export const opsOf = ({ request }: { readonly request: Request }): readonly StoreOp[] =>
  (request as CommitRequest).ops;

export const bodyBytesOf = (request: Request): number =>
  request.kind === "commit"
    ? request.ops.reduce((total, op) => total + (op.op === "put" ? (op.body?.length ?? 0) : 0), 0)
    : 0;

export const hasHead = ({ request }: { readonly request: Request }): boolean =>
  request.kind === "commit" && request.ops.some((op) => op.op === "put" && op.head !== undefined);

/** Chunks that cannot be read fail the commit that wanted them, and no other; so does a body that gets a file of its own and finds no room. */
export const mayFailAlone = (pending: readonly { readonly request: Request }[], hasFiles: boolean): boolean =>
  pending.length > 1 &&
  pending.some((one) => hasHead(one) || (hasFiles && bodyBytesOf(one.request) > FILE_BODY_BYTES));

const NO_ROOM: readonly unknown[] = ["ENOSPC", "GODWIT_STORE_FAILED"];
export const isNoRoom = (error: unknown): boolean =>
  error instanceof Error && "code" in error && NO_ROOM.includes(error.code);

export const failuresOf = (pending: readonly unknown[], error: unknown): Map<number, string> =>
  new Map(pending.map((_, index) => [index, asGodwitError(error).message]));
