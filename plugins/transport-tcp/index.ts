/**
 * transport.tcp: links over TCP, IPv4 and IPv6. Listens where it is told, for as long as it runs: an address that cannot
 * be bound is retried, one that comes is bound, the links over one that went are closed at once, so that the dialer goes
 * another way. Never trusts who connects: strangers are counted before anything is made for them.
 */
import type { Socket, SocketHandler } from "bun";
import {
  advertisedHosts,
  definePlugin,
  formatEndpoint,
  isListen,
  planListen,
  sourceGroup,
  type ListenAddress,
  type PluginContext,
} from "@godwit/sdk";
import { z } from "zod/mini";
import { type Attempt, dialAny, resolveHost } from "./dial.ts";
import { parseTcpEndpoint } from "./endpoint.ts";
import { type SocketState, TcpPipe } from "./pipe.ts";
import { Strangers } from "./strangers.ts";

const LISTEN_RETRY_MS = 3_000;

const listenEntry = z.string().check(
  z.refine(isListen, {
    error: 'expected address:port, [IPv6]:port or interface:port, e.g. "[::]:4860" or "eth0:4860"',
  }),
);

const config = z.strictObject({
  /** Addresses, or interfaces, to listen on. */
  listen: z._default(z.array(listenEntry).check(z.maxLength(64)), ["[::]:4860"]),
  /** Endpoints to publish instead of the addresses found: behind a port forwarding, for instance. */
  advertise: z.optional(z.array(z.string().check(z.startsWith("tcp://"))).check(z.maxLength(16))),
});

export default definePlugin({
  id: "tcp",
  namespace: "transport",
  sdk: "^0.1.0",
  permissions: ["net.tcp"],
  config,
  async start(ctx, { listen, advertise }) {
    const tcp = new Tcp(ctx);
    ctx.own(() => tcp.close());
    ctx.transport.register({
      schemes: ["tcp"],
      dial: async (endpoint, signal) => tcp.dial(endpoint, signal),
    });
    let lastReason: string | undefined;
    const check = () => {
      const addresses = ctx.network.addresses();
      const reason = tcp.listen(planListen(listen, addresses));
      const found = tcp.listening.flatMap((bound) =>
        advertisedHosts(bound, addresses).map((host) => formatEndpoint("tcp", host, bound.port)),
      );
      ctx.transport.listening(tcp.listening.length === 0 ? [] : (advertise ?? found));
      if (reason === lastReason) return;
      lastReason = reason;
      if (reason !== "") ctx.log.warn("listen failed", { reason });
      ctx.health(reason === "" ? { state: "running" } : { state: "degraded", reason });
    };
    check();
    ctx.network.onChange(() => {
      check();
      const present = new Set(ctx.network.addresses().map(({ address }) => address));
      tcp.closeVanished(present);
    });
    let retry = ctx.clock.after(LISTEN_RETRY_MS, function onRetry() {
      if (lastReason !== "") check();
      retry = ctx.clock.after(LISTEN_RETRY_MS, onRetry);
    });
    ctx.own(() => retry.cancel());
  },
});

class Tcp {
  readonly #ctx: PluginContext;
  readonly #strangers = new Strangers();
  readonly #refused;
  readonly #pipes = new Set<TcpPipe>();
  readonly #bound = new Map<string, { readonly address: ListenAddress; stop(isOver: boolean): void }>();
  readonly #handler: SocketHandler<SocketState> = {
    open: (socket) => socket.data.onOpen(socket),
    data: (socket, bytes) => socket.data.pipe?.onData(bytes),
    drain: (socket) => socket.data.pipe?.onDrain(),
    end: (socket) => {
      socket.data.pipe?.onClosed();
      socket.end();
    },
    close: (socket, error) => this.#onGone(socket, error),
    error: (socket, error) => this.#onGone(socket, error),
  };

  constructor(ctx: PluginContext) {
    this.#ctx = ctx;
    this.#refused = ctx.counter("refused", "connections of strangers refused at their bound");
    const connections = ctx.gauge("strangers", "connections whose far end has proven nothing yet");
    this.#onStrangers = () => connections.set(this.#strangers.count);
  }

  readonly #onStrangers: () => void;

  /** Where it really listens; port 0 stands no more. */
  get listening(): readonly ListenAddress[] {
    return [...this.#bound.values()].map(({ address }) => address);
  }

  /** Opens what is missing, closes what is not wanted any more. Answers why something failed, or nothing. */
  listen(wanted: readonly ListenAddress[]): string {
    const keys = new Set(wanted.map(keyOf));
    for (const [key, bound] of this.#bound)
      if (!keys.has(key)) {
        this.#bound.delete(key);
        // Its links live on where their address does.
        bound.stop(false);
      }
    const reasons: string[] = [];
    for (const address of wanted) {
      if (this.#bound.has(keyOf(address))) continue;
      try {
        this.#bound.set(keyOf(address), this.#open(address));
      } catch (error) {
        const why = error instanceof Error ? error.message : String(error);
        reasons.push(`cannot listen on ${formatEndpoint("tcp", address.host, address.port)}: ${why}`);
      }
    }
    return reasons.join("; ");
  }

  async dial(endpoint: string, signal: AbortSignal): Promise<TcpPipe> {
    const { host, port } = parseTcpEndpoint(endpoint);
    return dialAny(endpoint, host, signal, {
      clock: this.#ctx.clock,
      resolve: resolveHost,
      connect: (address) => this.#connect(address, port),
      discard: (pipe) => pipe.close(),
    });
  }

  /** Closes the links that stand on an address which this machine has no more: nothing will ever arrive there. */
  closeVanished(present: ReadonlySet<string>): void {
    for (const pipe of [...this.#pipes]) {
      if (isLoopback(pipe.localAddress) || present.has(pipe.localAddress)) continue;
      pipe.cut(new Error(`the address ${pipe.localAddress} is not on this machine any more`));
    }
  }

  close(): void {
    for (const bound of this.#bound.values()) bound.stop(true);
    this.#bound.clear();
  }

  /** Throws the operating system's error. */
  #open({ host, port, isIpv6Only }: ListenAddress) {
    const options = {
      hostname: host,
      port,
      ipv6Only: isIpv6Only && host.includes(":"),
      socket: { ...this.#handler, open: (socket: Socket<SocketState>) => this.#accept(socket) },
    };
    const server = Bun.listen<SocketState>(options);
    return {
      address: { host, port: server.port, isIpv6Only },
      stop: (isOver: boolean) => server.stop(isOver),
    };
  }

  #onGone({ data }: Socket<SocketState>, error: Error | undefined): void {
    if (data.pipe === undefined) data.onLost?.(error);
    else data.pipe.onClosed(error);
  }

  #accept(socket: Socket<SocketState>): void {
    socket.data = { pipe: undefined, onOpen() {} };
    // It may be gone before it was accepted.
    if (socket.readyState <= 0) return void socket.terminate();
    const release = this.#strangers.enter(sourceGroup(socket.remoteAddress));
    if (release === undefined) {
      this.#refused.add();
      return void socket.terminate();
    }
    const pipe = this.#pipeOf(socket, "inbound", () => {
      release();
      this.#onStrangers();
    });
    this.#onStrangers();
    socket.data.pipe = pipe;
    this.#ctx.transport.accept(pipe);
  }

  #pipeOf(socket: Socket<SocketState>, direction: "inbound" | "outbound", onProven: () => void): TcpPipe {
    const pipe: TcpPipe = new TcpPipe(socket, direction, {
      after: (delayMs, fn) => this.#ctx.clock.after(delayMs, fn),
      onProven,
      onGone: () => this.#pipes.delete(pipe),
    });
    this.#pipes.add(pipe);
    return pipe;
  }

  #connect(address: string, port: number): Attempt<TcpPipe> {
    let isCancelled = false;
    const connected = new Promise<TcpPipe>((resolve, reject) => {
      const state: SocketState = {
        pipe: undefined,
        onOpen: (socket) => {
          // Too late: nobody waits for this connection any more.
          if (isCancelled) return void socket.terminate();
          state.pipe = this.#pipeOf(socket, "outbound", () => {});
          resolve(state.pipe);
        },
        // Reset before it was seen open: the promise of the connection then says nothing.
        onLost: (error) => reject(error ?? new Error("reset while it connected")),
      };
      Bun.connect<SocketState>({ hostname: address, port, data: state, socket: this.#handler }).catch(reject);
    });
    return { connected, cancel: () => void (isCancelled = true) };
  }
}

const keyOf = ({ host, port, isIpv6Only }: ListenAddress): string => `${host} ${port} ${isIpv6Only}`;
const isLoopback = (address: string): boolean => address === "::1" || address.startsWith("127.");
