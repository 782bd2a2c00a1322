import type { GodwitError } from "./errors.ts";

export interface MeshStreamHandlers {
  /** In order, each byte once. The bytes are the handler's. */
  data(bytes: Uint8Array): void;
  /** The far end has written everything; this end may go on writing. */
  end(): void;
  /** After a `write` that answered false: there is room again. */
  drain(): void;
  /** Once, last. No error when both ends had finished. */
  closed(error: GodwitError | undefined): void;
}

/**
 * A reliable, ordered stream of bytes to a service of another node, sealed end to end, over whatever ways lead there
 * except slow radios. It outlives a change of route and ends when the far node stays out of reach for 30 s. Memory is
 * bounded at both ends by the window. docs/protocol/streams.md
 */
export interface MeshStream {
  /** Proven: the far node's id, 52 characters. */
  readonly remote: string;
  readonly service: string;
  /** What the opener said with it, at most 512 bytes. */
  readonly metadata: Uint8Array;
  /** Starts delivery. Once. */
  open(handlers: MeshStreamHandlers): void;
  /** Takes all of it; borrowed until it returns. False: wait for `drain` before the next. Ignored after `end`. */
  write(bytes: Uint8Array): boolean;
  /** No more will be written. */
  end(): void;
  /** While paused the far end waits once a window is full. */
  pause(paused: boolean): void;
  /** Tears both directions down; the far end hears that. Idempotent. */
  reset(): void;
}

/** Somebody opened it: say `accept`, or `reset`. */
export interface IncomingMeshStream extends MeshStream {
  accept(): void;
}

export interface StreamOptions {
  /** At most 512 bytes, copied. */
  readonly metadata?: Uint8Array;
  /** Gives up the opening. */
  readonly signal?: AbortSignal;
}
