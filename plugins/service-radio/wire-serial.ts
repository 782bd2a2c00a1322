/** A radio on a serial line, as a wire. The line is this node's alone while it is open; what is at the other end is judged by the session. */
import type { Clock } from "@godwit/sdk";
import { type ModemLines, openSerial } from "@godwit/sdk/serial";
import { type OpenWire, unreachable } from "./wire.ts";

/** What all firmware speaks; over USB the number means nothing. */
export const BAUD_RATE = 115_200;
/** Bytes that the line has not taken; a radio that takes none any more is gone. */
const BACKLOG_BYTES_MAX = 16_384;

/** `lines`: set once it is open, instead of both on as opening leaves them. */
export const openSerialWire =
  (path: string, clock: Clock, lines?: ModemLines): OpenWire =>
  async (handlers, signal) => {
    signal.throwIfAborted();
    const port = await openSerial({ path, baudRate: BAUD_RATE, clock }, signal).catch((cause: unknown) => {
      throw signal.aborted ? signal.reason : unreachable(path, cause);
    });
    // An error of it is one of the port, which is told below.
    if (lines !== undefined) port.set(lines);
    let isOver = false;
    const gone = (why: string) => {
      if (isOver) return;
      isOver = true;
      handlers.closed(why);
    };
    port.on("data", (bytes: Uint8Array) => {
      if (!isOver) handlers.data(bytes);
    });
    port.on("close", () => gone("the radio was unplugged"));
    port.on("error", (error: Error) => {
      gone(error.message);
      if (port.isOpen) port.close();
    });
    return {
      write: (bytes) => {
        if (isOver) return;
        port.write(bytes.slice());
        if (port.writableLength <= BACKLOG_BYTES_MAX) return;
        gone("the radio takes nothing any more");
        port.close();
      },
      close: () => {
        isOver = true;
        if (port.isOpen) port.close();
      },
    };
  };
