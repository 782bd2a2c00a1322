/**
 * Serial ports for `@serialport/stream`: a binding of its interface over libc and this runtime's reader of files, because the native one of `serialport` does
 * not load here. Reads wait in the kernel and take no thread; the descriptor is never blocking, for a read that blocks could not be ended.
 */
import { closeSync, constants, openSync, writeSync } from "node:fs";
import type { Clock } from "../clock.ts";
import { claimDescriptor } from "../descriptors.ts";
import { GodwitError } from "../errors.ts";
import {
  claimLine,
  flushLine,
  type ModemLines,
  type ModemStatus,
  modemStatus,
  releaseLine,
  setLine,
  setModemLines,
  speedOf,
  unsentBytes,
} from "./line.ts";
import { listSerialPorts } from "./list.ts";

const BAUD_RATE_MAX = 2 ** 31 - 1;
/** The kernel takes about four KiB; then it is asked again. */
const FULL_PAUSE_MS = 5;

/** As of `@serialport/bindings-interface`, whose declarations do not resolve: those who import this package would have none. */
export interface SerialOpenOptions {
  readonly path: string;
  readonly baudRate: number;
  /** Only 8. */
  readonly dataBits?: number;
  /** Only 1. */
  readonly stopBits?: number;
  /** Only `none`. */
  readonly parity?: string;
  readonly lock?: boolean;
  readonly rtscts?: boolean;
  /** Only false, as all below. */
  readonly xon?: boolean;
  readonly xoff?: boolean;
  readonly xany?: boolean;
  readonly hupcl?: boolean;
}

export interface SerialPortFound {
  readonly path: string;
  readonly manufacturer: string | undefined;
  readonly serialNumber: string | undefined;
  readonly pnpId: string | undefined;
  readonly locationId: string | undefined;
  readonly productId: string | undefined;
  readonly vendorId: string | undefined;
}

export interface SerialBinding {
  open(options: SerialOpenOptions): Promise<SerialPortBinding>;
  list(): Promise<SerialPortFound[]>;
}

/** What `@serialport/stream` takes for the end of a call and not of the port. */
class Canceled extends Error {
  readonly canceled = true;
}

export const bindingOf = (clock: Clock): SerialBinding => ({
  open: (options) => Promise.resolve().then(() => new SerialPortBinding(options, clock)),
  list: async () =>
    (await listSerialPorts()).map(
      ({ path, manufacturer, serialNumber, vendorId, productId, stablePath }): SerialPortFound => ({
        path,
        manufacturer,
        serialNumber,
        pnpId: stablePath,
        locationId: undefined,
        productId,
        vendorId,
      }),
    ),
});

export class SerialPortBinding {
  readonly openOptions: Required<SerialOpenOptions>;
  readonly #clock: Clock;
  readonly #descriptor: number;
  readonly #reader;
  #unread: Uint8Array = new Uint8Array(0);
  isOpen = true;

  /** Throws a GodwitError that says what to do. */
  constructor(options: SerialOpenOptions, clock: Clock) {
    this.#clock = clock;
    this.openOptions = checked(options);
    const { path, lock, baudRate, rtscts } = this.openOptions;
    claimDescriptor("link");
    this.#descriptor = openAt(path);
    try {
      setLine(this.#descriptor, { baudRate, rtscts });
      if (lock && !claimLine(this.#descriptor)) throw refused(path, "EBUSY");
      this.#reader = Bun.file(this.#descriptor).stream().getReader();
    } catch (error) {
      closeSync(this.#descriptor);
      throw error instanceof GodwitError ? error : refused(path, codeOf(error));
    }
  }

  /** Rejects when the device is gone, and with `canceled` when it was closed here. */
  async read(buffer: Buffer, offset: number, length: number): Promise<{ buffer: Buffer; bytesRead: number }> {
    while (this.#unread.length === 0) {
      // Its cancel, by `close`, settles this too.
      const { value, done } = await this.#reader.read();
      if (!this.isOpen) throw new Canceled("the port was closed");
      // The kernel hangs up on an unplugged device: there is no other sign.
      if (done) throw new Error(`${this.openOptions.path} is gone`);
      this.#unread = value;
    }
    const bytesRead = Math.min(length, this.#unread.length);
    buffer.set(this.#unread.subarray(0, bytesRead), offset);
    this.#unread = this.#unread.subarray(bytesRead);
    return { buffer, bytesRead };
  }

  /** Resolves when the system has taken all of it. Rejects as `read`. */
  async write(bytes: Uint8Array): Promise<void> {
    for (let at = 0; at < bytes.length;) {
      if (!this.isOpen) throw new Canceled("the port was closed");
      try {
        at += writeSync(this.#descriptor, bytes, at, bytes.length - at);
      } catch (error) {
        if (codeOf(error) !== "EAGAIN") throw error;
        await new Promise<void>((resolve) => void this.#clock.after(FULL_PAUSE_MS, resolve));
      }
    }
  }

  async close(): Promise<void> {
    if (!this.isOpen) return;
    this.isOpen = false;
    // The reader first: it would read from whatever has that number next.
    await this.#reader.cancel().catch(() => {});
    if (this.openOptions.lock) releaseLine(this.#descriptor);
    closeSync(this.#descriptor);
  }

  async update({ baudRate }: { readonly baudRate: number }): Promise<void> {
    const { rtscts } = this.openOptions;
    await this.#asked(() => setLine(this.#descriptor, { baudRate: checkedRate(baudRate), rtscts }));
  }

  async set({ dtr, rts }: ModemLines): Promise<void> {
    await this.#asked(() => setModemLines(this.#descriptor, { dtr, rts }));
  }

  get(): Promise<ModemStatus> {
    return this.#asked(() => modemStatus(this.#descriptor));
  }

  getBaudRate(): Promise<{ baudRate: number }> {
    return this.#asked(() => ({ baudRate: speedOf(this.#descriptor) }));
  }

  flush(): Promise<void> {
    return this.#asked(() => flushLine(this.#descriptor));
  }

  /** Asks again and again: the kernel's own wait would stop the whole node for as long as the far end takes nothing. */
  async drain(): Promise<void> {
    while ((await this.#asked(() => unsentBytes(this.#descriptor))) > 0)
      await new Promise<void>((resolve) => void this.#clock.after(FULL_PAUSE_MS, resolve));
  }

  #asked<T>(ask: () => T): Promise<T> {
    return Promise.resolve().then(() => {
      if (!this.isOpen) throw new Canceled("the port was closed");
      return ask();
    });
  }
}

function checked(options: SerialOpenOptions): Required<SerialOpenOptions> {
  const { path, dataBits = 8, stopBits = 1, parity = "none", xon, xoff, xany, hupcl } = options;
  if (!path.startsWith("/")) throw invalid(`"${path}" is no absolute path: say /dev/serial/by-id/...`);
  if (dataBits !== 8 || stopBits !== 1 || parity !== "none" || xon || xoff || xany || hupcl)
    throw invalid(
      "only eight bits without parity, one stop bit and no flow control by characters are spoken",
    );
  return {
    ...{ path, dataBits, stopBits, parity, xon: false, xoff: false, xany: false, hupcl: false },
    baudRate: checkedRate(options.baudRate),
    lock: options.lock ?? true,
    rtscts: options.rtscts ?? false,
  };
}

function checkedRate(baudRate: number): number {
  if (Number.isInteger(baudRate) && baudRate >= 1 && baudRate <= BAUD_RATE_MAX) return baudRate;
  throw invalid(`${baudRate} is no baud rate: a whole number from 1 to ${BAUD_RATE_MAX}`);
}

function openAt(path: string): number {
  if (process.platform !== "linux") throw refused(path, "ENOSYS");
  try {
    return openSync(path, constants.O_RDWR | constants.O_NONBLOCK | constants.O_NOCTTY);
  } catch (error) {
    throw refused(path, codeOf(error));
  }
}

const invalid = (message: string): GodwitError =>
  new GodwitError("GODWIT_SERIAL_INVALID", message, { kind: "config", retry: "never" });

const codeOf = (error: unknown): string =>
  error instanceof Error && "code" in error && typeof error.code === "string" ? error.code : "EIO";

const advice: Readonly<Record<string, string>> = {
  ENOENT: "there is no such port: is it plugged in? Paths under /dev/serial/by-id stay the same",
  ENXIO: "there is no device behind it",
  ENODEV: "there is no device behind it",
  EACCES: "it may not be opened: add the user of the node to the group dialout",
  EPERM: "it may not be opened: add the user of the node to the group dialout",
  EBUSY: "another program has it: ModemManager, a terminal or another node",
  ENOTTY: "it is no serial port",
  EISDIR: "it is no serial port",
  EIO: "its device does not answer: plug it in again",
  ENOSYS: "serial ports are opened on Linux alone",
};

/** Says what to do about it. */
const refused = (path: string, code: string): GodwitError =>
  new GodwitError("GODWIT_SERIAL_FAILED", `${path}: ${advice[code] ?? "it cannot be opened"} (${code})`, {
    kind: code === "EACCES" || code === "EPERM" ? "permission" : "transport",
    retry: "later",
  });
