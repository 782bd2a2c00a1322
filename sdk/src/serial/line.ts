/**
 * What a terminal of Linux is told by ioctl: its speed, that its bytes are bytes, who may open it, and the lines beside the data (tty_ioctl(4), termios2). Owns no
 * descriptor. The numbers are those of x86-64 and arm64.
 */
import { ptr } from "bun:ffi";
import { errnoName, lastErrno, openLibc } from "../libc.ts";

const TCGETS2 = 0x80_2c_54_2a;
const TCSETS2 = 0x40_2c_54_2b;
const TCFLSH = 0x54_0b;
const TIOCOUTQ = 0x54_11;
const TIOCEXCL = 0x54_0c;
const TIOCNXCL = 0x54_0d;
const TIOCMGET = 0x54_15;
const TIOCMBIS = 0x54_16;
const TIOCMBIC = 0x54_17;

/** struct termios2: four flags, the line discipline, 19 characters, two speeds. */
const TERMIOS_BYTES = 44;
const CONTROL_FLAGS = 8;
const CHARACTERS = 17;
const VTIME = 5;
const VMIN = 6;
const INPUT_SPEED = 36;
const OUTPUT_SPEED = 40;

const CS8 = 0o60;
const CREAD = 0o200;
const CLOCAL = 0o4_000;
const CRTSCTS = 0o20_000_000_000;
/** A speed that is a number, for either direction. */
const BOTHER = 0o10_000;
const INPUT_BOTHER = BOTHER << 16;

const Modem = { dtr: 0x2, rts: 0x4, cts: 0x20, dcd: 0x40, dsr: 0x100 } as const;

const LOCK_EXCLUSIVE_NOW = 2 | 4;
const UNLOCK = 8;

type Libc = ReturnType<typeof load>;
let loaded: Libc | undefined;
const load = () =>
  openLibc({
    ioctl: { args: ["i32", "u64", "ptr"], returns: "i32" },
    flock: { args: ["i32", "i32"], returns: "i32" },
  });
const libc = (): Libc => (loaded ??= load());

/** The system refused something that a terminal is asked; `code` as of files. */
class LineError extends Error {
  readonly code: string;
  constructor(what: string, errno: number) {
    const code = errnoName(errno);
    super(`${what}: ${code}`);
    this.code = code;
  }
}

function ioctl(descriptor: number, request: number, argument: Uint8Array | Int32Array, what: string): void {
  const symbols = libc();
  if (symbols.ioctl(descriptor, request, ptr(argument)) < 0) throw new LineError(what, lastErrno(symbols));
}

/** As `ioctl`, of a number. */
function ioctlNumber(descriptor: number, request: number, argument: number, what: string): void {
  const symbols = libc();
  // Where the others take an address the kernel takes this for a number.
  const value = argument === 0 ? null : (argument as Parameters<Libc["ioctl"]>[2]);
  if (symbols.ioctl(descriptor, request, value) < 0) throw new LineError(what, lastErrno(symbols));
}

export interface LineSettings {
  /** Bits a second, 1 to 2^31 - 1. */
  readonly baudRate: number;
  readonly rtscts: boolean;
}

/** Bytes as they come, eight bits, no parity, one stop bit; closing changes no line, so that no board restarts. Throws an error with a code, ENOTTY for what is no terminal. */
export function setLine(descriptor: number, { baudRate, rtscts }: LineSettings): void {
  const bytes = new Uint8Array(TERMIOS_BYTES);
  ioctl(descriptor, TCGETS2, bytes, "no terminal");
  const view = new DataView(bytes.buffer);
  for (const flags of [0, 4, 12]) view.setUint32(flags, 0, true);
  const control = (CS8 | CREAD | CLOCAL | BOTHER | INPUT_BOTHER | (rtscts ? CRTSCTS : 0)) >>> 0;
  view.setUint32(CONTROL_FLAGS, control, true);
  bytes[CHARACTERS + VTIME] = 0;
  bytes[CHARACTERS + VMIN] = 1;
  view.setUint32(INPUT_SPEED, baudRate, true);
  view.setUint32(OUTPUT_SPEED, baudRate, true);
  ioctl(descriptor, TCSETS2, bytes, `${baudRate} bits a second`);
}

/** Bits a second that the driver took. Throws as `setLine`. */
export function speedOf(descriptor: number): number {
  const bytes = new Uint8Array(TERMIOS_BYTES);
  ioctl(descriptor, TCGETS2, bytes, "no terminal");
  return new DataView(bytes.buffer).getUint32(OUTPUT_SPEED, true);
}

/** Nobody else opens it or locks it until this descriptor is closed. False: somebody has it. */
export function claimLine(descriptor: number): boolean {
  const symbols = libc();
  // TIOCEXCL does not keep root out; the lock is what programs of serial ports ask for beside it.
  if (symbols.flock(descriptor, LOCK_EXCLUSIVE_NOW) !== 0) return false;
  symbols.ioctl(descriptor, TIOCEXCL, null);
  return true;
}

/** Others may open it: the runtime may hold a copy of a descriptor that was closed for a while. */
export function releaseLine(descriptor: number): void {
  const symbols = libc();
  symbols.ioctl(descriptor, TIOCNXCL, null);
  symbols.flock(descriptor, UNLOCK);
}

export interface ModemLines {
  readonly dtr?: boolean | undefined;
  readonly rts?: boolean | undefined;
}

/** Those that are told. False: it has none, as a pseudo-terminal. Throws an error with a code. */
export function setModemLines(descriptor: number, lines: ModemLines): boolean {
  for (const [request, isSet] of [
    [TIOCMBIS, true],
    [TIOCMBIC, false],
  ] as const) {
    const mask = (["dtr", "rts"] as const)
      .filter((name) => lines[name] === isSet)
      .reduce((sum, name) => sum | Modem[name], 0);
    if (mask === 0) continue;
    try {
      ioctl(descriptor, request, Int32Array.of(mask), "modem lines");
    } catch (error) {
      if (hasNoLines(error)) return false;
      throw error;
    }
  }
  return true;
}

export interface ModemStatus {
  readonly cts: boolean;
  readonly dsr: boolean;
  readonly dcd: boolean;
}

/** All false where it has none. Throws an error with a code. */
export function modemStatus(descriptor: number): ModemStatus {
  const mask = Int32Array.of(0);
  try {
    ioctl(descriptor, TIOCMGET, mask, "modem lines");
  } catch (error) {
    if (!hasNoLines(error)) throw error;
  }
  const isSet = (name: keyof typeof Modem) => (mask[0]! & Modem[name]) !== 0;
  return { cts: isSet("cts"), dsr: isSet("dsr"), dcd: isSet("dcd") };
}

/** Drops what was not read and not sent. Throws an error with a code. */
export const flushLine = (descriptor: number): void => ioctlNumber(descriptor, TCFLSH, 2, "flush");

/** Bytes that were taken and not sent. Throws an error with a code. */
export function unsentBytes(descriptor: number): number {
  const count = Int32Array.of(0);
  ioctl(descriptor, TIOCOUTQ, count, "unsent bytes");
  return count[0]!;
}

const hasNoLines = (error: unknown): boolean =>
  error instanceof LineError && ["ENOTTY", "EINVAL"].includes(error.code);
