/**
 * A WebSocket as a stream Pipe: binary messages are the bytes, their borders mean nothing. What the socket has not handed
 * to the kernel yet counts as buffered; above the mark nothing more is given to it.
 */
import { type Clock, type PipeDirection, StreamPipe } from "@godwit/sdk";

/** Given to the socket at once; the rest waits here, so that closing can tell what has left. */
const SOCKET_BYTES_MAX = 256 * 1024;
/** `write` answers false above this many bytes waiting, the socket's included. */
const HIGH_WATER_BYTES = SOCKET_BYTES_MAX + 512 * 1024;
/** Messages this long at most, so that no far end has to hold more. */
export const MESSAGE_BYTES_MAX = 64 * 1024;
const RATE_BITS_PER_SECOND = 1_000_000_000;

/** Either end's socket. */
export interface Wire {
  /** Copied before it returns. Its pipe's `onDrain` follows once all that was kept has gone. */
  send(bytes: Uint8Array): void;
  readonly bufferedBytes: number;
  pause(): void;
  resume(): void;
  close(): void;
  terminate(): void;
}

export class WebSocketPipe extends StreamPipe {
  /** `watch`: told when the far end has proven itself, and when nothing more comes of the pipe. */
  constructor(
    wire: Wire,
    ends: { readonly direction: PipeDirection; readonly local: string; readonly remote: string },
    clock: Clock,
    watch: { onProven?(): void; onOver?(): void } = {},
  ) {
    super(
      {
        write(bytes) {
          let at = 0;
          while (at < bytes.length && wire.bufferedBytes < SOCKET_BYTES_MAX) {
            const piece = bytes.subarray(at, at + MESSAGE_BYTES_MAX);
            wire.send(piece);
            at += piece.length;
          }
          return at;
        },
        get bufferedBytes() {
          return wire.bufferedBytes;
        },
        pause: () => wire.pause(),
        resume: () => wire.resume(),
        shut: () => wire.close(),
        destroy: () => wire.terminate(),
      },
      { ...ends, linkClass: "fast", rateBitsPerSecond: RATE_BITS_PER_SECOND },
      { clock, highWaterBytes: HIGH_WATER_BYTES, ...watch },
    );
    wire.pause();
  }
}
