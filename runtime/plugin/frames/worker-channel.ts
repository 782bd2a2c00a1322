/**
 * A channel of frames between the node's thread and a Worker: buffers handed over a MessagePort, counters in shared memory, so
 * that each end knows what the other has not read yet, and the Worker can wait.
 */
import { receiveMessageOnPort } from "node:worker_threads";
import type { ChannelHandlers, FrameChannel } from "./port.ts";

/** Messages to the Worker, bytes to it sent and read, bytes from it sent and read; all modulo 2^32. */
export const WORKER_COUNTERS = 5;
const Counter = { wake: 0, toSent: 1, toRead: 2, fromSent: 3, fromRead: 4 } as const;

export const hostEnd = (port: MessagePort, shared: SharedArrayBuffer): FrameChannel =>
  openEnd(port, shared, {
    sent: Counter.toSent,
    read: Counter.fromRead,
    farRead: Counter.toRead,
    wakes: true,
  });

export function guestEnd(port: MessagePort, shared: SharedArrayBuffer): FrameChannel {
  const counters = new Int32Array(shared);
  const end = openEnd(port, shared, {
    sent: Counter.fromSent,
    read: Counter.toRead,
    farRead: Counter.fromRead,
    wakes: false,
  });
  return {
    get queuedBytes() {
      return end.queuedBytes;
    },
    write: (bytes) => end.write(bytes),
    open: (handlers) => end.open(handlers),
    close: () => end.close(),
    readBlocking() {
      for (;;) {
        const seen = Atomics.load(counters, Counter.wake);
        const received = receiveMessageOnPort(port);
        if (received !== undefined) {
          const message: unknown = received.message;
          if (!(message instanceof Uint8Array)) return undefined;
          Atomics.add(counters, Counter.toRead, message.length);
          return message;
        }
        Atomics.wait(counters, Counter.wake, seen);
      }
    },
  };
}

interface End {
  readonly sent: number;
  readonly read: number;
  readonly farRead: number;
  readonly wakes: boolean;
}

function openEnd(port: MessagePort, shared: SharedArrayBuffer, end: End): FrameChannel {
  const counters = new Int32Array(shared);
  let handlers: ChannelHandlers | undefined;
  let isClosed = false;
  const wake = () => {
    if (!end.wakes) return;
    Atomics.add(counters, Counter.wake, 1);
    Atomics.notify(counters, Counter.wake);
  };
  return {
    get queuedBytes() {
      return (Atomics.load(counters, end.sent) - Atomics.load(counters, end.farRead)) >>> 0;
    },
    write(bytes) {
      if (isClosed) return;
      const copy = new Uint8Array(bytes);
      Atomics.add(counters, end.sent, copy.length);
      port.postMessage(copy, [copy.buffer]);
      wake();
    },
    open(given) {
      handlers = given;
      port.onmessage = ({ data }: { data: unknown }) => {
        if (isClosed) return;
        if (data instanceof Uint8Array) {
          Atomics.add(counters, end.read, data.length);
          handlers?.data(data);
        } else if (data === null) {
          isClosed = true;
          handlers?.closed();
        }
      };
    },
    close() {
      if (isClosed) return;
      isClosed = true;
      port.postMessage(null);
      wake();
      port.close();
    },
  };
}
