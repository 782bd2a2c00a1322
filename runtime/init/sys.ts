/**
 * The calls of the kernel that PID 1 needs and Bun does not offer, by libc. Owns numbers and layouts, each with its man page;
 * decides nothing. None of them blocks, except `sync` and the unmounting of a slow disk.
 */
import { dlopen, ptr, read } from "bun:ffi";
import { closeSync, fstatSync, openSync } from "node:fs";
import { constants } from "node:os";

/** mount(2). */
export const MountFlag = { readOnly: 1, noSuid: 2, noDev: 4, noExec: 8, noAtime: 1024 } as const;
/** reboot(2): the last argument of the system call. */
const RebootCommand = {
  restart: 0x0123_4567,
  powerOff: 0x4321_fedc,
  halt: 0xcdef_0123,
  disableCtrlAltDel: 0,
} as const;
/** finit_module(2) has no wrapper in glibc. */
const FINIT_MODULE = process.arch === "arm64" ? 273 : 313;
/** The kernel unpacks it, since 5.17. */
const MODULE_INIT_COMPRESSED_FILE = 4;
/** umount2(2): detach now, clean up when nobody uses it. */
const MNT_DETACH = 2;
/** waitid(2): WNOHANG, WEXITED, WNOWAIT. */
const PEEK_EXITED = 1 | 4 | 0x0100_0000;
const P_ALL = 0;
const P_PID = 1;
const WNOHANG_EXITED = 1 | 4;
const SIGINFO_BYTES = 128;
/** After si_signo, si_errno, si_code and padding. */
const SIGINFO_PID_OFFSET = 16;
const CLOCK_REALTIME = 0;
/** linux/watchdog.h: _IOWR('W', 6, int). */
const WDIOC_SETTIMEOUT = 0xc004_5706;
/** socket(7), udp(7). */
const AF_INET = 2;
const SOCK_DGRAM_CLOEXEC_NONBLOCK = 2 | 0o2_000_000 | 0o4_000;
const SOL_SOCKET = 1;
const SO_REUSEADDR = 2;
const SO_BROADCAST = 6;
const SO_BINDTODEVICE = 25;
const SOCKADDR_IN_BYTES = 16;
const DATAGRAM_BYTES_MAX = 2_048;
const SIGPWR = 30;
/**
 * Which signal the engine stops its own threads with. By default that is SIGPWR, and then nobody else can have it; stage 0 sets
 * another (scripts/images/stage0.ts).
 */
export const ENGINE_SIGNAL_VARIABLE = "JSC_SIGNAL_FOR_GC";
/** `struct sigaction` of glibc, 152 bytes as 64-bit words: handler, 128 bytes of mask, flags, restorer. */
const SIGACTION_WORDS = 19;
const SIGACTION_FLAGS_WORD = 17;
const SA_RESTART = 0x1000_0000n;
const O_CLOEXEC = 0o2_000_000;

/** A call that the kernel refused. */
export class SysError extends Error {
  /** `ENOENT`, `EBUSY`, ... */
  readonly errno: string;

  constructor(call: string, errno: number) {
    const name =
      Object.entries(constants.errno).find(([, value]) => value === errno)?.[0] ?? `errno ${errno}`;
    super(`${call}: ${name}`);
    this.name = "SysError";
    this.errno = name;
  }
}

export interface Mount {
  readonly source: string;
  readonly target: string;
  readonly type: string;
  readonly flags?: number;
  readonly data?: string;
}

/** A UDP socket on one interface, which may have no address yet. */
export interface DeviceSocket {
  send(datagram: Uint8Array, address: readonly number[], port: number): void;
  /** The next datagram, the caller's; undefined: none is there. */
  receive(): Uint8Array | undefined;
  close(): void;
}

/** What PID 1 asks of the kernel. Every method throws SysError. */
export interface Sys {
  mount(mount: Mount): void;
  unmount(target: string, isLazy?: boolean): void;
  setHostname(name: string): void;
  loadModule(path: string): void;
  setClock(wallMs: number): void;
  sync(): void;
  /** Does not come back where it works. */
  reboot(how: "restart" | "powerOff" | "halt"): void;
  /** Ctrl-Alt-Del becomes SIGINT to PID 1 instead of a reset. */
  disableCtrlAltDel(): void;
  /** Answers a function that says whether SIGPWR came since; undefined: the engine has it (`ENGINE_SIGNAL_VARIABLE`). Once a process. */
  watchPowerSignal(): (() => boolean) | undefined;
  /** A child that has ended and that nobody has waited for, without taking it; undefined: none. */
  peekEnded(): number | undefined;
  /** Takes an ended child off the list. */
  reap(pid: number): void;
  /** Seconds, as the device rounds them. `descriptor` of an open watchdog. */
  setWatchdogTimeout(descriptor: number, seconds: number): number;
  openDeviceSocket(device: string, port: number): DeviceSocket;
}

function openLibc() {
  return dlopen("libc.so.6", {
    mount: { args: ["ptr", "ptr", "ptr", "u64", "ptr"], returns: "i32" },
    umount2: { args: ["ptr", "i32"], returns: "i32" },
    sethostname: { args: ["ptr", "usize"], returns: "i32" },
    syscall: { args: ["i64", "i64", "ptr", "i64"], returns: "i64" },
    clock_settime: { args: ["i32", "ptr"], returns: "i32" },
    sync: { args: [], returns: "void" },
    reboot: { args: ["u32"], returns: "i32" },
    waitid: { args: ["i32", "i32", "ptr", "i32"], returns: "i32" },
    ioctl: { args: ["i32", "u64", "ptr"], returns: "i32" },
    socket: { args: ["i32", "i32", "i32"], returns: "i32" },
    setsockopt: { args: ["i32", "i32", "i32", "ptr", "u32"], returns: "i32" },
    bind: { args: ["i32", "ptr", "u32"], returns: "i32" },
    sendto: { args: ["i32", "ptr", "usize", "i32", "ptr", "u32"], returns: "i64" },
    recv: { args: ["i32", "ptr", "usize", "i32"], returns: "i64" },
    dlsym: { args: ["u64", "ptr"], returns: "u64" },
    dup3: { args: ["i32", "i32", "i32"], returns: "i32" },
    sigaction: { args: ["i32", "ptr", "ptr"], returns: "i32" },
    __errno_location: { args: [], returns: "ptr" },
  } as const).symbols;
}

type Libc = ReturnType<typeof openLibc>;

const text = (value: string): Uint8Array => new TextEncoder().encode(`${value}\0`);

/** Throws the loader's error where there is no glibc. */
export function openSys(): Sys {
  const libc = openLibc();
  /** Directly after the call that failed: nothing of ours may come between. */
  const errno = (): number => {
    const at = libc.__errno_location();
    return at === null ? 0 : read.i32(at, 0);
  };
  const check = (result: number | bigint, call: string): void => {
    if (Number(result) < 0) throw new SysError(call, errno());
  };
  return {
    mount({ source, target, type, flags = 0, data = "" }) {
      const parts = [source, target, type, data].map(text);
      check(
        libc.mount(ptr(parts[0]!), ptr(parts[1]!), ptr(parts[2]!), flags, ptr(parts[3]!)),
        `mount ${type} at ${target}`,
      );
    },
    unmount(target, isLazy = false) {
      check(libc.umount2(ptr(text(target)), isLazy ? MNT_DETACH : 0), `unmount ${target}`);
    },
    setHostname(name) {
      const bytes = text(name);
      check(libc.sethostname(ptr(bytes), bytes.length - 1), "sethostname");
    },
    loadModule(path) {
      const descriptor = openSync(path, "r");
      try {
        const flags = path.endsWith(".ko") ? 0 : MODULE_INIT_COMPRESSED_FILE;
        check(libc.syscall(FINIT_MODULE, descriptor, ptr(text("")), flags), `load ${path.split("/").at(-1)}`);
      } finally {
        closeSync(descriptor);
      }
    },
    setClock(wallMs) {
      const time = BigInt64Array.of(
        BigInt(Math.floor(wallMs / 1000)),
        BigInt(Math.floor(wallMs % 1000) * 1_000_000),
      );
      check(libc.clock_settime(CLOCK_REALTIME, ptr(time)), "clock_settime");
    },
    sync: () => libc.sync(),
    reboot: (how) => check(libc.reboot(RebootCommand[how]), `reboot: ${how}`),
    disableCtrlAltDel: () =>
      check(libc.reboot(RebootCommand.disableCtrlAltDel), "reboot: disable Ctrl-Alt-Del"),
    watchPowerSignal() {
      if (process.env[ENGINE_SIGNAL_VARIABLE] === undefined) return undefined;
      // No code of ours can run in a handler, but close(2) can (signal-safety(7)). It is called with the signal's number: the
      // descriptor of that number is there until the signal comes.
      const handler = libc.dlsym(0n, text("close"));
      const placeholder = openSync("/dev/null", "r");
      check(libc.dup3(placeholder, SIGPWR, O_CLOEXEC), "dup3");
      closeSync(placeholder);
      const action = new BigUint64Array(SIGACTION_WORDS);
      action[0] = handler;
      action[SIGACTION_FLAGS_WORD] = SA_RESTART;
      check(libc.sigaction(SIGPWR, action, null), "sigaction");
      return () => {
        try {
          fstatSync(SIGPWR);
          return false;
        } catch {
          return true;
        }
      };
    },
    peekEnded() {
      const info = new Uint8Array(SIGINFO_BYTES);
      if (libc.waitid(P_ALL, 0, ptr(info), PEEK_EXITED) !== 0) return undefined; // ECHILD: no children at all
      const pid = new DataView(info.buffer).getInt32(SIGINFO_PID_OFFSET, true);
      return pid === 0 ? undefined : pid;
    },
    reap(pid) {
      check(libc.waitid(P_PID, pid, ptr(new Uint8Array(SIGINFO_BYTES)), WNOHANG_EXITED), `wait for ${pid}`);
    },
    setWatchdogTimeout(descriptor, seconds) {
      const value = Int32Array.of(seconds);
      check(libc.ioctl(descriptor, WDIOC_SETTIMEOUT, ptr(value)), "watchdog: set timeout");
      return value[0]!;
    },
    openDeviceSocket: (device, port) => openDeviceSocket(libc, check, errno, device, port),
  };
}

function socketAddress(address: readonly number[], port: number): Uint8Array {
  const out = new Uint8Array(SOCKADDR_IN_BYTES);
  new DataView(out.buffer).setUint16(0, AF_INET, true);
  new DataView(out.buffer).setUint16(2, port);
  out.set(address, 4);
  return out;
}

function openDeviceSocket(
  libc: Libc,
  check: (result: number | bigint, call: string) => void,
  errno: () => number,
  device: string,
  port: number,
): DeviceSocket {
  const descriptor = libc.socket(AF_INET, SOCK_DGRAM_CLOEXEC_NONBLOCK, 0);
  check(descriptor, "socket");
  try {
    const on = Int32Array.of(1);
    for (const option of [SO_REUSEADDR, SO_BROADCAST])
      check(libc.setsockopt(descriptor, SOL_SOCKET, option, ptr(on), 4), "setsockopt");
    const name = text(device);
    check(
      libc.setsockopt(descriptor, SOL_SOCKET, SO_BINDTODEVICE, ptr(name), name.length),
      `bind to ${device}`,
    );
    check(
      libc.bind(descriptor, ptr(socketAddress([0, 0, 0, 0], port)), SOCKADDR_IN_BYTES),
      `bind to port ${port}`,
    );
  } catch (error) {
    closeSync(descriptor);
    throw error;
  }
  const buffer = new Uint8Array(DATAGRAM_BYTES_MAX);
  return {
    send(datagram, address, toPort) {
      const to = socketAddress(address, toPort);
      check(
        libc.sendto(descriptor, ptr(datagram), datagram.length, 0, ptr(to), to.length),
        `send by ${device}`,
      );
    },
    receive() {
      const length = Number(libc.recv(descriptor, ptr(buffer), buffer.length, 0));
      if (length >= 0) return buffer.slice(0, length);
      const name = errno();
      if (
        name === constants.errno.EAGAIN ||
        name === constants.errno.EINTR ||
        name === constants.errno.ENETDOWN
      )
        return undefined;
      throw new SysError(`receive by ${device}`, name);
    },
    close: () => closeSync(descriptor),
  };
}
