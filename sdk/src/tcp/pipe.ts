/** A TCP connection as a Pipe: what the kernel does not take at once waits, up to a high-water mark. */
import type { Socket } from "bun";
import { formatEndpoint } from "../endpoint.ts";
import type { PipeDirection } from "../pipe.ts";
import type { Place } from "../places.ts";
import { StreamPipe } from "../stream-pipe.ts";

/** Assumed until measured: a local network. */
const RATE_BITS_PER_SECOND = 1_000_000_000;
const KEEPALIVE_MS = 60_000;

export class TcpPipe extends StreamPipe {
  /** Without zone, IPv4 in its own form. */
  readonly localAddress: string;

  /** Pauses the socket: the kernel's buffer bounds what arrives before `open`. */
  constructor(socket: Socket<SocketState>, direction: PipeDirection, scheme: string, owner: PipeOwner) {
    const localAddress = plainAddress(socket.localAddress);
    super(
      {
        // Below 0: it is closed, and says so soon.
        write: (bytes) => Math.max(0, socket.write(bytes)),
        pause: () => void socket.pause(),
        resume: () => void socket.resume(),
        shut: () => void socket.end(),
        destroy: () => void socket.terminate(),
      },
      {
        direction,
        local: formatEndpoint(scheme, localAddress, socket.localPort),
        remote: formatEndpoint(scheme, plainAddress(socket.remoteAddress), socket.remotePort),
        linkClass: "fast",
        rateBitsPerSecond: RATE_BITS_PER_SECOND,
      },
      {
        clock: owner,
        onProven: () => owner.onProven(),
        onOver: () => owner.onOver(),
      },
    );
    this.localAddress = localAddress;
    socket.setNoDelay(true);
    socket.setKeepAlive(true, KEEPALIVE_MS);
    socket.pause();
  }
}

/** What a pipe's transport lends it and wants to know. */
export interface PipeOwner {
  after(delayMs: number, fn: () => void): { cancel(): void };
  /** The far end has proven itself. */
  onProven(): void;
  /** Nothing more comes of it; its socket may stay for a moment. */
  onOver(): void;
}

/** A socket of both families shows IPv4 as IPv6 and link-local addresses with their zone. */
const plainAddress = (address: string): string =>
  address.replace(/^::ffff:(?=\d+\.)/i, "").replace(/%.*$/, "");

export interface SocketState {
  pipe: TcpPipe | undefined;
  /** Inbound, until the far end has proven itself. */
  place?: Place;
  onOpen(socket: Socket<SocketState>): void;
  /** It went before it was a pipe. */
  onLost?(error: Error | undefined): void;
}
