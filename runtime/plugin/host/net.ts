/**
 * `ctx.net`: sockets that the node opens for a plugin, within what the operator granted. Owns them: they end with the plugin.
 */
import type { Socket, SocketHandler } from "bun";
import {
  type HostPort,
  type NetDatagrams,
  type NetListener,
  type NetStream,
  type PluginNet,
  sourceGroup,
  StreamCore,
} from "@godwit/sdk";
import { whyNotListening } from "@godwit/sdk/listening";
import { claimDescriptor, type Place, Places } from "@godwit/sdk/places";
import { godwitError } from "../../kernel/errors.ts";
import type { Scope } from "../../kernel/scope.ts";
import type { NetPolicy } from "../permissions.ts";

/** Connections, listeners and UDP sockets of one plugin. */
const SOCKETS_MAX = 1_024;
/**
 * Connections that come to the listeners of one plugin, all together: at most, and of one source. Half of its sockets, so that a
 * crowd leaves it those that it opens itself. Who has said nothing gives way to others.
 */
const CALLERS_MAX = 512;
const CALLERS_PER_SOURCE_MAX = 256;
/** `write` answers false above this many bytes waiting. */
const HIGH_WATER_BYTES = 262_144;
const DATAGRAM_BYTES_MAX = 65_000;

export function openPluginNet(scope: Scope, policy: NetPolicy): PluginNet {
  const live = new Set<() => void>();
  const own = (end: () => void): (() => void) => {
    live.add(end);
    return () => live.delete(end);
  };
  const callers = new Places({ max: CALLERS_MAX, perSourceMax: CALLERS_PER_SOURCE_MAX });
  let isOwned = false;
  const check = (isAllowed: boolean, what: string) => {
    if (scope.isClosed) throw godwitError("GODWIT_STOPPED", "the plugin has stopped");
    if (!isAllowed) throw godwitError("GODWIT_FORBIDDEN", policy.refusal(what));
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
      check(
        policy.mayConnect(host, port),
        `broker.connect:${host.includes(":") ? `[${host}]` : host}:${port}`,
      );
      signal?.throwIfAborted();
      const begin = async () => {
        claimDescriptor("guest");
        const data = { own };
        return await Bun.connect<SocketState>({
          hostname: host,
          port,
          data,
          socket: handler,
          allowHalfOpen: true,
        });
      };
      const connecting = begin();
      const aborted = Promise.withResolvers<never>();
      const onAbort = () => aborted.reject(signal?.reason ?? scope.signal.reason);
      const either = signal === undefined ? scope.signal : AbortSignal.any([scope.signal, signal]);
      either.addEventListener("abort", onAbort, { once: true });
      let socket: Socket<SocketState>;
      try {
        socket = await Promise.race([connecting, aborted.promise]);
        claimDescriptor("guest", socket);
      } catch (error) {
        connecting.then((late) => late.terminate()).catch(() => {});
        if (either.aborted) throw error;
        const why = error instanceof Error ? error.message : String(error);
        throw godwitError("GODWIT_DIAL_FAILED", `${host} port ${port} cannot be reached: ${why}`, error);
      } finally {
        either.removeEventListener("abort", onAbort);
      }
      return socket.data.stream!;
    },
    async listen(host, port, onStream): Promise<NetListener> {
      check(policy.mayListen(port), `broker.listen:${port}`);
      const onOpen = (socket: Socket<SocketState>) => {
        socket.data = { own };
        // It may be gone before it was accepted.
        if (socket.readyState <= 0 || live.size >= SOCKETS_MAX) return void socket.terminate();
        const place = callers.accept(socket, sourceGroup(socket.remoteAddress), () =>
          socket.data.stream?.reset(),
        );
        if (place === undefined) return void socket.terminate();
        socket.data.place = place;
        const stream = new TcpStream(socket);
        socket.data.stream = stream;
        onStream(stream);
      };
      try {
        const server = Bun.listen<SocketState>({
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
        throw listenFailed("tcp", host, port, error);
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
        throw listenFailed("udp", host, port, error);
      }
    },
  };
}

function listenFailed(protocol: "tcp" | "udp", host: string, port: number, cause: unknown) {
  const why = whyNotListening(cause, { protocol, host, port, setting: "its table" });
  return godwitError("GODWIT_LISTEN_FAILED", `cannot listen on ${host} port ${port}: ${why}`, cause);
}

interface SocketState {
  stream?: TcpStream;
  /** Of one that came from outside. */
  place?: Place;
  /** Has it ended with the plugin, until it calls what this answers. */
  own(end: () => void): () => void;
}

/** A connection whose two directions end apart; once both have, it goes. */
class TcpStream extends StreamCore implements NetStream {
  readonly remote: HostPort;
  readonly local: HostPort;
  readonly #ended: { near: boolean; far: boolean };
  readonly #socket: Socket<SocketState>;
  readonly #release: () => void;

  /** Pauses the socket. */
  constructor(socket: Socket<SocketState>) {
    const ended = { near: false, far: false };
    super(
      {
        // Below 0: it is closed, and says so soon.
        write: (bytes) => Math.max(0, socket.write(bytes)),
        pause: () => void socket.pause(),
        resume: () => void socket.resume(),
        end() {
          ended.near = true;
          if (ended.far) socket.end();
          else socket.shutdown();
        },
        shut: () => void socket.end(),
        destroy: () => void socket.terminate(),
      },
      { highWaterBytes: HIGH_WATER_BYTES, lowWaterBytes: 0 },
    );
    this.#ended = ended;
    this.#socket = socket;
    this.#release = socket.data.own(() => this.reset());
    this.remote = { host: socket.remoteAddress, port: socket.remotePort };
    this.local = { host: socket.localAddress, port: socket.localPort };
    socket.setNoDelay(true);
    socket.pause();
  }

  override onEnd(): void {
    this.#ended.far = true;
    super.onEnd();
    if (this.#ended.near) this.#socket.end();
  }

  override onGone(error?: Error): void {
    this.#release();
    this.#socket.data.place?.release();
    super.onGone(error);
  }

  reset(): void {
    this.cut();
  }
}

const handler: SocketHandler<SocketState> = {
  open: (socket) => void (socket.data.stream = new TcpStream(socket)),
  data(socket, bytes) {
    socket.data.place?.stand("engaged");
    socket.data.stream?.onData(bytes);
  },
  drain: (socket) => socket.data.stream?.onDrain(),
  end: (socket) => socket.data.stream?.onEnd(),
  close: (socket, error) => socket.data?.stream?.onGone(error),
  error: (socket, error) => socket.data?.stream?.onGone(error),
  connectError() {},
};
