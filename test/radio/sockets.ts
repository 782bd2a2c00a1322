/** A radio's ports on this machine: TCP as on 4403, and a serial port that is a pseudo-terminal. In real time alone. */
import { closeSync, constants, openSync, rmSync, symlinkSync, writeSync } from "node:fs";
import { createServer, type Server, type Socket } from "node:net";
import { dlopen, FFIType, ptr } from "bun:ffi";
import type { Cable, Wire } from "./cable.ts";

export interface TcpPort {
  readonly port: number;
  close(): Promise<void>;
}

/** A new connection ends the one before, as in firmware. */
export async function listenTcp(
  { host, port }: { readonly host: string; readonly port: number },
  connect: (wire: Wire) => Cable | undefined,
): Promise<TcpPort> {
  let last: Socket | undefined;
  const server: Server = createServer((socket) => {
    last?.destroy();
    last = socket;
    socket.setNoDelay(true);
    const cable = connect({ write: (bytes) => socket.write(bytes), close: () => socket.destroy() });
    if (cable === undefined) return void socket.destroy();
    socket.on("data", (bytes: Buffer) => cable.receive(bytes));
    socket.on("drain", () => cable.drained());
    socket.on("error", () => {}); // "close" follows
    socket.on("close", () => cable.ended());
  });
  await new Promise<void>((resolve, reject) => {
    server.once("error", reject);
    server.listen(port, host, () => {
      server.off("error", reject);
      resolve();
    });
  });
  const { port: taken } = server.address() as { port: number };
  return {
    port: taken,
    close: () =>
      new Promise((resolve) => {
        last?.destroy();
        server.close(() => resolve());
      }),
  };
}

const libc = () =>
  dlopen(process.platform === "darwin" ? "libSystem.dylib" : "libc.so.6", {
    unlockpt: { args: [FFIType.i32], returns: FFIType.i32 },
    grantpt: { args: [FFIType.i32], returns: FFIType.i32 },
    ptsname_r: { args: [FFIType.i32, FFIType.ptr, FFIType.u64], returns: FFIType.i32 },
    tcgetattr: { args: [FFIType.i32, FFIType.ptr], returns: FFIType.i32 },
    tcsetattr: { args: [FFIType.i32, FFIType.i32, FFIType.ptr], returns: FFIType.i32 },
    cfmakeraw: { args: [FFIType.ptr], returns: FFIType.void },
  });
let loaded: ReturnType<typeof libc> | undefined;

/** Larger than the C type on any machine. */
const TERMIOS_BYTES = 256;
/** What a client that does not read may leave here; a UART has no more. */
const BACKLOG_BYTES_MAX = 65_536;
const RETRY_MS = 5;

export interface SerialPort {
  /** What a client opens: the link if one was asked for, else the terminal itself. */
  readonly path: string;
  close(): void;
}

/** `link`: a name that stays the same when the cable is pulled and put in again. */
export function openSerial(
  { link }: { readonly link: string | undefined },
  connect: (wire: Wire) => Cable | undefined,
): SerialPort {
  const { symbols } = (loaded ??= libc());
  const flags = constants.O_RDWR | constants.O_NOCTTY | constants.O_NONBLOCK;
  const master = openSync("/dev/ptmx", flags);
  const name = new Uint8Array(128);
  const isMade =
    symbols.grantpt(master) === 0 &&
    symbols.unlockpt(master) === 0 &&
    symbols.ptsname_r(master, ptr(name), BigInt(name.length)) === 0;
  if (!isMade) throw new Error("this machine gives no pseudo-terminal");
  const pts = new TextDecoder().decode(name.subarray(0, name.indexOf(0)));
  // Held open, so that a client that leaves is not the end of the port; a device does not see it go either.
  const slave = openSync(pts, flags);
  const termios = new Uint8Array(TERMIOS_BYTES);
  symbols.tcgetattr(slave, ptr(termios));
  symbols.cfmakeraw(ptr(termios));
  symbols.tcsetattr(slave, 0, ptr(termios));
  if (link !== undefined) {
    rmSync(link, { force: true });
    symlinkSync(pts, link);
  }

  let isOver = false;
  let backlog = Buffer.alloc(0);
  let retry: ReturnType<typeof setTimeout> | undefined;
  const flush = () => {
    retry = undefined;
    for (let taken = 1; backlog.length > 0 && taken > 0; backlog = backlog.subarray(taken))
      taken = writeSome(master, backlog);
    if (backlog.length > 0) retry = setTimeout(flush, RETRY_MS);
    else cable?.drained();
  };
  const close = () => {
    if (isOver) return;
    isOver = true;
    clearTimeout(retry);
    reader.cancel().catch(() => {}); // it is over either way
    for (const fd of [slave, master]) closeSync(fd);
    if (link !== undefined) rmSync(link, { force: true });
    cable?.ended();
  };
  const reader = Bun.file(master).stream().getReader();
  const cable = connect({
    write: (bytes) => {
      if (isOver) return false;
      // What nobody reads is lost, as on a UART.
      if (backlog.length + bytes.length <= BACKLOG_BYTES_MAX) backlog = Buffer.concat([backlog, bytes]);
      if (retry === undefined) flush();
      return backlog.length === 0;
    },
    close,
  });
  void (async () => {
    for (;;) {
      const { value, done } = await reader.read();
      if (done || isOver) return close();
      cable?.receive(value);
    }
  })().catch(close);
  return { path: link ?? pts, close };
}

/** Bytes that it took; 0: none now. */
function writeSome(fd: number, bytes: Uint8Array): number {
  try {
    return writeSync(fd, bytes);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "EAGAIN") return 0;
    throw error;
  }
}
