/**
 * What stands around messages on their way: label, encryption, checksum, compression, compounds. Owns every bound on what may come out of a
 * stranger's bytes. Knows no message but these.
 *
 *   packet: [244 label] [sealed] [12 crc32] [9 compressed] [7 compound] message
 *   stream: [244 label] [10 length 4 sealed] [9 compressed] message
 */
import type { Random } from "@godwit/sdk";
import { crc32 } from "node:zlib";
import { type Keyring, SEAL_OVERHEAD } from "./keyring.ts";
import { compress, decompress } from "./lzw.ts";
import { ByteWriter, Fields, ValueReader, ValueScanner, wireError } from "./msgpack.ts";
import { MessageType } from "./types.ts";

/** Payload of one datagram of ours, the same that memberlist takes: fits a path of 1,500 bytes. */
export const PACKET_BYTES = 1_400;
const COMPOUND_PARTS_MAX = 255;
/** Compounds and compressions in one another. Memberlist has two. */
const NESTING_MAX = 4;
/** Messages of one datagram in all. */
const MESSAGES_MAX = 512;
/** Of a datagram unpacked. */
const PACKET_PLAIN_MAX = 262_144;
/** What one stream may bring, on the wire and unpacked. A cluster at the bound of members with full tags is half of that. */
export const STREAM_BYTES_MAX = 2_097_152;
export const STREAM_PLAIN_MAX = 4_194_304;
/** A hundred to one is what LZW makes of nothing but one byte: no state looks so. */
const RATIO_MAX = 100;
/** Shorter datagrams, pings and their answers above all, are not worth the work. */
const WORTH_BYTES = 256;
/** Longer messages go over a stream as they are: they are mostly tags, which nothing makes smaller, and it would take a tenth of a second. */
const COMPRESSED_BYTES_MAX = 262_144;
/** So much comes out of anything, however small. */
const RATIO_FREE_BYTES = 16_384;
const LABEL_BYTES_MAX = 255;

const EMPTY = new Uint8Array(0);

/** Why bytes are not taken, for a counter. */
export type DropReason = "label" | "sealed" | "plain" | "checksum" | "malformed";

export class Dropped extends Error {
  readonly reason: DropReason;
  constructor(reason: DropReason) {
    super(reason);
    this.reason = reason;
  }
}

export interface EnvelopeOptions {
  /** Undefined: everything in the clear. */
  readonly keyring: Keyring | undefined;
  /** Of the cluster, at most 255 bytes; empty for none. */
  readonly label: string;
  readonly random: Pick<Random, "bytes">;
}

export class Envelope {
  readonly keyring: Keyring | undefined;
  readonly #label: Uint8Array;
  readonly #header: Uint8Array;
  readonly #random: Pick<Random, "bytes">;

  constructor({ keyring, label, random }: EnvelopeOptions) {
    this.keyring = keyring;
    this.#label = new TextEncoder().encode(label);
    if (this.#label.length > LABEL_BYTES_MAX)
      throw new RangeError(`a label has at most ${LABEL_BYTES_MAX} bytes`);
    this.#header =
      this.#label.length === 0
        ? EMPTY
        : Buffer.concat([Uint8Array.of(MessageType.label, this.#label.length), this.#label]);
    this.#random = random;
  }

  /** Bytes that the parts of one packet may take together, two of each for its length included. */
  get room(): number {
    const sealed = this.keyring === undefined ? 0 : SEAL_OVERHEAD;
    // Compound head 2, checksum 5.
    return PACKET_BYTES - 7 - this.#header.length - sealed;
  }

  /** One datagram of messages that are at most `room` together. `hasChecksum`: its receiver is known to take one. */
  sealPacket(messages: readonly Uint8Array[], hasChecksum: boolean): Uint8Array {
    let body = messages.length === 1 ? messages[0]! : compoundOf(messages);
    if (body.length >= WORTH_BYTES) {
      const small = compressed(body);
      if (small.length < body.length) body = small;
    }
    if (hasChecksum) body = new ByteWriter().u8(MessageType.checksum).u32(crc32(body)).bytes(body).finish();
    if (this.keyring !== undefined) body = this.keyring.seal(body, this.#random.bytes(12), this.#label);
    return this.#header.length === 0 ? body : Buffer.concat([this.#header, body]);
  }

  /** The messages of a datagram, views of it or of what was unpacked. Throws Dropped, or GODWIT_DECODE. */
  openPacket(packet: Uint8Array): Uint8Array[] {
    let body = this.#withoutLabel(packet);
    if (this.keyring !== undefined) {
      const plain = this.keyring.open(body, this.#label);
      if (plain === undefined) throw new Dropped("sealed");
      body = plain;
    }
    if (body[0] === MessageType.checksum) {
      if (body.length < 5) throw new Dropped("malformed");
      const claimed = Buffer.from(body.buffer, body.byteOffset, body.length).readUInt32BE(1);
      body = body.subarray(5);
      if (crc32(body) !== claimed) throw new Dropped("checksum");
    }
    return unwrapped(body);
  }

  /** What is written to a stream: one message, whole. */
  sealStream(message: Uint8Array, isFirst = true): Uint8Array {
    const label = isFirst ? this.#header : EMPTY;
    const body = message.length > COMPRESSED_BYTES_MAX ? message : compressed(message);
    if (this.keyring === undefined) return Buffer.concat([label, body]);
    const head = new ByteWriter()
      .u8(MessageType.encrypted)
      .u32(body.length + SEAL_OVERHEAD)
      .finish();
    const sealed = this.keyring.seal(body, this.#random.bytes(12), Buffer.concat([head, this.#label]));
    return Buffer.concat([label, head, sealed]);
  }

  /** For one message of a stream. `expectsLabel`: only the first of the one who opened it carries one. */
  streamReader(expectsLabel: boolean): StreamReader {
    return new StreamReader(this.keyring, this.#label, expectsLabel ? this.#header : EMPTY);
  }

  #withoutLabel(packet: Uint8Array): Uint8Array {
    const size = this.#header.length;
    // Without a label of ours a packet that has one is somebody else's.
    if (size === 0 && packet[0] !== MessageType.label) return packet;
    if (size === 0 || Buffer.compare(packet.subarray(0, size), this.#header) !== 0)
      throw new Dropped("label");
    return packet.subarray(size);
  }
}

/** | 7 | parts 1 | length 2 of each | parts | */
export function compoundOf(parts: readonly Uint8Array[]): Uint8Array {
  if (parts.length > COMPOUND_PARTS_MAX) throw new RangeError(`at most ${COMPOUND_PARTS_MAX} parts`);
  const writer = new ByteWriter().u8(MessageType.compound).u8(parts.length);
  for (const { length } of parts) writer.u16(length);
  for (const part of parts) writer.bytes(part);
  return writer.finish();
}

const compressed = (body: Uint8Array): Uint8Array =>
  new ByteWriter()
    .u8(MessageType.compressed)
    .value({ Algo: 0, Buf: compress(body) })
    .finish();

/** `body` begins behind the type. */
function decompressed(body: Uint8Array, bytesMax: number): Uint8Array {
  const fields = Fields.of(body);
  if (fields.uint("Algo", 255) !== 0) throw wireError("an unknown compression");
  const buffer = fields.bytes("Buf", STREAM_BYTES_MAX);
  return decompress(buffer, Math.min(bytesMax, Math.max(RATIO_FREE_BYTES, buffer.length * RATIO_MAX)));
}

/** Breadth first, so that nothing nests the stack. */
function unwrapped(packet: Uint8Array): Uint8Array[] {
  const messages: Uint8Array[] = [];
  let budget = PACKET_PLAIN_MAX;
  let level = [packet];
  for (let depth = 0; level.length > 0; depth++) {
    const next: Uint8Array[] = [];
    for (const body of level) {
      const type = body[0];
      if (type !== MessageType.compound && type !== MessageType.compressed) {
        if (messages.push(body) > MESSAGES_MAX) throw wireError("too many messages in one packet");
        continue;
      }
      if (depth >= NESTING_MAX) throw wireError("compounds too deep in each other");
      if (type === MessageType.compound) next.push(...partsOf(body));
      else {
        const plain = decompressed(body.subarray(1), budget);
        budget -= plain.length;
        next.push(plain);
      }
      if (next.length > MESSAGES_MAX) throw wireError("too many messages in one packet");
    }
    level = next;
  }
  return messages;
}

/** What was cut off at the end is left out, as memberlist does. */
function partsOf(body: Uint8Array): Uint8Array[] {
  const count = body[1];
  if (count === undefined || body.length < 2 + 2 * count) throw wireError("a compound ends too early");
  const view = Buffer.from(body.buffer, body.byteOffset, body.length);
  const parts: Uint8Array[] = [];
  let at = 2 + 2 * count;
  for (let i = 0; i < count; i++) {
    const length = view.readUInt16BE(2 + 2 * i);
    if (length > body.length - at) break;
    if (length > 0) parts.push(body.subarray(at, at + length));
    at += length;
  }
  return parts;
}

/** Collects one message of a stream from the pieces that it comes in. */
export class StreamReader {
  readonly #keyring: Keyring | undefined;
  readonly #label: Uint8Array;
  readonly #header: Uint8Array;
  readonly #pieces = new Pieces();
  #isPastLabel: boolean;
  #plain: PlainReader | undefined;

  constructor(keyring: Keyring | undefined, label: Uint8Array, header: Uint8Array) {
    this.#keyring = keyring;
    this.#label = label;
    this.#header = header;
    this.#isPastLabel = header.length === 0;
  }

  /** Bytes that are kept of it now. */
  get held(): number {
    return this.#pieces.held;
  }

  /** `bytes` are copied. Answers the message once it is whole. Throws Dropped, or GODWIT_DECODE. */
  push(bytes: Uint8Array): Uint8Array | undefined {
    this.#pieces.push(bytes);
    let all = this.#pieces.all;
    if (!this.#isPastLabel) {
      if (all.length < this.#header.length) return undefined;
      if (Buffer.compare(all.subarray(0, this.#header.length), this.#header) !== 0)
        throw new Dropped("label");
      this.#pieces.skip(this.#header.length);
      this.#isPastLabel = true;
      all = this.#pieces.all;
    }
    if (all.length === 0) return undefined;
    if (this.#keyring === undefined) {
      if (all[0] === MessageType.encrypted) throw new Dropped("sealed");
      if (all[0] === MessageType.label) throw new Dropped("label");
      this.#plain ??= new PlainReader();
      return this.#plain.take(all);
    }
    if (all[0] !== MessageType.encrypted) throw new Dropped("plain");
    if (all.length < 5) return undefined;
    const length = Buffer.from(all.buffer, all.byteOffset, all.length).readUInt32BE(1);
    if (length > STREAM_BYTES_MAX) throw wireError(`a stream of more than ${STREAM_BYTES_MAX} bytes`);
    if (all.length < 5 + length) return undefined;
    const aad = Buffer.concat([all.subarray(0, 5), this.#label]);
    const plain = this.#keyring.open(all.subarray(5, 5 + length), aad);
    if (plain === undefined) throw new Dropped("sealed");
    const message = new PlainReader().take(plain);
    if (message === undefined) throw wireError("a message ends too early");
    return message;
  }
}

/** Finds the end of a message that says nowhere how long it is. */
class PlainReader {
  #scanner = new ValueScanner(1);
  /** Of a push-pull, once its header is there: what stands behind its nodes. */
  #tail: number | undefined;
  #stage: "first" | "nodes" = "first";

  /** `bytes` grow at their end from call to call. */
  take(bytes: Uint8Array): Uint8Array | undefined {
    const type = bytes[0];
    let end = this.#scanner.scan(bytes);
    if (end === undefined) return undefined;
    if (type === MessageType.compressed) {
      const plain = decompressed(bytes.subarray(1, end), STREAM_PLAIN_MAX);
      if (plain[0] === MessageType.compressed) throw wireError("a compression in a compression");
      return new PlainReader().take(plain) ?? tooEarly();
    }
    if (this.#stage === "first") {
      if (type === MessageType.pushPull) {
        const header = Fields.of(bytes.subarray(1, end));
        this.#tail = header.uint("UserStateLen", STREAM_PLAIN_MAX);
        this.#scanner = new ValueScanner(end, header.uint("Nodes", STREAM_PLAIN_MAX));
        this.#stage = "nodes";
        end = this.#scanner.scan(bytes);
        if (end === undefined) return undefined;
      } else if (type === MessageType.user)
        this.#tail = Fields.of(bytes.subarray(1, end)).uint("UserMsgLen", STREAM_PLAIN_MAX);
    }
    const whole = end + (this.#tail ?? 0);
    return bytes.length >= whole ? bytes.subarray(0, whole) : undefined;
  }
}

const tooEarly = (): never => {
  throw wireError("a message ends too early");
};

/** What came so far, in one buffer that doubles. */
class Pieces {
  #buffer = new Uint8Array(0);
  #from = 0;
  #to = 0;

  get held(): number {
    return this.#buffer.length;
  }

  get all(): Uint8Array {
    return this.#buffer.subarray(this.#from, this.#to);
  }

  push(bytes: Uint8Array): void {
    const needed = this.#to + bytes.length;
    if (needed > STREAM_BYTES_MAX + 512) throw wireError(`a stream of more than ${STREAM_BYTES_MAX} bytes`);
    if (needed > this.#buffer.length) {
      const wider = new Uint8Array(Math.max(1_024, 2 * this.#buffer.length, needed));
      wider.set(this.#buffer.subarray(0, this.#to));
      this.#buffer = wider;
    }
    this.#buffer.set(bytes, this.#to);
    this.#to = needed;
  }

  skip(count: number): void {
    this.#from += count;
  }
}

/** Values behind one another, for messages that have several. */
export const valuesOf = (message: Uint8Array): ValueReader => new ValueReader(message, 1);
