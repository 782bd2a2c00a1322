/** How a radio is reached: bytes both ways. Owns opening by the words of the configuration, and nothing of what the bytes mean. */
import type { Socket } from "bun";
import { type Clock, GodwitError, type PluginSerial, type SerialLine, StreamCore } from "@godwit/sdk";
import { claimDescriptor } from "@godwit/sdk/places";
import { type Attempt, dialAny, resolveHost } from "@godwit/sdk/tcp";

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
/** What all firmware speaks; over USB the number means nothing. */
const BAUD_RATE = 115_200;
/** Bytes that the system has not taken; a radio that takes none any more is gone. */
const BACKLOG_BYTES_MAX = 16_384;
const KEEPALIVE_MS = 60_000;

/** A line or a connection that stands. */
interface Medium {
  open(handlers: { data(bytes: Uint8Array): void; drain(): void; closed(): void }): void;
  /** False: more waits than should. */
  write(bytes: Uint8Array): boolean;
  close(): void;
}

/** The node opens the line, which is this plugin's alone meanwhile. `modem`: set then, where opening left both on. */
export const openLine =
  (path: string, serial: PluginSerial, modem?: Parameters<SerialLine["set"]>[0]): OpenWire =>
  async (handlers, signal) => {
    signal.throwIfAborted();
    const line = await serial.open({ path, baudRate: BAUD_RATE }, signal).catch((cause: unknown) => {
      throw signal.aborted ? signal.reason : unreachable(path, cause);
    });
    if (modem !== undefined) await line.set(modem);
    return wireOver(line, handlers, "the radio was unplugged");
  };

export const openTcp =
  (host: string, port: number, clock: Clock): OpenWire =>
  async (handlers, signal) => {
    const stream = await dialAny(`${host}:${port}`, host, signal, {
      clock,
      resolve: resolveHost,
      connect: (address) => connectTo(address, port, clock),
      discard: (late) => late.cut(),
    });
    return wireOver(stream, handlers, "the radio closed the connection");
  };

function wireOver(medium: Medium, handlers: WireHandlers, whyClosed: string): Wire {
  let isOver = false;
  const gone = (why: string) => {
    if (isOver) return;
    isOver = true;
    handlers.closed(why);
  };
  medium.open({
    data: (bytes) => {
      if (!isOver) handlers.data(bytes);
    },
    drain: () => {},
    closed: () => gone(whyClosed),
  });
  return {
    write: (bytes) => {
      if (isOver || medium.write(bytes)) return;
      medium.close();
      gone("the radio takes nothing any more");
    },
    close: () => {
      isOver = true;
      medium.close();
    },
  };
}

function connectTo(address: string, port: number, clock: Clock): Attempt<StreamCore> {
  let isCancelled = false;
  const connect = async () => {
    claimDescriptor("link");
    const held: { stream?: StreamCore } = {};
    const socket = await Bun.connect({
      hostname: address,
      port,
      socket: {
        open: (it) => void (held.stream = streamOf(it, clock)),
        data: (_, bytes) => held.stream?.onData(bytes),
        drain: () => held.stream?.onDrain(),
        end: () => held.stream?.onEnd(),
        close: (_, error) => held.stream?.onGone(error),
        error: (_, error) => held.stream?.onGone(error),
      },
    });
    const { stream } = held;
    if (stream === undefined || isCancelled) {
      socket.terminate();
      throw new Error("it went while it connected");
    }
    claimDescriptor("link", socket);
    return stream;
  };
  return { connected: connect(), cancel: () => void (isCancelled = true) };
}

function streamOf(socket: Socket, clock: Clock): StreamCore {
  socket.setNoDelay(true);
  socket.setKeepAlive(true, KEEPALIVE_MS);
  socket.pause();
  return new StreamCore(
    {
      // Below 0: it is closed, and says so soon.
      write: (bytes) => Math.max(0, socket.write(bytes)),
      pause: () => void socket.pause(),
      resume: () => void socket.resume(),
      shut: () => void socket.end(),
      destroy: () => void socket.terminate(),
    },
    { highWaterBytes: BACKLOG_BYTES_MAX, clock },
  );
}

export function unreachable(what: string, cause: unknown): GodwitError {
  const why = cause instanceof Error ? cause.message : String(cause);
  return new GodwitError("GODWIT_DIAL_FAILED", `${what} cannot be reached: ${why}`, {
    kind: "transport",
    retry: "later",
    cause,
  });
}
