/**
 * `ctx.net`: sockets that the node opens for a plugin, within what the operator granted. Owns them: they end with the plugin.
 */
import type { Socket, SocketHandler } from "bun";
import type {
  HostPort,
  NetDatagrams,
  NetListener,
  NetStream,
  NetStreamHandlers,
  PluginNet,
} from "@godwit/sdk";
import { godwitError } from "../../kernel/errors.ts";
import type { Scope } from "../../kernel/scope.ts";
import type { NetPolicy } from "../permissions.ts";

/** Connections, listeners and UDP sockets of one plugin. */
const SOCKETS_MAX = 1_024;
/** `write` answers false above this many bytes waiting. */
const HIGH_WATER_BYTES = 262_144;
const DATAGRAM_BYTES_MAX = 65_000;

export function openPluginNet(scope: Scope, policy: NetPolicy): PluginNet {
  const live = new Set<() => void>();
  const own = (end: () => void): (() => void) => {
    live.add(end);
    return () => live.delete(end);
  };
  let isOwned = false;
  const check = (isAllowed: boolean, what: string) => {
    if (scope.isClosed) throw godwitError("GODWIT_STOPPED", "the plugin has stopped");
    if (!isAllowed) throw godwitError("GODWIT_FORBIDDEN", `the plugin was not granted ${what}; see grant`);
    if (live.size >= SOCKETS_MAX)
      throw godwitError("GODWIT_QUEUE_FULL", `a plugin has at most ${SOCKETS_MAX} sockets`);
    if (isOwned) return;
    isOwned = true;
    scope.own(() => {
      for (const end of [...live]) end();
    });
  };
  return {
    async connect(host, port, signal) {
      check(policy.mayConnect(host, port), `broker.connect:${host}:${port}`);
      signal?.throwIfAborted();
      const stream = new TcpStream();
      const connecting = Bun.connect({
        hostname: host,
        port,
        data: stream,
        socket: handler,
        allowHalfOpen: true,
      });
      const aborted = Promise.withResolvers<never>();
      const onAbort = () => aborted.reject(signal?.reason ?? scope.signal.reason);
      const either = signal === undefined ? scope.signal : AbortSignal.any([scope.signal, signal]);
      either.addEventListener("abort", onAbort, { once: true });
      try {
        await Promise.race([connecting, aborted.promise]);
      } catch (error) {
        connecting.then((socket) => socket.terminate()).catch(() => {});
        if (either.aborted) throw error;
        const why = error instanceof Error ? error.message : String(error);
        throw godwitError("GODWIT_DIAL_FAILED", `${host} port ${port} cannot be reached: ${why}`, error);
      } finally {
        either.removeEventListener("abort", onAbort);
      }
      stream.onGone = own(() => stream.reset());
      return stream;
    },
    async listen(host, port, onStream): Promise<NetListener> {
      check(policy.mayListen(port), `broker.listen:${port}`);
      const onOpen = (socket: Socket<TcpStream>) => {
        const stream = new TcpStream();
        socket.data = stream;
        stream.attach(socket);
        if (live.size >= SOCKETS_MAX) return stream.reset();
        stream.onGone = own(() => stream.reset());
        onStream(stream);
      };
      try {
        const server = Bun.listen<TcpStream>({
          hostname: host,
          port,
          allowHalfOpen: true,
          socket: { ...handler, open: onOpen },
        });
        let isOpen = true;
        const close = () => {
          if (!isOpen) return;
          isOpen = false;
          forget();
          server.stop(false);
        };
        const forget = own(close);
        return { port: server.port, close };
      } catch (error) {
        throw listenFailed(host, port, error);
      }
    },
    async datagrams(host, port, onDatagram): Promise<NetDatagrams> {
      check(policy.mayDatagrams(port), `broker.udp:${port}`);
      try {
        const socket = await Bun.udpSocket({
          hostname: host,
          port,
          socket: {
            data: (_socket, bytes, fromPort, from) => onDatagram(bytes, { host: from, port: fromPort }),
            error() {},
          },
        });
        let isOpen = true;
        const close = () => {
          if (!isOpen) return;
          isOpen = false;
          forget();
          socket.close();
        };
        const forget = own(close);
        return {
          port: socket.port,
          close,
          send(bytes, to) {
            if (!isOpen || bytes.length > DATAGRAM_BYTES_MAX) return;
            try {
              socket.send(bytes, to.port, to.host);
            } catch {
              // An address that is none, or no route there: a datagram may be lost.
            }
          },
        };
      } catch (error) {
        throw listenFailed(host, port, error);
      }
    },
  };
}

const listenFailed = (host: string, port: number, cause: unknown) =>
  godwitError(
    "GODWIT_LISTEN_FAILED",
    `cannot listen on ${host} port ${port}: ${cause instanceof Error ? cause.message : String(cause)}`,
    cause,
  );

class TcpStream implements NetStream {
  #socket: Socket<TcpStream> | undefined;
  #handlers: NetStreamHandlers | undefined;
  #waiting: Uint8Array[] = [];
  #waitingBytes = 0;
  #isFull = false;
  #isEnding = false;
  #hasFarEnded = false;
  #isOver = false;
  #error: Error | undefined;
  remote: HostPort = { host: "", port: 0 };
  local: HostPort = { host: "", port: 0 };
  onGone: () => void = () => {};

  attach(socket: Socket<TcpStream>): void {
    this.#socket = socket;
    this.remote = { host: socket.remoteAddress, port: socket.remotePort };
    this.local = { host: socket.localAddress, port: socket.localPort };
    socket.setNoDelay(true);
    // Nothing is read before somebody listens.
    socket.pause();
  }

  open(handlers: NetStreamHandlers): void {
    this.#handlers = handlers;
    if (this.#isOver) queueMicrotask(() => handlers.closed(this.#error));
    else this.#socket?.resume();
  }

  write(bytes: Uint8Array): boolean {
    if (this.#isOver || this.#isEnding || this.#socket === undefined) return true;
    const sent = this.#waiting.length > 0 ? 0 : Math.max(0, this.#socket.write(bytes));
    if (sent === bytes.length) return true;
    this.#waiting.push(bytes.slice(sent));
    this.#waitingBytes += bytes.length - sent;
    if (this.#waitingBytes > HIGH_WATER_BYTES) this.#isFull = true;
    return !this.#isFull;
  }

  pause(paused: boolean): void {
    if (this.#isOver) return;
    if (paused) this.#socket?.pause();
    else this.#socket?.resume();
  }

  end(): void {
    if (this.#isOver || this.#isEnding) return;
    this.#isEnding = true;
    if (this.#waiting.length === 0) this.#shut();
  }

  reset(): void {
    this.#socket?.terminate();
    this.over();
  }

  onData(bytes: Uint8Array): void {
    this.#handlers?.data(bytes);
  }

  onDrain(): void {
    while (this.#waiting.length > 0) {
      const first = this.#waiting[0]!;
      const sent = Math.max(0, this.#socket?.write(first) ?? 0);
      this.#waitingBytes -= sent;
      if (sent < first.length) {
        this.#waiting[0] = first.subarray(sent);
        return;
      }
      this.#waiting.shift();
    }
    if (this.#isEnding) return this.#shut();
    if (!this.#isFull) return;
    this.#isFull = false;
    this.#handlers?.drain();
  }

  onEnd(): void {
    this.#hasFarEnded = true;
    this.#handlers?.end();
    if (this.#isEnding && this.#waiting.length === 0) this.#socket?.end();
  }

  over(error?: Error): void {
    if (this.#isOver) return;
    this.#isOver = true;
    this.#error = error;
    this.#waiting = [];
    this.#waitingBytes = 0;
    this.onGone();
    this.#handlers?.closed(error);
  }

  #shut(): void {
    if (this.#hasFarEnded) this.#socket?.end();
    else this.#socket?.shutdown();
  }
}

const handler: SocketHandler<TcpStream> = {
  open: (socket) => socket.data.attach(socket),
  data: (socket, bytes) => socket.data.onData(bytes),
  drain: (socket) => socket.data.onDrain(),
  end: (socket) => socket.data.onEnd(),
  close: (socket, error) => socket.data?.over(error),
  error: (socket, error) => socket.data?.over(error),
  connectError() {},
};
