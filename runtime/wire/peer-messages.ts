/**
 * Frames between two neighbours about the link itself: hello, probes, goodbye. docs/protocol/frames.md draws them.
 * Every decoder skips bytes behind the fields it knows, so that later versions can add some.
 */
import { FrameType, RECORD_BYTES_MAX } from "./constants.ts";
import { decodeError, Reader, Writer } from "./bytes.ts";

export const BOOT_ID_BYTES = 8;
export const STORE_EPOCH_BYTES = 8;
const WALL_BYTES = 6;

/** First frame in each direction of every session. */
export interface Hello {
  readonly versionMin: number;
  readonly versionMax: number;
  /** Random per process: another value means that the node restarted and forgot its sessions. */
  readonly bootId: Uint8Array;
  /** Random per store: another value means that messages handed over before may be gone. */
  readonly storeEpoch: Uint8Array;
  /** The sender's signed node record, not yet verified. */
  readonly record: Uint8Array;
  /** Its wall clock, ms since 1970; undefined: nobody has confirmed it, or an earlier release. */
  readonly wallMs?: number | undefined;
}

export const GoodbyeReason = {
  stopping: 1,
  duplicate: 2,
  blocked: 3,
  version: 4,
  double: 5,
  silent: 6,
} as const;
export type GoodbyeReasonCode = (typeof GoodbyeReason)[keyof typeof GoodbyeReason];

export function encodeHello(hello: Hello): Uint8Array {
  const writer = new Writer(64 + hello.record.length)
    .u8(FrameType.hello)
    .u8(hello.versionMin)
    .u8(hello.versionMax)
    .bytes(hello.bootId)
    .bytes(hello.storeEpoch)
    .sizedBytes(hello.record);
  if (hello.wallMs !== undefined) writer.u48(Math.floor(hello.wallMs));
  return writer.finish();
}

/** Byte fields are copies owned by the caller. */
export function decodeHello(frame: Uint8Array): Hello {
  const reader = frameReader(frame, FrameType.hello);
  const hello = {
    versionMin: reader.u8(),
    versionMax: reader.u8(),
    bootId: reader.bytes(BOOT_ID_BYTES).slice(),
    storeEpoch: reader.bytes(STORE_EPOCH_BYTES).slice(),
    record: reader.sizedBytes(RECORD_BYTES_MAX).slice(),
    wallMs: reader.remaining >= WALL_BYTES ? reader.u48() : undefined,
  };
  if (hello.versionMin > hello.versionMax) throw decodeError("hello has an empty version range");
  return hello;
}

export const encodeProbe = (nonce: number): Uint8Array =>
  new Writer(5).u8(FrameType.probe).u32(nonce).finish();
export const encodeProbeReply = (nonce: number): Uint8Array =>
  new Writer(5).u8(FrameType.probeReply).u32(nonce).finish();
export const decodeProbe = (frame: Uint8Array): number => frameReader(frame, FrameType.probe).u32();
export const decodeProbeReply = (frame: Uint8Array): number => frameReader(frame, FrameType.probeReply).u32();

export const encodeGoodbye = (reason: GoodbyeReasonCode): Uint8Array =>
  new Writer(2).u8(FrameType.goodbye).u8(reason).finish();
/** Unknown reasons are passed on: they only end up in a log line. */
export const decodeGoodbye = (frame: Uint8Array): number => frameReader(frame, FrameType.goodbye).u8();

/** A reader standing behind the type byte, which must be `type`. */
export function frameReader(frame: Uint8Array, type: number): Reader {
  const reader = new Reader(frame);
  const found = reader.u8();
  if (found !== type) throw decodeError(`frame type ${found}, expected ${type}`);
  return reader;
}
