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
import { STORE_EPOCH_BYTES } from "./peer-messages.ts";

/** In a receipt that was made anew: which bundle brought the message is not known any more. */
export const noBundleId: BundleId = formatBundleId(new Uint8Array(BUNDLE_ID_BYTES));

export const INNER_VERSION = 1;
/** First byte of a test bundle's plaintext. */
export const TEST_VERSION = 2;
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
    .u8(INNER_VERSION)
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
  if (version !== INNER_VERSION)
    throw decodeError(`message version ${version}, this node speaks ${INNER_VERSION}`);
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
    .u8(TEST_VERSION)
    .bytes(idBytes(id))
    .bytes(new Uint8Array(paddingBytes))
    .finish();
}

/** The number of a test; undefined for a message. Throws GODWIT_DECODE for a test that is cut short. */
export function decodeTest(bytes: Uint8Array): MessageId | undefined {
  if (bytes[0] !== TEST_VERSION) return undefined;
  const reader = new Reader(bytes);
  reader.u8();
  return formatMessageId(reader.bytes(MESSAGE_ID_BYTES));
}

/** Append-only. A `delivered` beats every other status. */
export const ReceiptStatus = { delivered: 1, refused: 2 } as const;

export interface Receipt {
  readonly status: number;
  /** All zero for a bundle that could not be opened. */
  readonly messageId: MessageId;
  readonly bundleId: BundleId;
  /** Recipient's wall clock, ms since 1970. */
  readonly atMs: number;
  /** Delivered without every other sealed machine having acknowledged the claim. */
  readonly isUnconfirmed: boolean;
  readonly trace: readonly TraceEntry[];
}

/** Most receipts under one signature. */
export const RECEIPTS_MAX = 16;
export const SIGNATURE_BYTES = 64;
const RECEIPT_BYTES_MAX = 48 + TRACE_MAX * 38;

export function encodeReceipt(receipt: Receipt): Uint8Array {
  const writer = new Writer(48 + receipt.trace.length * 38)
    .u8(receipt.status)
    .bytes(idBytes(receipt.messageId))
    .bytes(idBytes(receipt.bundleId))
    .u48(Math.max(0, Math.floor(receipt.atMs)))
    .u8(receipt.isUnconfirmed ? 1 : 0)
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
  const isUnconfirmed = (reader.u8() & 1) === 1;
  const traceLength = reader.u8();
  if (traceLength > TRACE_MAX) throw decodeError(`trace of ${traceLength} nodes, at most ${TRACE_MAX}`);
  const trace: TraceEntry[] = [];
  for (let i = 0; i < traceLength; i++) trace.push({ node: reader.nodeId(), atMs: reader.u48() });
  return { status, messageId, bundleId, atMs, isUnconfirmed, trace };
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
