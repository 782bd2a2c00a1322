/** Sessions in pairs over wires that tests bend, on a manual clock. For tests only. */
import type { GodwitError, LinkClass, PipeDirection } from "@godwit/sdk";
import { asGodwitError } from "../kernel/errors.ts";
import type { ManualClock } from "../kernel/clock.ts";
import type { Departure } from "../kernel/departure.ts";
import type { NodeId } from "../kernel/ids.ts";
import { PROTOCOL_VERSION_MAX } from "../wire/constants.ts";
import type { Session, SessionHandlers } from "../link/types.ts";

/** IP, TCP with time stamps, record length and tag, item length: what a small frame costs around it. */
export const FRAME_COST_BYTES = 20 + 32 + 2 + 16 + 2;
/** A TCP segment without data. */
export const TCP_ACK_BYTES = 52;

export class FakeSession implements Session {
  readonly remote: NodeId;
  readonly direction: PipeDirection;
  readonly remoteEndpoint: string;
  readonly localEndpoint: string;
  version = PROTOCOL_VERSION_MAX;
  linkClass: LinkClass = "fast";
  rateBitsPerSecond = 1_000_000_000;
  isReliable = true;
  /** Set: what is sent waits for long, and leaves when the test says so. */
  answerMs = 0;
  readonly departures: Departure[] = [];
  frameBytesMax = 61_440;
  bufferedBytes = 0;
  bytesSent = 0;
  bytesReceived = 0;
  /** Frames handed to `send`, in order. */
  readonly sent: Uint8Array[] = [];
  /** False: `send` asks to wait for `drain`. */
  hasRoom = true;
  /** False: frames vanish on the way. */
  isCarrying = true;
  delayMs = 1;
  isClosed = false;
  closedWith: GodwitError | undefined;
  far: FakeSession | undefined;
  readonly #clock: ManualClock;
  #handlers: SessionHandlers | undefined;

  constructor(
    clock: ManualClock,
    remote: NodeId,
    direction: PipeDirection,
    endpoints: { local: string; remote: string },
  ) {
    this.#clock = clock;
    this.remote = remote;
    this.direction = direction;
    this.localEndpoint = endpoints.local;
    this.remoteEndpoint = endpoints.remote;
  }

  open(handlers: SessionHandlers): void {
    this.#handlers = handlers;
  }

  send(frame: Uint8Array, departure?: Departure): boolean {
    if (this.isClosed) return true;
    if (departure !== undefined) this.departures.push(departure);
    if (frame.length > this.frameBytesMax) throw new Error("frame too large");
    const copy = frame.slice();
    this.sent.push(copy);
    this.bytesSent += copy.length;
    if (this.isCarrying) this.#clock.after(this.delayMs, () => this.far?.receive(copy));
    return this.hasRoom;
  }

  /** A frame from the far end, real or made up. */
  receive(frame: Uint8Array): void {
    if (this.isClosed) return;
    this.bytesReceived += frame.length;
    try {
      this.#handlers?.frame(frame);
    } catch (error) {
      this.end(asGodwitError(error));
    }
  }

  drain(): void {
    this.hasRoom = true;
    this.#handlers?.drain();
  }

  flush(): void {}
  pause(): void {}

  close(): void {
    this.end(undefined);
  }

  end(error: GodwitError | undefined): void {
    if (this.isClosed) return;
    this.isClosed = true;
    this.closedWith = error;
    queueMicrotask(() => this.#handlers?.closed(error));
    if (this.isCarrying) this.#clock.after(this.delayMs, () => this.far?.end(undefined));
  }
}

/** The two ends of one session that `from` dialled. */
export function sessionPair(
  clock: ManualClock,
  from: NodeId,
  to: NodeId,
  hosts: { from?: string; to?: string } = {},
): [FakeSession, FakeSession] {
  const { from: near = "tcp://10.0.0.1:50000", to: far = "tcp://10.0.0.2:4860" } = hosts;
  const out = new FakeSession(clock, to, "outbound", { local: near, remote: far });
  const into = new FakeSession(clock, from, "inbound", { local: far, remote: near });
  out.far = into;
  into.far = out;
  return [out, into];
}
