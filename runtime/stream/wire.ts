/**
 * The bytes of streams: the four messages that a packet of kind `stream` may hold, and the frames inside a record.
 * Drawn in docs/protocol/streams.md; golden vectors in wire.test.ts. Pure.
 */
import { decodeError, Reader, Writer } from "../wire/bytes.ts";
import {
  ACK_RANGES_MAX,
  METADATA_BYTES_MAX,
  REASON_BYTES_MAX,
  SERVICE_BYTES_MAX,
  STREAM_VERSION,
  StreamFrame,
  StreamMessage,
  TOKEN_BYTES,
} from "./constants.ts";

/** type, epoch, index 4, counter 6. */
export const RECORD_HEADER_BYTES = 12;
/** type, stream, offset and length of a data frame at their longest. */
export const DATA_HEADER_BYTES_MAX = 1 + 5 + 8 + 3;

export interface OpenMessage {
  readonly version: number;
  /** By which the initiator will know the answers. */
  readonly index: number;
  readonly noise: Uint8Array;
}
export interface AcceptMessage {
  /** The initiator's. */
  readonly to: number;
  /** By which the responder will know the initiator's records. */
  readonly index: number;
  readonly noise: Uint8Array;
}
export interface GoneMessage {
  /** The index that its sender does not know (any more). */
  readonly index: number;
  readonly token: Uint8Array;
}

export const encodeOpen = ({ index, noise }: Omit<OpenMessage, "version">): Uint8Array =>
  new Writer(6 + noise.length).u8(StreamMessage.open).u8(STREAM_VERSION).u32(index).bytes(noise).finish();

export function decodeOpen(payload: Uint8Array): OpenMessage {
  const reader = expectType(payload, StreamMessage.open);
  return { version: reader.u8(), index: reader.u32(), noise: reader.rest() };
}

export const encodeAccept = ({ to, index, noise }: AcceptMessage): Uint8Array =>
  new Writer(9 + noise.length).u8(StreamMessage.accept).u32(to).u32(index).bytes(noise).finish();

export function decodeAccept(payload: Uint8Array): AcceptMessage {
  const reader = expectType(payload, StreamMessage.accept);
  return { to: reader.u32(), index: reader.u32(), noise: reader.rest() };
}

export const encodeGone = ({ index, token }: GoneMessage): Uint8Array =>
  new Writer(5 + TOKEN_BYTES).u8(StreamMessage.gone).u32(index).bytes(token).finish();

export function decodeGone(payload: Uint8Array): GoneMessage {
  const reader = expectType(payload, StreamMessage.gone);
  return { index: reader.u32(), token: reader.bytes(TOKEN_BYTES) };
}

/** Writes the clear header of a record in front of its sealed bytes. */
export function writeRecordHeader(
  out: Uint8Array,
  at: number,
  { epoch, index, counter }: { epoch: number; index: number; counter: number },
): void {
  out[at] = StreamMessage.record;
  out[at + 1] = epoch;
  writeU32(out, at + 2, index);
  out[at + 6] = Math.floor(counter / 2 ** 40);
  out[at + 7] = Math.floor(counter / 2 ** 32);
  writeU32(out, at + 8, counter % 2 ** 32);
}

export function decodeRecordHeader(payload: Uint8Array): { epoch: number; index: number; counter: number } {
  const reader = expectType(payload, StreamMessage.record);
  return { epoch: reader.u8(), index: reader.u32(), counter: reader.u48() };
}

/** Receives the frames of one record; byte arrays share the record's memory. */
export interface FrameSink {
  onPing(): void;
  /** `ranges`: low, high, low, high ... inclusive, the highest range first. `delay` in 0.1 ms. */
  onAck(ranges: readonly number[], delay: number): void;
  onOpen(stream: number, service: string, metadata: Uint8Array): void;
  onData(stream: number, offset: number, bytes: Uint8Array, isEnd: boolean): void;
  onCredit(stream: number, limit: number): void;
  onReset(stream: number, reason: number, message: string): void;
  onAccepted(stream: number): void;
  onClose(): void;
}

/** Throws GODWIT_DECODE at the first malformed or unknown frame, after those before it were handed out. */
export function decodeFrames(plaintext: Uint8Array, sink: FrameSink): void {
  const reader = new Reader(plaintext);
  while (reader.remaining > 0) {
    const type = reader.u8();
    switch (type) {
      case StreamFrame.ping:
        sink.onPing();
        break;
      case StreamFrame.ack:
        readAck(reader, sink);
        break;
      case StreamFrame.open:
        sink.onOpen(streamId(reader), reader.text(SERVICE_BYTES_MAX), reader.sizedBytes(METADATA_BYTES_MAX));
        break;
      case StreamFrame.data:
      case StreamFrame.dataEnd: {
        const stream = streamId(reader);
        const offset = reader.varint();
        const bytes = reader.sizedBytes(0xffff);
        if (offset + bytes.length > Number.MAX_SAFE_INTEGER) throw decodeError("a stream is too long");
        sink.onData(stream, offset, bytes, type === StreamFrame.dataEnd);
        break;
      }
      case StreamFrame.credit:
        sink.onCredit(streamId(reader), reader.varint());
        break;
      case StreamFrame.reset:
        sink.onReset(streamId(reader), reader.varint(), reader.text(REASON_BYTES_MAX));
        break;
      case StreamFrame.accepted:
        sink.onAccepted(streamId(reader));
        break;
      case StreamFrame.close:
        sink.onClose();
        break;
      default:
        throw decodeError(`a record has a frame of unknown type ${type}`);
    }
  }
}

function streamId(reader: Reader): number {
  const id = reader.varint();
  if (id > 0xffffffff) throw decodeError("a stream number is above 2^32-1");
  return id;
}

function readAck(reader: Reader, sink: FrameSink): void {
  let high = reader.varint();
  const delay = reader.varint();
  const count = reader.varint();
  if (count < 1 || count > ACK_RANGES_MAX) throw decodeError(`an acknowledgement of ${count} ranges`);
  const ranges: number[] = [];
  for (let i = 0; i < count; i++) {
    if (i > 0) high -= reader.varint() + 2;
    const low = high - reader.varint();
    if (low < 0) throw decodeError("an acknowledgement reaches below zero");
    ranges.push(low, high);
    high = low;
  }
  sink.onAck(ranges, delay);
}

/** Fills one record's plaintext in place. The caller sees to it that what it adds fits. */
export class FrameWriter {
  readonly #buffer: Uint8Array;
  #length = 0;

  /** `buffer` is borrowed for the writer's life. */
  constructor(buffer: Uint8Array) {
    this.#buffer = buffer;
  }

  get length(): number {
    return this.#length;
  }

  get bytes(): Uint8Array {
    return this.#buffer.subarray(0, this.#length);
  }

  clear(): void {
    this.#length = 0;
  }

  ping(): void {
    this.#u8(StreamFrame.ping);
  }

  close(): void {
    this.#u8(StreamFrame.close);
  }

  /** `ranges`: as `FrameSink.onAck`. */
  ack(ranges: readonly number[], delay: number): void {
    this.#u8(StreamFrame.ack);
    this.#varint(ranges[1]!);
    this.#varint(delay);
    this.#varint(ranges.length / 2);
    for (let i = 0; i < ranges.length; i += 2) {
      if (i > 0) this.#varint(ranges[i - 2]! - ranges[i + 1]! - 2);
      this.#varint(ranges[i + 1]! - ranges[i]!);
    }
  }

  open(stream: number, service: Uint8Array, metadata: Uint8Array): void {
    this.#u8(StreamFrame.open);
    this.#varint(stream);
    this.#sized(service);
    this.#sized(metadata);
  }

  credit(stream: number, limit: number): void {
    this.#u8(StreamFrame.credit);
    this.#varint(stream);
    this.#varint(limit);
  }

  reset(stream: number, reason: number, message: Uint8Array): void {
    this.#u8(StreamFrame.reset);
    this.#varint(stream);
    this.#varint(reason);
    this.#sized(message);
  }

  accepted(stream: number): void {
    this.#u8(StreamFrame.accepted);
    this.#varint(stream);
  }

  /** Heads a data frame and answers where its `length` bytes go. */
  data(stream: number, offset: number, length: number, isEnd: boolean): Uint8Array {
    this.#u8(isEnd ? StreamFrame.dataEnd : StreamFrame.data);
    this.#varint(stream);
    this.#varint(offset);
    this.#varint(length);
    const at = this.#length;
    this.#length += length;
    return this.#buffer.subarray(at, at + length);
  }

  #u8(value: number): void {
    this.#buffer[this.#length++] = value;
  }

  #varint(value: number): void {
    let rest = value;
    while (rest > 127) {
      this.#buffer[this.#length++] = (rest % 128) | 128;
      rest = Math.floor(rest / 128);
    }
    this.#buffer[this.#length++] = rest;
  }

  #sized(bytes: Uint8Array): void {
    this.#varint(bytes.length);
    this.#buffer.set(bytes, this.#length);
    this.#length += bytes.length;
  }
}

function expectType(payload: Uint8Array, type: number): Reader {
  const reader = new Reader(payload);
  if (reader.u8() !== type) throw decodeError("a stream message has another type");
  return reader;
}

function writeU32(out: Uint8Array, at: number, value: number): void {
  out[at] = value >>> 24;
  out[at + 1] = value >>> 16;
  out[at + 2] = value >>> 8;
  out[at + 3] = value;
}
