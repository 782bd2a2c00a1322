/**
 * Serial ports: listed, opened at any speed, for one program at a time, and gone when they are unplugged. Without a native add-on, so that it works in a
 * compiled node. Linux. A plugin that is contained or not trusted opens none by this.
 */
import type { Duplex } from "node:stream";
import type { Clock } from "../clock.ts";
import { bindingOf } from "./binding.ts";
import type { ModemLines, ModemStatus } from "./line.ts";

export {
  bindingOf,
  type SerialBinding,
  type SerialOpenOptions,
  SerialPortBinding,
  type SerialPortFound,
} from "./binding.ts";
export type { ModemLines, ModemStatus } from "./line.ts";
export { listSerialPorts, type SerialFolders, type SerialPortInfo } from "./list.ts";

export interface SerialOptions {
  /** Absolute. One under /dev/serial/by-id is looked up at each opening. */
  readonly path: string;
  /** Bits a second, 1 to 2^31 - 1. */
  readonly baudRate: number;
  /** Nobody else may open it meanwhile. Default true. */
  readonly lock?: boolean;
  /** Flow control by RTS and CTS. Default false. */
  readonly rtscts?: boolean;
  readonly clock: Clock;
}

/** Bytes both ways, and what a line has beside them. Callbacks are given null, or why it failed. */
export interface SerialPort extends Duplex {
  readonly path: string;
  readonly baudRate: number;
  readonly isOpen: boolean;
  close(done?: (error: Error | null) => void): void;
  /** Lines that are not told: DTR and RTS on. Nothing happens where a port has none. */
  set(lines: ModemLines, done?: (error: Error | null) => void): void;
  get(done: (error: Error | null, status?: ModemStatus) => void): void;
  /** Bits a second, 1 to 2^31 - 1. */
  update(options: { baudRate: number }, done?: (error: Error | null) => void): void;
  /** Drops what was neither read nor sent. */
  flush(done?: (error: Error | null) => void): void;
  /** Waits until all was sent. */
  drain(done?: (error: Error | null) => void): void;
}

/**
 * A Node stream both ways. `close` comes once: with an error that has `disconnected` when the device is gone, with null after an own `close()`. Rejects with
 * GODWIT_SERIAL_INVALID or GODWIT_SERIAL_FAILED, which say what to do, or the signal's reason.
 */
export async function openSerial(
  { clock, ...options }: SerialOptions,
  signal?: AbortSignal,
): Promise<SerialPort> {
  signal?.throwIfAborted();
  // Most nodes never have one.
  const { SerialPortStream } = await import("@serialport/stream");
  const stream = new SerialPortStream({ ...options, binding: bindingOf(clock), autoOpen: false });
  await new Promise<void>((resolve, reject) => {
    stream.open((error: Error | null) => (error === null ? resolve() : reject(error)));
  });
  const port = stream as unknown as SerialPort;
  if (signal?.aborted !== true) return port;
  port.close();
  throw signal.reason;
}
