/** A stream through Tor as a Pipe: a socket to or from the tor beside us, whose far end is nobody's address. */
import type { Socket } from "node:net";
import { type Clock, type PipeDirection, StreamPipe } from "@godwit/sdk";
import type { Place } from "@godwit/sdk/places";

/** `write` answers false above this many bytes waiting: half a second at what a good circuit carries. */
const HIGH_WATER_BYTES = 128 * 1024;
/** Assumed until measured. */
const RATE_BITS_PER_SECOND = 2_000_000;

export interface PipeEnds {
  readonly direction: PipeDirection;
  readonly local: string;
  readonly remote: string;
}

export class TorPipe extends StreamPipe {
  /** `place`: of an inbound one, which is given back with its proof, or as its socket goes. */
  constructor(socket: Socket, ends: PipeEnds, clock: Pick<Clock, "after">, place?: Place) {
    super(
      {
        write(bytes) {
          // The socket keeps what it is handed, and the caller wants it back.
          socket.write(Buffer.from(bytes));
          return bytes.length;
        },
        get bufferedBytes() {
          return socket.writableLength;
        },
        pause: () => void socket.pause(),
        resume: () => void socket.resume(),
        shut: () => void socket.end(),
        destroy: () => void socket.destroy(),
      },
      { ...ends, linkClass: "medium", isAnonymous: true, rateBitsPerSecond: RATE_BITS_PER_SECOND },
      {
        clock,
        highWaterBytes: HIGH_WATER_BYTES,
        onProven: () => place?.release(),
        onOver: () => place?.stand("leaving"),
      },
    );
    socket.setNoDelay(true);
    socket.on("data", (bytes: Buffer) => this.onData(bytes));
    // A listener for data starts the flow.
    socket.pause();
    socket.on("drain", () => this.onDrain());
    socket.on("end", () => this.onEnd());
    socket.on("error", (error: Error) => this.onGone(error));
    socket.on("close", () => {
      place?.release();
      this.onGone();
    });
    if (socket.destroyed) this.onGone();
  }
}
