/** What a method is that a plugin behind frames may call. */
import type { openPump } from "../frames/flow-pump.ts";

export interface Reply {
  readonly json?: unknown;
  readonly bytes?: Uint8Array;
  /** What follows the answer: frames of a flow that the plugin only knows by it. */
  readonly after?: () => void;
}

/** `bytes` are borrowed until the first await. */
export type Method = (args: unknown, bytes: Uint8Array, signal: AbortSignal) => Promise<Reply> | Reply;

interface Endable {
  open(handlers: {
    data(bytes: Uint8Array): void;
    end(): void;
    drain(): void;
    closed(error?: Error): void;
  }): void;
  write(bytes: Uint8Array): boolean;
  pause(paused: boolean): void;
  end(): void;
  reset(): void;
}

/** A stream as a pump takes it: what is closed politely has said all it had. */
export const withClose = (stream: Endable) => ({
  open: (handlers: Parameters<Parameters<typeof openPump>[2]["open"]>[0]) =>
    stream.open({
      data: (bytes) => handlers.data(bytes),
      end: () => handlers.end?.(),
      drain: () => handlers.drain(),
      closed: (error) => handlers.closed(error),
    }),
  write: (bytes: Uint8Array) => stream.write(bytes),
  pause: (paused: boolean) => stream.pause(paused),
  close: () => stream.end(),
  end: () => stream.end(),
  reset: () => stream.reset(),
});

export type Ask = <T>(
  method: string,
  args: object,
  settle: (value: unknown, bytes: Uint8Array) => T,
  signal: AbortSignal | undefined,
  bytes?: Uint8Array,
) => Promise<T>;
