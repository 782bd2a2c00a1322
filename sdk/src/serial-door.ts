/**
 * Serial ports that the node opens for a plugin, whatever its trust: which ones stands in its permissions, `serial:/dev/serial/by-id/*` and so on.
 */
import type { ModemLines } from "./serial/line.ts";
import type { SerialPortInfo } from "./serial/list.ts";

export interface SerialLineHandlers {
  /** Borrowed: valid until the call returns. */
  data(bytes: Uint8Array): void;
  /** After a `write` that answered false: there is room again. */
  drain(): void;
  /** Once, last. GODWIT_SERIAL_FAILED: the device is gone. No error after an own `close`. */
  closed(error?: Error): void;
}

/** One open port, nobody else's meanwhile. */
export interface SerialLine {
  /** Starts delivery. Once. */
  open(handlers: SerialLineHandlers): void;
  /** Takes all of it; borrowed until it returns. False: wait for `drain`. */
  write(bytes: Uint8Array): boolean;
  pause(paused: boolean): void;
  /** Sets the lines that are told. Nothing happens where a port has none. Rejects with GODWIT_SERIAL_FAILED. */
  set(lines: ModemLines): Promise<void>;
  /** Drops what was not sent. Idempotent. */
  close(): void;
}

export interface SerialLineOptions {
  /** Absolute. One under /dev/serial/by-id is looked up at each opening. */
  readonly path: string;
  /** Bits a second, 1 to 2^31 - 1. */
  readonly baudRate: number;
  /** Flow control by RTS and CTS. Default false. */
  readonly rtscts?: boolean;
}

/** Ports end with the plugin. */
export interface PluginSerial {
  /** Rejects with GODWIT_FORBIDDEN for what was not granted, GODWIT_SERIAL_INVALID or GODWIT_SERIAL_FAILED, which say what to do, or the signal's reason. */
  open(options: SerialLineOptions, signal?: AbortSignal): Promise<SerialLine>;
  /** Those that may be opened, sorted by path. */
  list(): Promise<SerialPortInfo[]>;
}
