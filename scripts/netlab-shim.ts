/**
 * The program between two TAP devices: reads Ethernet frames of one and writes them to the other, some of them twice,
 * late or out of order, by seed. The kernel sees real IP on both sides. A loop around poll(2) in a process of its own, so
 * that nothing else delays a packet; it ends when its standard input does.
 * Arguments: namespace and device of the one end, then of the other. Each line of standard input is an `Impairment`.
 */
import { dlopen, ptr } from "bun:ffi";

export interface Impairment {
  /** Default 1. */
  readonly seed?: number;
  /** Parts of 1 of the frames that come twice, that others overtake, that vanish. Default 0. */
  readonly duplicate?: number;
  readonly reorder?: number;
  readonly loss?: number;
  /** Every frame is this late, ms, and up to `jitterMs` more in the same order. Default 0. */
  readonly delayMs?: number;
  readonly jitterMs?: number;
}

/** A frame that others are to overtake waits this much longer, ms. */
const OVERTAKEN_MS = { from: 1, to: 8 } as const;
const FRAME_BYTES_MAX = 65_536;
/** Beyond this many frames on the way, new ones are dropped, as a full queue does. */
const FRAMES_MAX = 10_000;
/** Frames read of one end before the other has its turn. */
const BURST_MAX = 64;

const CLONE_NEWNET = 0x4000_0000;
const TUNSETIFF = 0x4004_54ca;
const IFF_TAP_NO_PI = 0x1002;
const O_RDWR_NONBLOCK = 0x802;
const POLLIN = 1;

interface Waiting {
  readonly dueMs: number;
  readonly fd: number;
  readonly bytes: Uint8Array;
}

function openLibc() {
  return dlopen("libc.so.6", {
    open: { args: ["ptr", "i32"], returns: "i32" },
    setns: { args: ["i32", "i32"], returns: "i32" },
    ioctl: { args: ["i32", "u64", "ptr"], returns: "i32" },
    read: { args: ["i32", "ptr", "u64"], returns: "i64" },
    write: { args: ["i32", "ptr", "u64"], returns: "i64" },
    poll: { args: ["ptr", "u64", "i32"], returns: "i32" },
    close: { args: ["i32"], returns: "i32" },
  }).symbols;
}

type Libc = ReturnType<typeof openLibc>;

/** A TAP device of that name in the namespace; its descriptor stays valid outside it. */
function openTap(libc: Libc, namespace: string, device: string): number {
  const text = (value: string) => ptr(Buffer.from(`${value}\0`));
  const space = libc.open(text(`/run/netns/${namespace}`), 0);
  if (space < 0 || libc.setns(space, CLONE_NEWNET) !== 0) throw new Error(`cannot enter ${namespace}`);
  libc.close(space);
  const fd = libc.open(text("/dev/net/tun"), O_RDWR_NONBLOCK);
  const request = Buffer.alloc(40);
  request.write(device, 0, 15, "latin1");
  request.writeUInt16LE(IFF_TAP_NO_PI, 16);
  if (fd < 0 || libc.ioctl(fd, TUNSETIFF, ptr(request)) !== 0)
    throw new Error(`no TAP device ${device} in ${namespace}`);
  return fd;
}

/** Numbers in [0, 1), the same for the same seed (mulberry32). */
function randomOf(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}

class Shim {
  readonly #libc: Libc;
  #impairment: Impairment = {};
  #random = randomOf(1);
  /** By due time; few enough that a sorted list is quick. */
  readonly #waiting: Waiting[] = [];
  readonly #lastDueMs = new Map<number, number>();

  constructor(libc: Libc) {
    this.#libc = libc;
  }

  impair(impairment: Impairment): void {
    this.#impairment = impairment;
    this.#random = randomOf(impairment.seed ?? 1);
  }

  onFrame(fd: number, frame: Uint8Array, nowMs: number): void {
    const { duplicate = 0, reorder = 0, loss = 0, delayMs = 0, jitterMs = 0 } = this.#impairment;
    if (this.#random() < loss) return;
    const isOvertaken = this.#random() < reorder;
    // Jitter alone keeps the order: what was sent later is not due earlier.
    const dueMs = Math.max(nowMs + delayMs + this.#random() * jitterMs, this.#lastDueMs.get(fd) ?? 0);
    if (!isOvertaken) this.#lastDueMs.set(fd, dueMs);
    const lateMs = isOvertaken
      ? OVERTAKEN_MS.from + this.#random() * (OVERTAKEN_MS.to - OVERTAKEN_MS.from)
      : 0;
    this.#put(fd, frame, dueMs + lateMs);
    if (this.#random() < duplicate) this.#put(fd, frame, dueMs + lateMs);
  }

  /** Writes what is due; answers the milliseconds until the next, -1 for none. */
  flush(nowMs: number): number {
    let count = 0;
    while (count < this.#waiting.length && this.#waiting[count]!.dueMs <= nowMs) {
      const { fd, bytes } = this.#waiting[count]!;
      // A device that is down or full refuses the frame: it is lost, as on a wire.
      this.#libc.write(fd, ptr(bytes), bytes.length);
      count++;
    }
    this.#waiting.splice(0, count);
    const next = this.#waiting[0];
    return next === undefined ? -1 : Math.max(1, Math.ceil(next.dueMs - nowMs));
  }

  #put(fd: number, frame: Uint8Array, dueMs: number): void {
    if (this.#waiting.length >= FRAMES_MAX) return;
    const waiting: Waiting = { fd, bytes: frame.slice(), dueMs };
    let at = this.#waiting.length;
    while (at > 0 && this.#waiting[at - 1]!.dueMs > dueMs) at--;
    this.#waiting.splice(at, 0, waiting);
  }
}

function main([namespaceA, deviceA, namespaceB, deviceB]: readonly string[]): void {
  if (namespaceA === undefined || deviceA === undefined || namespaceB === undefined || deviceB === undefined)
    throw new Error("usage: netlab-shim NAMESPACE DEVICE NAMESPACE DEVICE");
  const libc = openLibc();
  const ends = [openTap(libc, namespaceA, deviceA), openTap(libc, namespaceB, deviceB)] as const;
  const shim = new Shim(libc);
  const buffer = new Uint8Array(FRAME_BYTES_MAX);
  const polled = Buffer.alloc(24); // struct pollfd: fd, events, revents
  [0, ...ends].forEach((fd, i) => {
    polled.writeInt32LE(fd, 8 * i);
    polled.writeInt16LE(POLLIN, 8 * i + 4);
  });
  libc.write(1, ptr(Buffer.from("ready\n")), 6);
  let rest = "";
  for (;;) {
    libc.poll(ptr(polled), 3, shim.flush(performance.now()));
    if (polled.readInt16LE(6) !== 0) {
      const count = Number(libc.read(0, ptr(buffer), FRAME_BYTES_MAX));
      if (count <= 0) return;
      const lines = (rest + Buffer.from(buffer.subarray(0, count)).toString()).split("\n");
      rest = lines.pop() ?? "";
      for (const line of lines) shim.impair(JSON.parse(line) as Impairment);
    }
    for (const [i, from] of ends.entries())
      for (let n = 0; n < BURST_MAX; n++) {
        const count = Number(libc.read(from, ptr(buffer), FRAME_BYTES_MAX));
        if (count <= 0) break;
        shim.onFrame(ends[1 - i]!, buffer.subarray(0, count), performance.now());
      }
  }
}

if (import.meta.main) main(process.argv.slice(2));
