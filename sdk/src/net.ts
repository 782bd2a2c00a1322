/**
 * Sockets that the node opens for a plugin. A plugin that is not trusted has no sockets of its own unless the operator granted
 * them; what it may reach this way stands in its permissions, `broker.connect:HOST:PORT` and so on.
 */
import type { HostPort } from "./endpoint.ts";

export interface NetStreamHandlers {
  /** Borrowed: valid until the call returns. */
  data(bytes: Uint8Array): void;
  /** The far end writes no more; this end may go on. */
  end(): void;
  /** After a `write` that answered false: there is room again. */
  drain(): void;
  /** Once, last. No error when both ends were done. */
  closed(error?: Error): void;
}

/** One TCP connection. */
export interface NetStream {
  readonly remote: HostPort;
  readonly local: HostPort;
  /** Starts delivery. Once. */
  open(handlers: NetStreamHandlers): void;
  /** Takes all of it; borrowed until it returns. False: wait for `drain`. */
  write(bytes: Uint8Array): boolean;
  pause(paused: boolean): void;
  /** No more will be written. */
  end(): void;
  /** Idempotent. */
  reset(): void;
}

export interface NetListener {
  /** Where it really listens. */
  readonly port: number;
  /** Idempotent. Connections live on. */
  close(): void;
}

export interface NetDatagrams {
  readonly port: number;
  /** At most 65,000 bytes to an address (no name). Borrowed. May be lost silently. */
  send(bytes: Uint8Array, to: HostPort): void;
  close(): void;
}

/** All reject with GODWIT_FORBIDDEN for what was not granted, and end with the plugin. */
export interface PluginNet {
  /** `host`: a name or an address. Rejects with GODWIT_DIAL_FAILED or the signal's reason. */
  connect(host: string, port: number, signal?: AbortSignal): Promise<NetStream>;
  /** Rejects with GODWIT_LISTEN_FAILED. Port 0: one that is free. */
  listen(host: string, port: number, onStream: (stream: NetStream) => void): Promise<NetListener>;
  /** A UDP socket. The bytes handed to `onDatagram` are borrowed. Rejects with GODWIT_LISTEN_FAILED. */
  datagrams(
    host: string,
    port: number,
    onDatagram: (bytes: Uint8Array, from: HostPort) => void,
  ): Promise<NetDatagrams>;
}
