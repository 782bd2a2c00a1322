/**
 * What a bundle's seal holds: the message as its sender wrote it, receipts, and the claims by which machines of one
 * location agree who delivers. docs/protocol/delivery.md is normative.
 */
import { sha256, sha256Hex } from "../kernel/sha256.ts";
import {
  BUNDLE_ID_BYTES,
  formatBundleId,
  formatMessageId,
  idBytes,
  MESSAGE_ID_BYTES,
  nodeIdBytes,
  type BundleId,
  type MessageId,
  type NodeId,
} from "../kernel/ids.ts";
import { TRACE_MAX, type TraceEntry } from "./bundle.ts";
import { decodeError, Reader, Writer } from "./bytes.ts";
import { SystemKind } from "./constants.ts";
import { STORE_EPOCH_BYTES } from "./peer-messages.ts";
import { SESSION_ID_BYTES } from "./sealed.ts";

/** In a receipt that was made anew: which bundle brought the message is not known any more. */
export const noBundleId: BundleId = formatBundleId(new Uint8Array(BUNDLE_ID_BYTES));

/** First byte of what is sealed in a bundle of kind 0 or a transient message. `compact` and above: its lower bits are flags (mail-compact.ts). Append-only. */
export const PlainForm = { message: 1, test: 2, compact: 0x80 } as const;
export const TEST_PADDING_MAX = 1_024;
export const ADDRESS_BYTES_MAX = 64;
export const SUBJECT_BYTES_MAX = 1_024;
export const CONTENT_TYPE_BYTES_MAX = 255;
/** Most machines that one message is sealed to. */
export const MACHINES_MAX = 16;

/** The message inside its seal. */
export interface InnerMessage {
  /** Epoch of the sender's store, and the counter within (sender, address, epoch): together they name the message. */
  readonly mailEpoch: Uint8Array;
  readonly counter: number;
  /** As addressed: node id, LOC-MACHINE or LOC, canonical case. */
  readonly to: string;
  /** Sender's wall clock, ms since 1970. */
  readonly createdAtMs: number;
  /** Every machine that got a sealed copy, the preferred one first; empty when there is only one recipient. */
  readonly machines: readonly NodeId[];
  /** How long a machine waits for the others before it delivers unconfirmed, ms. */
  readonly failoverDelayMs: number;
  readonly subject: string;
  readonly contentType: string;
  readonly body: Uint8Array;
}

/** SHA-256("godwit message", sender, address, store epoch, counter), first 16 bytes. */
export function messageIdOf(sender: NodeId, to: string, mailEpoch: Uint8Array, counter: number): MessageId {
  const fields = new Writer(128)
    .text("godwit message")
    .nodeId(sender)
    .text(to)
    .bytes(mailEpoch)
    .varint(counter)
    .finish();
  return sha256Hex(MESSAGE_ID_BYTES, fields) as MessageId;
}

export function encodeInnerMessage(inner: InnerMessage): Uint8Array {
  const writer = new Writer(256 + inner.body.length)
    .u8(PlainForm.message)
    .bytes(inner.mailEpoch)
    .varint(inner.counter)
    .text(inner.to)
    .u48(Math.max(0, Math.floor(inner.createdAtMs)))
    .u8(inner.machines.length);
  for (const machine of inner.machines) writer.nodeId(machine);
  return writer
    .varint(Math.floor(inner.failoverDelayMs))
    .text(inner.subject)
    .text(inner.contentType)
    .bytes(inner.body)
    .finish();
}

/** `body` shares the memory of `bytes`. */
export function decodeInnerMessage(bytes: Uint8Array): InnerMessage {
  const reader = new Reader(bytes);
  const version = reader.u8();
  if (version !== PlainForm.message)
    throw decodeError(
      `message version ${version}, this node speaks ${PlainForm.message} and the compact form`,
    );
  const mailEpoch = reader.bytes(STORE_EPOCH_BYTES).slice();
  const counter = reader.varint();
  const to = reader.text(ADDRESS_BYTES_MAX);
  const createdAtMs = reader.u48();
  const count = reader.u8();
  if (count > MACHINES_MAX) throw decodeError(`message sealed to ${count} machines, at most ${MACHINES_MAX}`);
  const machines: NodeId[] = [];
  for (let i = 0; i < count; i++) machines.push(reader.nodeId());
  return {
    mailEpoch,
    counter,
    to,
    createdAtMs,
    machines,
    failoverDelayMs: reader.varint(),
    subject: reader.text(SUBJECT_BYTES_MAX),
    contentType: reader.text(CONTENT_TYPE_BYTES_MAX),
    body: reader.rest(),
  };
}

/** A test bundle: its number and zeros up to a size that says nothing. */
export function encodeTest(id: MessageId, paddingBytes: number): Uint8Array {
  return new Writer(17 + paddingBytes)
    .u8(PlainForm.test)
    .bytes(idBytes(id))
    .bytes(new Uint8Array(paddingBytes))
    .finish();
}

/** The number of a test; undefined for a message. Throws GODWIT_DECODE for a test that is cut short. */
export function decodeTest(bytes: Uint8Array): MessageId | undefined {
  if (bytes[0] !== PlainForm.test) return undefined;
  const reader = new Reader(bytes);
  reader.u8();
  return formatMessageId(reader.bytes(MESSAGE_ID_BYTES));
}

/** Append-only. A `delivered` beats every other status; `sessionUnknown` ends nothing: what was sealed in that session is to be sealed anew. */
export const ReceiptStatus = { delivered: 1, refused: 2, sessionUnknown: 3 } as const;

export interface Receipt {
  readonly status: number;
  /** For a bundle that could not be opened all zero; of `sessionUnknown` what `sessionSaid` gives. */
  readonly messageId: MessageId;
  readonly bundleId: BundleId;
  /** Recipient's wall clock, ms since 1970. */
  readonly atMs: number;
  /** Delivered without every other sealed machine having acknowledged the claim. */
  readonly isUnconfirmed: boolean;
  /** The session that it came in lies on the recipient's disk: its name will do from now on. */
  readonly isSessionKept?: boolean;
  /** Of this very message, and of none after it, it keeps there what others in that session may leave out. */
  readonly isContextKept?: boolean;
  readonly trace: readonly TraceEntry[];
}

/** Most receipts under one signature. */
export const RECEIPTS_MAX = 16;
export const SIGNATURE_BYTES = 64;
const RECEIPT_BYTES_MAX = 48 + TRACE_MAX * 38;

/** The session that a receipt `sessionUnknown` is about, where the others have their message: its id in hex, and zeros. */
export const sessionSaid = (session: string): MessageId =>
  session.padEnd(2 * MESSAGE_ID_BYTES, "0") as MessageId;
/** In hex. */
export const sessionOf = ({ messageId }: Receipt): string => messageId.slice(0, 2 * SESSION_ID_BYTES);

const ReceiptFlag = { unconfirmed: 1, sessionKept: 2, contextKept: 4 } as const;

type Flagged = Pick<Receipt, "isUnconfirmed" | "isSessionKept" | "isContextKept">;

const flagsOf = ({ isUnconfirmed, isSessionKept, isContextKept }: Flagged): number =>
  (isUnconfirmed ? ReceiptFlag.unconfirmed : 0) |
  (isSessionKept === true ? ReceiptFlag.sessionKept : 0) |
  (isContextKept === true ? ReceiptFlag.contextKept : 0);

/** Of a receipt, whichever form it has; unknown ones say nothing. */
export const readFlags = (flags: number): Flagged => ({
  isUnconfirmed: (flags & ReceiptFlag.unconfirmed) !== 0,
  ...((flags & ReceiptFlag.sessionKept) !== 0 ? { isSessionKept: true } : {}),
  ...((flags & ReceiptFlag.contextKept) !== 0 ? { isContextKept: true } : {}),
});

export function encodeReceipt(receipt: Receipt): Uint8Array {
  const writer = new Writer(48 + receipt.trace.length * 38)
    .u8(receipt.status)
    .bytes(idBytes(receipt.messageId))
    .bytes(idBytes(receipt.bundleId))
    .u48(Math.max(0, Math.floor(receipt.atMs)))
    .u8(flagsOf(receipt))
    .u8(receipt.trace.length);
  for (const { node, atMs } of receipt.trace) writer.nodeId(node).u48(Math.max(0, Math.floor(atMs)));
  return writer.finish();
}

export function decodeReceipt(bytes: Uint8Array): Receipt {
  const reader = new Reader(bytes);
  const status = reader.u8();
  const messageId = formatMessageId(reader.bytes(MESSAGE_ID_BYTES));
  const bundleId = formatBundleId(reader.bytes(BUNDLE_ID_BYTES));
  const atMs = reader.u48();
  const flags = readFlags(reader.u8());
  const traceLength = reader.u8();
  if (traceLength > TRACE_MAX) throw decodeError(`trace of ${traceLength} nodes, at most ${TRACE_MAX}`);
  const trace: TraceEntry[] = [];
  for (let i = 0; i < traceLength; i++) trace.push({ node: reader.nodeId(), atMs: reader.u48() });
  return { status, messageId, bundleId, atMs, ...flags, trace };
}

/** The first 16 bytes of SHA-256 over an encoded receipt: what a signature over several receipts lists. */
export const receiptHash = (receipt: Uint8Array): Uint8Array =>
  sha256(receipt).subarray(0, RECEIPT_HASH_BYTES);
export const RECEIPT_HASH_BYTES = 16;

/**
 * What the recipient of messages signs: one signature covers up to 16 receipts by their hashes, so that each can be
 * shown to a third party without the others.
 */
export function receiptSigningBytes(
  network: string,
  signer: NodeId,
  sender: NodeId,
  hashes: readonly Uint8Array[],
): Uint8Array {
  const writer = new Writer(128 + hashes.length * RECEIPT_HASH_BYTES)
    .text("godwit receipt")
    .text(network)
    .nodeId(signer)
    .nodeId(sender);
  for (const hash of hashes) writer.bytes(hash);
  return writer.finish();
}

/**
 * Body of a receipt bundle, not sealed: it is signed, and names nothing that the header does not show.
 *   count u8 | receipts, each sized | signature 64
 */
export function encodeReceiptBody(receipts: readonly Uint8Array[], signature: Uint8Array): Uint8Array {
  const writer = new Writer(128 + receipts.length * 96).u8(receipts.length);
  for (const receipt of receipts) writer.sizedBytes(receipt);
  return writer.bytes(signature).finish();
}

/** Shares the memory of `bytes`. Does not verify. */
export function decodeReceiptBody(bytes: Uint8Array): { receipts: Uint8Array[]; signature: Uint8Array } {
  const reader = new Reader(bytes);
  const count = reader.u8();
  if (count === 0 || count > RECEIPTS_MAX) {
    throw decodeError(`${count} receipts in one bundle, 1 to ${RECEIPTS_MAX} allowed`);
  }
  const receipts: Uint8Array[] = [];
  for (let i = 0; i < count; i++) receipts.push(reader.sizedBytes(RECEIPT_BYTES_MAX));
  return { receipts, signature: reader.bytes(SIGNATURE_BYTES) };
}

/** In a bundle of session receipts: the first bytes of the id of the bundle that was delivered. */
const REFERENCE_BYTES = 4;
/** Of hex. */
export const REFERENCE_CHARS = 2 * REFERENCE_BYTES;
export const RECEIPT_CODE_BYTES = 8;
/** One of a session. */
export const SESSION_RECEIPT_BYTES = REFERENCE_BYTES + 1 + 4 + RECEIPT_CODE_BYTES;
const NIBBLE_MAX = 15;
const U32_MAX = 0xffff_ffff;

/** Proves to the sender of mail in a session, and to nobody else, what became of it. docs/protocol/delivery.md "Receipts of a session" */
export interface SessionReceipt {
  /** Hex; of several bundles that begin so the code tells which. */
  readonly reference: string;
  /** 0 to 15, as ReceiptStatus. */
  readonly status: number;
  /** 0 to 15, those of a receipt. */
  readonly flags: number;
  /** Recipient's wall clock, s since 1970. */
  readonly atS: number;
  /** 8 bytes over what `receiptSaid` gives. */
  readonly code: Uint8Array;
}

/** A receipt without its proof, as a session says it. */
export const briefOf = ({ bundleId, status, atMs, ...rest }: Receipt): Omit<SessionReceipt, "code"> => ({
  reference: bundleId.slice(0, REFERENCE_CHARS),
  status,
  flags: flagsOf(rest),
  atS: Math.min(U32_MAX, Math.max(0, Math.floor(atMs / 1_000))),
});

/** What the code of a session receipt is over: all that it says, and the whole id of the bundle. */
export const receiptSaid = (
  { status, flags, atS }: Omit<SessionReceipt, "code">,
  bundle: BundleId,
): Uint8Array => new Writer(24).u8(status).u8(flags).u32(atS).bytes(idBytes(bundle)).finish();

/**
 * Body of a bundle of session receipts. It begins with what no bundle of signed ones does.
 *   0x00 | n u8 1..16 | n x (reference 4 | flags and status, four bits each | at u32 s | code 8)
 */
export function encodeSessionReceipts(receipts: readonly SessionReceipt[]): Uint8Array {
  const writer = new Writer(2 + receipts.length * SESSION_RECEIPT_BYTES).u8(0).u8(receipts.length);
  for (const { reference, status, flags, atS, code } of receipts)
    writer
      .bytes(Buffer.from(reference, "hex"))
      .u8((flags << 4) | (status & NIBBLE_MAX))
      .u32(atS)
      .bytes(code);
  return writer.finish();
}

/** Undefined: they are signed ones. Throws GODWIT_DECODE. Verifies nothing. */
export function decodeSessionReceipts(bytes: Uint8Array): SessionReceipt[] | undefined {
  const reader = new Reader(bytes);
  if (reader.u8() !== 0) return undefined;
  const count = reader.u8();
  if (count === 0 || count > RECEIPTS_MAX)
    throw decodeError(`${count} session receipts in one bundle, 1 to ${RECEIPTS_MAX} allowed`);
  return Array.from({ length: count }, () => {
    const reference = Buffer.from(reader.bytes(REFERENCE_BYTES)).toString("hex");
    const both = reader.u8();
    const said = { reference, status: both & NIBBLE_MAX, flags: both >> 4, atS: reader.u32() };
    return { ...said, code: reader.bytes(RECEIPT_CODE_BYTES).slice() };
  });
}

/**
 * In a system bundle: the sender of these messages asks for their signed receipts.
 *   0x02 | n u8 1..16 | n x message id 16
 */
export function encodeReceiptsWanted(ids: readonly MessageId[]): Uint8Array {
  const writer = new Writer(2 + ids.length * MESSAGE_ID_BYTES).u8(SystemKind.receiptsWanted).u8(ids.length);
  for (const id of ids) writer.bytes(idBytes(id));
  return writer.finish();
}

/** Throws GODWIT_DECODE. */
export function decodeReceiptsWanted(bytes: Uint8Array): MessageId[] {
  const reader = new Reader(bytes);
  if (reader.u8() !== SystemKind.receiptsWanted) throw decodeError("no request for receipts");
  const count = reader.u8();
  if (count === 0 || count > RECEIPTS_MAX)
    throw decodeError(`${count} receipts asked for at once, 1 to ${RECEIPTS_MAX} allowed`);
  return Array.from({ length: count }, () => formatMessageId(reader.bytes(MESSAGE_ID_BYTES)));
}

/** Between machines of one location: who delivers a message that was sealed to several. Travels sealed. */
export interface Claim {
  readonly messageId: MessageId;
  readonly sender: NodeId;
}
/** `granted`: the answerer will not deliver while the claimer may. `delivered`: it already has. `contested`: it claims and wins. */
export const ClaimAnswer = { granted: 1, delivered: 2, contested: 3 } as const;

export const encodeClaim = (claim: Claim): Uint8Array =>
  new Writer(64).bytes(idBytes(claim.messageId)).bytes(nodeIdBytes(claim.sender)).finish();

export function decodeClaim(bytes: Uint8Array): Claim {
  const reader = new Reader(bytes);
  return { messageId: formatMessageId(reader.bytes(MESSAGE_ID_BYTES)), sender: reader.nodeId() };
}

export const encodeClaimAnswer = (messageId: MessageId, answer: number): Uint8Array =>
  new Writer(32).bytes(idBytes(messageId)).u8(answer).finish();

export function decodeClaimAnswer(bytes: Uint8Array): { messageId: MessageId; answer: number } {
  const reader = new Reader(bytes);
  return { messageId: formatMessageId(reader.bytes(MESSAGE_ID_BYTES)), answer: reader.u8() };
}
