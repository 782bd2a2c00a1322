/** The process of one untrusted plugin, after it was locked in: frames over fd 3. */
import { dlopen, ptr } from "bun:ffi";
import { systemClock } from "../../kernel/clock.ts";
import { compileAfterStart } from "../../kernel/start-code.ts";
import { openSocketChannel } from "../frames/port.ts";
import { runGuest } from "./guest.ts";

const CHANNEL_FD = 3;
const POLLIN = 1;
const POLLOUT = 4;
const READ_BYTES = 65_536;
/** When starting is over: what it took and nobody uses any more goes back to the machine, about 1.5 MB. */
const SHRINK_AFTER_MS = 1_000;

/** `beforeCode` takes the rights that only the start of this program needed. */
export async function runGuestProcess(beforeCode: () => void): Promise<never> {
  compileAfterStart(systemClock);
  const channel = await openSocketChannel(CHANNEL_FD, readBlocking);
  runGuest(channel, { beforeCode, exit: () => process.exit(0), folder: "/proc/self/cwd" });
  systemClock.after(SHRINK_AFTER_MS, () => Bun.shrink());
  // Until the channel is gone or the node ends this process.
  return await new Promise<never>(() => {});
}

let libc: ReturnType<typeof openLibc> | undefined;
const openLibc = () =>
  dlopen("libc.so.6", {
    poll: { args: ["ptr", "u64", "i32"], returns: "i32" },
    recv: { args: ["i32", "ptr", "usize", "i32"], returns: "i64" },
  } as const).symbols;

/** The channel's own socket is asked behind the event loop's back, which finds nothing there afterwards. */
function readBlocking(wantsToWrite: boolean, onWritable: () => void): Uint8Array | undefined {
  libc ??= openLibc();
  const buffer = new Uint8Array(READ_BYTES);
  const poll = new Int32Array(2);
  for (let wants = wantsToWrite; ;) {
    poll[0] = CHANNEL_FD;
    poll[1] = wants ? POLLIN | POLLOUT : POLLIN;
    if (libc.poll(ptr(poll), 1, -1) < 0) continue;
    const happened = poll[1] >>> 16;
    if ((happened & POLLOUT) !== 0) {
      onWritable();
      wants = false;
    }
    if ((happened & ~POLLOUT) === 0) continue;
    const length = Number(libc.recv(CHANNEL_FD, ptr(buffer), buffer.length, 0x40));
    if (length > 0) return buffer.subarray(0, length);
    if (length === 0) return undefined;
  }
}
