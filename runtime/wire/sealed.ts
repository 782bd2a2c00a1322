/**
 * What stands in the clear before sealed bytes: the form, and what they are sealed to. Pure. What is inside, and what is bound to it, is
 * identity/seal.ts and identity/session-seal.ts. docs/protocol/sealing.md is normative.
 */
import { formatHex } from "../kernel/ids.ts";
import { decodeError, Reader, Writer } from "./bytes.ts";

/** First byte of sealed bytes, append-only. Those that are _segmented_ have segments behind a sealed length. */
export const SealForm = {
  whole: 1,
  segmented: 2,
  first: 3,
  later: 4,
  firstSegmented: 5,
  laterSegmented: 6,
} as const;

export const EPHEMERAL_BYTES = 32;
export const SESSION_ID_BYTES = 8;
/** Counters of a session are 0 to this. */
export const COUNTER_MAX = 0xffff;

/** What a session was agreed by: the recipient's prekey, and the sender's ephemeral key. */
export interface SessionAgreement {
  readonly keyId: number;
  readonly ephemeral: Uint8Array;
}

/** `agreed`: until the recipient has proven that it knows the session; then its id is enough. */
export type SessionHead = {
  readonly isSegmented: boolean;
  /** 0 to COUNTER_MAX. */
  readonly counter: number;
} & ({ readonly agreed: SessionAgreement } | { readonly agreed?: undefined; readonly id: Uint8Array });

export const isSessionForm = (form: number | undefined): boolean =>
  form !== undefined && form >= SealForm.first && form <= SealForm.laterSegmented;

export function encodeSessionHead(head: SessionHead): Uint8Array {
  const { isSegmented, counter, agreed } = head;
  const writer = new Writer(48);
  if (agreed === undefined) writer.u8(isSegmented ? SealForm.laterSegmented : SealForm.later).bytes(head.id);
  else
    writer
      .u8(isSegmented ? SealForm.firstSegmented : SealForm.first)
      .u32(agreed.keyId)
      .bytes(agreed.ephemeral);
  return writer.varint(counter).finish();
}

/** Of sealed bytes of a session, or their beginning, which it shares; and how many it takes. Throws GODWIT_DECODE. */
export function decodeSessionHead(sealed: Uint8Array): SessionHead & { readonly bytes: number } {
  const reader = new Reader(sealed);
  const form = reader.u8();
  if (!isSessionForm(form)) throw decodeError(`seal form ${form} is none of a session`);
  const isSegmented = form === SealForm.firstSegmented || form === SealForm.laterSegmented;
  const mark =
    form === SealForm.first || form === SealForm.firstSegmented
      ? { agreed: { keyId: reader.u32(), ephemeral: reader.bytes(EPHEMERAL_BYTES) } }
      : { id: reader.bytes(SESSION_ID_BYTES) };
  const counter = reader.varint();
  if (counter > COUNTER_MAX) throw decodeError(`counter ${counter} of a session, at most ${COUNTER_MAX}`);
  return { ...mark, isSegmented, counter, bytes: reader.offset };
}

/** The id, in hex, of the session that sealed bytes or their beginning name alone, without what it was agreed by. */
export function namedSession(sealed: Uint8Array): string | undefined {
  const form = sealed[0];
  if (form !== SealForm.later && form !== SealForm.laterSegmented) return undefined;
  const id = sealed.subarray(1, 1 + SESSION_ID_BYTES);
  return id.length === SESSION_ID_BYTES ? formatHex(id) : undefined;
}
