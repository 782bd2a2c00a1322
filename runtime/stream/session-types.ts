/** What a session is given, what it sends, and what it tells its users: the words around session.ts. */
import type { Clock } from "@godwit/sdk";
import { godwitError, type ErrorCode, type GodwitError } from "../kernel/errors.ts";
import type { NodeId } from "../kernel/ids.ts";
import type { ByteStream } from "./byte-stream.ts";
import { REASON_BYTES_MAX, StreamReset } from "./constants.ts";
import type { Piece } from "./send-half.ts";
import type { FrameWriter } from "./wire.ts";

const utf8 = new TextEncoder();

/** The way to the far end now. */
export type Path =
  | { readonly kind: "ready"; readonly frameBytes: number }
  | { readonly kind: "full"; readonly frameBytes: number }
  | { readonly kind: "none" }
  | { readonly kind: "slow" };

export interface StreamCounters {
  recordsSent: number;
  recordsReceived: number;
  retransmittedBytes: number;
  bytesSent: number;
  bytesReceived: number;
  timeouts: number;
  rekeys: number;
  dropped(reason: "replayed" | "forged" | "malformed" | "unknown" | "blocked" | "limit"): void;
}

/** `S` is the session itself, which these words need not know. */
export interface SessionDeps<S> {
  readonly clock: Clock;
  readonly counters: StreamCounters;
  path(remote: NodeId): Path;
  /** A frame that begins with the packet header. Borrowed. False: it is lost. */
  sendPacket(remote: NodeId, frame: Uint8Array): boolean;
  /** Room in what all sessions' windows may grow to. */
  grow(bytes: number): boolean;
  /** The far end asks for a stream. */
  incoming(session: S, stream: ByteStream): void;
  /** The first true record of the far end. */
  proven(session: S): void;
  over(session: S): void;
}

export interface SessionFacts {
  readonly remote: NodeId;
  readonly isInitiator: boolean;
  readonly localIndex: number;
  readonly remoteIndex: number;
  readonly sendKey: Uint8Array;
  readonly receiveKey: Uint8Array;
  /** What the far end says should it forget the session. */
  readonly goneToken: Uint8Array;
  /** The packet header of everything that goes there. */
  readonly header: Uint8Array;
}

/** A frame under way, as it is sent again when its record is lost. */
export type Frame =
  | { readonly kind: "data"; readonly stream: ByteStream; readonly piece: Piece }
  | { readonly kind: "open" | "accepted" | "credit"; readonly stream: ByteStream }
  | { readonly kind: "reset"; readonly id: number; readonly reason: number; readonly message: Uint8Array }
  | { readonly kind: "ping" };

/** False: the frame has lost its meaning. */
export function writeControl(writer: FrameWriter, frame: Frame): boolean {
  switch (frame.kind) {
    case "open":
      if (frame.stream.isClosed) return false;
      writer.open(frame.stream.id, utf8.encode(frame.stream.service), frame.stream.metadata);
      return true;
    case "accepted":
      if (frame.stream.isClosed) return false;
      writer.accepted(frame.stream.id);
      return true;
    case "reset":
      writer.reset(frame.id, frame.reason, frame.message);
      return true;
    case "ping":
      writer.ping();
      return true;
    default:
      return false;
  }
}

export const unreachable = (): GodwitError =>
  godwitError("GODWIT_STREAM_UNREACHABLE", "the far node does not answer any more, or no route leads there");

/** At most REASON_BYTES_MAX of UTF-8, never half a character. */
export function cutText(text: string): Uint8Array {
  const out = new Uint8Array(REASON_BYTES_MAX);
  return out.subarray(0, utf8.encodeInto(text, out).written);
}

export function meaningOf(reason: number, stream: ByteStream): { code: ErrorCode; words: string } {
  const code = stream.isPending && stream.isOutbound ? "GODWIT_STREAM_REFUSED" : "GODWIT_STREAM_RESET";
  switch (reason) {
    case StreamReset.serviceUnknown:
      return { code, words: `the far node has no service "${stream.service}"` };
    case StreamReset.notAllowed:
      return { code: "GODWIT_STREAM_FORBIDDEN", words: "the far node does not allow that" };
    case StreamReset.limit:
      return { code: "GODWIT_STREAM_LIMIT", words: "the far node has too many streams" };
    case StreamReset.stopped:
      return { code, words: "the far service stopped" };
    case StreamReset.unreachable:
      return { code, words: "the far node could not reach the target" };
    default:
      return { code, words: "the far end gave the stream up" };
  }
}
