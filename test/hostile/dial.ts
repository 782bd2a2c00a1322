/** A TCP connection to a node as a pipe, without a transport around it; from any of the sixteen million addresses of loopback. */
import { createConnection, type Socket } from "node:net";
import { formatEndpoint, StreamPipe, type Pipe } from "@godwit/sdk";
import { systemClock } from "../../runtime/kernel/clock.ts";

const RATE_BITS_PER_SECOND = 1_000_000_000;

class SocketPipe extends StreamPipe {
  constructor(socket: Socket, port: number) {
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
      {
        direction: "outbound",
        local: formatEndpoint("tcp", socket.localAddress ?? "127.0.0.1", socket.localPort ?? 0),
        remote: formatEndpoint("tcp", "127.0.0.1", port),
        linkClass: "fast",
        rateBitsPerSecond: RATE_BITS_PER_SECOND,
      },
      { clock: systemClock, onProven() {}, onOver() {} },
    );
    socket.setNoDelay(true);
    socket.on("data", (bytes: Buffer) => this.onData(bytes));
    // A listener for data starts the flow.
    socket.pause();
    socket.on("drain", () => this.onDrain());
    socket.on("end", () => this.onEnd());
    socket.on("close", () => this.onGone());
  }
}

/** Rejects where it cannot connect. */
export function dialPipe(port: number, localAddress?: string): Promise<{ readonly pipe: Pipe; end(): void }> {
  return new Promise((resolve, reject) => {
    const socket = createConnection({
      host: "127.0.0.1",
      port,
      ...(localAddress === undefined ? {} : { localAddress }),
    });
    // One without a listener would end the process; the close says it all.
    socket.on("error", reject);
    socket.once("connect", () =>
      resolve({ pipe: new SocketPipe(socket, port), end: () => void socket.destroy() }),
    );
  });
}
