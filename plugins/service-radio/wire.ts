/** How a radio is reached: bytes both ways. Owns opening by the words of the configuration, and nothing of what the bytes mean. */
import { GodwitError } from "@godwit/sdk";
import { claimDescriptor } from "@godwit/sdk/places";

export interface WireHandlers {
  /** Borrowed. */
  data(bytes: Uint8Array): void;
  /** Once, last; not after an own `close`. */
  closed(why: string): void;
}

export interface Wire {
  /** Borrowed until it returns. What finds no room is lost, and the wire closes: a radio takes a few hundred bytes at any time. */
  write(bytes: Uint8Array): void;
  /** Idempotent. */
  close(): void;
}

/** Rejects with a GodwitError of kind `transport`, or the signal's reason. */
export type OpenWire = (handlers: WireHandlers, signal: AbortSignal) => Promise<Wire>;

export const TCP_PORT = 4_403;
/** Bytes that the system has not taken; a radio that takes none any more is gone. */
const BACKLOG_BYTES_MAX = 16_384;

export const openTcp =
  (host: string, port: number): OpenWire =>
  async (handlers, signal) => {
    signal.throwIfAborted();
    try {
      claimDescriptor("link");
    } catch (cause) {
      throw unreachable(`${host}:${port}`, cause);
    }
    let isOver = false;
    let waiting = Buffer.alloc(0);
    const gone = (why: string) => {
      if (isOver) return;
      isOver = true;
      handlers.closed(why);
    };
    const socket = await Bun.connect({
      hostname: host,
      port,
      socket: {
        data: (_socket, bytes) => {
          if (!isOver) handlers.data(bytes);
        },
        drain: (it) => {
          waiting = waiting.subarray(Math.max(0, it.write(waiting)));
        },
        end: (it) => void it.end(),
        close: () => gone("the radio closed the connection"),
        error: (_socket, error) => gone(error.message),
      },
    }).catch((cause: unknown) => {
      throw unreachable(`${host}:${port}`, cause);
    });
    const close = () => {
      isOver = true;
      socket.end();
    };
    if (signal.aborted) {
      close();
      throw signal.reason;
    }
    socket.setNoDelay(true);
    socket.setKeepAlive(true, 60_000);
    return {
      write: (bytes) => {
        if (isOver) return;
        const taken = waiting.length > 0 ? 0 : Math.max(0, socket.write(bytes));
        if (taken === bytes.length) return;
        waiting = Buffer.concat([waiting, bytes.subarray(taken)]);
        if (waiting.length <= BACKLOG_BYTES_MAX) return;
        socket.terminate();
        gone("the radio takes nothing any more");
      },
      close,
    };
  };

export function unreachable(what: string, cause: unknown): GodwitError {
  const why = cause instanceof Error ? cause.message : String(cause);
  return new GodwitError("GODWIT_DIAL_FAILED", `${what} cannot be reached: ${why}`, {
    kind: "transport",
    retry: "later",
    cause,
  });
}
