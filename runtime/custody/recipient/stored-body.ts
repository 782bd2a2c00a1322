/**
 * The body of a large message as it lies in the inbox: the sealed bytes as they came, which are not written a second time, and behind them what
 * opens them. Every segment was opened once before there is such a row, and is authenticated again when it is read. Owns that format; a row
 * whose body is exactly as long as the message holds it plainly. docs/protocol/delivery.md "Large bundles".
 */
import { asGodwitError, godwitError } from "../../kernel/errors.ts";
import { BLOCK_BYTES } from "../../wire/constants.ts";
import { concatBytes, Reader, Writer } from "../../wire/bytes.ts";
import type { InnerMessage } from "../../wire/message.ts";
import type { BodyHead } from "../../store/types.ts";
import type { Opened, Sealer, StoredBundle, SealedPieces } from "../context.ts";

/**
 * Behind the sealed bytes: key 32, plain bytes before the body u16, form u8. The second form has the sealed bytes before the first segment, u8,
 * in front of that.
 */
const Form = { first: 1, second: 2 } as const;
const KEY_BYTES = 32;
const TRAILER_BYTES = KEY_BYTES + 3;

/** A row of the inbox holds a message of `bytes` as it was sealed: what that adds tells it, whatever its size. */
export const isSealed = (bytes: number, rowBytes: number): boolean => rowBytes > bytes;

/** A body that lies in the store as it was sealed. */
export interface StoredBody {
  /** Of what its sender wrote. */
  readonly bytes: number;
  readonly head: BodyHead;
  readonly rest: Uint8Array;
}

export interface OpenedBundle extends Opened {
  /** Its body is the beginning of it: see `stored`. */
  readonly inner: InnerMessage;
  readonly stored: StoredBody;
}

/** Of a message that has come and was opened meanwhile. Undefined: it is not sealed in segments. Throws GODWIT_DECODE. */
export function storedOf({ opening, head, rest }: StoredBundle): OpenedBundle | undefined {
  const opened = opening?.opened();
  if (opened === undefined) return undefined;
  const { inner, before, plainBytes, key, openingBytes, forwardSecret, session } = opened;
  const writer = new Writer(TRAILER_BYTES + 1);
  // Where it is as in the first form nothing is said of it, and earlier releases read it.
  if (session !== undefined) writer.u8(openingBytes);
  const trailer = writer
    .bytes(key)
    .u16(before)
    .u8(session === undefined ? Form.first : Form.second)
    .finish();
  return {
    inner,
    forwardSecret,
    session,
    stored: { bytes: plainBytes - before, head, rest: concatBytes([rest, trailer]) },
  };
}

/** Bytes of the row that `body` becomes. */
export const rowBytesOf = (body: Uint8Array | StoredBody): number =>
  body instanceof Uint8Array ? body.length : body.head.bytes + body.rest.length;

/** Part of a row's body; undefined: it is not there. Rejects when the store cannot say. */
export type RowRead = (offset: number, length: number) => Promise<Uint8Array | undefined>;

/** The message of `bytes` in a row of `rowBytes`; undefined when the row is not that. Owned by the caller. Rejects with what `read` rejects with. */
export async function readStored(
  sealer: Pick<Sealer, "segmentsUnder">,
  bytes: number,
  rowBytes: number,
  read: RowRead,
): Promise<Uint8Array | undefined> {
  const behind = TRAILER_BYTES + 1;
  const trailer = rowBytes < behind ? undefined : await read(rowBytes - behind, behind);
  if (trailer?.length !== behind) return undefined;
  const reader = new Reader(trailer);
  const told = reader.u8();
  const key = reader.bytes(KEY_BYTES);
  const before = reader.u16();
  const form = reader.u8();
  if (form !== Form.first && form !== Form.second) return undefined;
  const sealedBytes = rowBytes - (form === Form.first ? TRAILER_BYTES : behind);
  const opening = sealer.segmentsUnder?.(key, sealedBytes, form === Form.first ? undefined : told);
  if (opening === undefined || opening.plainBytes !== before + bytes) return undefined;
  const { openingBytes, segmentBytes, tagBytes, plainBytes } = opening;
  const body = new Uint8Array(bytes);
  let failure: { readonly error: unknown } | undefined;
  const pieces: SealedPieces = {
    read: (offset) =>
      read(offset, Math.min(BLOCK_BYTES, sealedBytes - offset)).catch((error: unknown) => {
        failure = { error };
        return undefined;
      }),
  };
  const sealed = new InOrder(pieces, openingBytes, sealedBytes);
  try {
    for (let at = 0; at < plainBytes; at += segmentBytes) {
      const size = Math.min(segmentBytes, plainBytes - at) + tagBytes;
      const plain = opening.segment(at / segmentBytes, await sealed.take(size));
      body.set(at === 0 ? plain.subarray(before) : plain, Math.max(0, at - before));
    }
  } catch (error) {
    // What cannot be read just now is not damaged.
    if (failure !== undefined) throw failure.error;
    if (asGodwitError(error).kind === "bug") throw error;
    return undefined;
  }
  return body;
}

/** Sealed bytes from front to back, cut otherwise than they come. Rejects with GODWIT_STORE_FAILED. */
class InOrder {
  readonly #pieces: SealedPieces;
  #held: Uint8Array = new Uint8Array(0);
  /** Behind what is held, and what is read from there while that is opened. */
  #at: number;
  #ahead: Promise<Uint8Array | undefined> | undefined;
  readonly #end: number;

  constructor(pieces: SealedPieces, at: number, end: number) {
    this.#pieces = pieces;
    this.#at = at;
    this.#end = end;
  }

  async take(bytes: number): Promise<Uint8Array> {
    const parts = [this.#held];
    let held = this.#held.length;
    for (; held < bytes; held += parts.at(-1)!.length) parts.push(await this.#read());
    const all = parts.length === 1 ? this.#held : concatBytes(parts);
    this.#held = all.subarray(bytes);
    return all.subarray(0, bytes);
  }

  async #read(): Promise<Uint8Array> {
    const piece = await (this.#ahead ?? this.#start());
    if (piece === undefined || piece.length === 0)
      throw godwitError("GODWIT_STORE_FAILED", "the chunks of a message cannot be read");
    this.#at += piece.length;
    this.#ahead = this.#at < this.#end ? this.#start() : undefined;
    return piece;
  }

  async #start(): Promise<Uint8Array | undefined> {
    try {
      return await this.#pieces.read(this.#at);
    } catch {
      return undefined; // the store says why
    }
  }
}
