/**
 * Micro benchmark of the link layer: `bun test/bench/link.ts` prints all of it, `handshake.ts` takes its part. One
 * process, both ends, one core: a figure "per end" is therefore about twice what is printed. Reports; never fails on
 * time.
 */
import type { Pipe, PipeHandlers } from "@godwit/sdk";
import { generateIdentity } from "../../runtime/identity/keys.ts";
import { systemClock } from "../../runtime/kernel/clock.ts";
import { systemRandom } from "../../runtime/kernel/random.ts";
import { HandshakeGuard } from "../../runtime/link/guard.ts";
import { openSession, type OpenSessionOptions } from "../../runtime/link/handshake.ts";
import type { Session } from "../../runtime/link/types.ts";

/** As cheap as a pipe can be: one copy, delivery on the next turn in the chunks that were written together. */
class QuickPipe implements Pipe {
  readonly kind = "stream";
  readonly direction;
  readonly remote = "memory://far";
  readonly local = "memory://near";
  readonly linkClass = "fast";
  readonly rateBitsPerSecond = 1e10;
  readonly mtu = 0;
  peer!: QuickPipe;
  sentBytes = 0;
  #handlers: PipeHandlers | undefined;
  #queue: Uint8Array[] = [];
  #queuedBytes = 0;
  #isScheduled = false;
  #wantsDrain = false;

  constructor(direction: "outbound" | "inbound") {
    this.direction = direction;
  }
  get bufferedBytes() {
    return this.#queuedBytes;
  }
  open(handlers: PipeHandlers) {
    this.#handlers = handlers;
  }
  write(bytes: Uint8Array): boolean {
    this.sentBytes += bytes.length;
    this.#queue.push(bytes.slice());
    this.#queuedBytes += bytes.length;
    if (!this.#isScheduled) {
      this.#isScheduled = true;
      setImmediate(() => this.#deliver());
    }
    if (this.#queuedBytes < 1_048_576) return true;
    this.#wantsDrain = true;
    return false;
  }
  pause() {}
  close() {
    this.#handlers?.closed();
    this.#handlers = undefined;
  }
  #deliver() {
    this.#isScheduled = false;
    const queue = this.#queue;
    this.#queue = [];
    this.#queuedBytes = 0;
    for (const bytes of queue) this.peer.#handlers?.data(bytes);
    if (!this.#wantsDrain) return;
    this.#wantsDrain = false;
    this.#handlers?.drain();
  }
}

const [alice, bob] = [generateIdentity(systemRandom), generateIdentity(systemRandom)];
const guard = new HandshakeGuard(systemClock, systemRandom, { loadPerSecond: 1e9 });
const signal = new AbortController().signal;

async function connect(extra: Partial<OpenSessionOptions>) {
  const [a, b] = [new QuickPipe("outbound"), new QuickPipe("inbound")];
  a.peer = b;
  b.peer = a;
  const common = { network: "bench", secrets: [], clock: systemClock, random: systemRandom, guard };
  const [left, right] = await Promise.all([
    openSession(a, { ...common, role: "initiator", identity: alice, remote: bob.id, ...extra }, signal),
    openSession(
      b,
      { ...common, role: "responder", identity: bob, ...("secrets" in extra ? extra : {}) },
      signal,
    ),
  ]);
  // The initiator's empty first record is not part of the handshake.
  return { left, right, bytes: a.sentBytes + b.sentBytes - 18 };
}

/** Whole handshakes in a second of this process's processor time, both ends of each, and the bytes of one on the wire. */
export async function measureHandshakes(
  extra: Partial<OpenSessionOptions>,
): Promise<{ perSecond: number; bytes: number }> {
  let bytes = 0;
  const run = async (count: number) => {
    for (let i = 0; i < count; i++) {
      const link = await connect(extra);
      bytes = link.bytes;
      link.left.close();
    }
  };
  await run(200);
  const count = 2_000;
  const before = process.cpuUsage();
  await run(count);
  const { user, system } = process.cpuUsage(before);
  return { perSecond: (count * 1e6) / (user + system), bytes };
}

async function handshakes(name: string, extra: Partial<OpenSessionOptions>) {
  const { perSecond, bytes } = await measureHandshakes(extra);
  console.log(
    `${name.padEnd(8)} ${String(Math.round(perSecond)).padStart(7)} handshakes in a second of processor time, both ends; ${bytes} B on the wire`,
  );
}

async function goodput(frameBytes: number, totalFrames: number) {
  const { left, right } = await connect({});
  const frame = new Uint8Array(frameBytes).fill(7);
  let received = 0;
  const { promise, resolve } = Promise.withResolvers<void>();
  const run = (session: Session) => {
    let sent = 0;
    // A turn sends what a busy peer would: until the pipe is full, or 64 small frames, so that batching is honest.
    const turn = () => {
      for (let i = 0; i < 64 && sent < totalFrames; i++) {
        sent++;
        if (!session.send(frame)) return;
      }
      if (sent < totalFrames) setImmediate(turn);
    };
    session.open({ frame() {}, drain: turn, closed() {} });
    turn();
  };
  right.open({
    frame() {
      if (++received === totalFrames) resolve();
    },
    drain() {},
    closed() {},
  });
  const startMs = performance.now();
  run(left);
  await promise;
  const seconds = (performance.now() - startMs) / 1_000;
  const megabytes = (frameBytes * totalFrames) / 1e6;
  console.log(
    `${String(frameBytes).padStart(6)} B   ${Math.round(totalFrames / seconds)
      .toString()
      .padStart(8)} frames/s, ` +
      `${Math.round(megabytes / seconds)
        .toString()
        .padStart(
          6,
        )} MB/s = ${((megabytes * 8) / 1e3 / seconds).toFixed(2)} Gbit/s, seal and open on one core`,
  );
  left.close();
}

if (import.meta.main) {
  const secrets = [systemRandom.bytes(32)];
  await handshakes("IK", {});
  await handshakes("XX", { hideIdentity: true });
  await handshakes("IKpsk2", { secrets });
  await handshakes("XXpsk3", { secrets, hideIdentity: true });
  for (let round = 0; round < 2; round++) {
    await goodput(61_440, 60_000);
    await goodput(16_384, 150_000);
    await goodput(1_400, 1_000_000);
    await goodput(240, 2_000_000);
  }
  process.exit(0);
}
