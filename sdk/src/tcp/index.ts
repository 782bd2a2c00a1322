/**
 * TCP for transports: sockets that listen where they are told, dialling by RFC 8305, and pipes over both. `transport-tcp`
 * and transports whose overlay is an interface of the machine share it. Owns its sockets and no policy: what to listen on,
 * what to publish and what to dial is the plugin's. Never trusts who connects: strangers are counted before anything is
 * made for them.
 */
import type { Socket, SocketHandler } from "bun";
import type { DialTerms, PluginContext } from "../context.ts";
import { formatEndpoint, sourceGroup, type HostPort, type ListenAddress } from "../endpoint.ts";
import { claimDescriptor, type Place, Places } from "../places.ts";
import { whyNotListening } from "../listening.ts";
import { withinTerms } from "../terms.ts";
import { type Attempt, dialAny, resolveHost } from "./dial.ts";
import { type SocketState, TcpPipe } from "./pipe.ts";

export { type Attempt, dialAny, type DialSeams, interleave, type Resolved, resolveHost } from "./dial.ts";
export { type SocketState, TcpPipe } from "./pipe.ts";

/**
 * Inbound connections whose far end has proven nothing, those that are being closed included: in all, and of one source. Above
 * the bounds of handshakes that the node sets, so that it chooses first whose ends; these hold for what its choices leave behind.
 */
export const STRANGERS_MAX = 1_024;
export const STRANGERS_PER_SOURCE_MAX = 512;

export interface TcpOptions {
  /** The key of the plugin's table that chooses the port, for health; by default `listen`. False: none does. */
  readonly setting?: string | false;
}

export class Tcp {
  readonly #ctx: PluginContext;
  readonly #scheme: string;
  readonly #setting: string | undefined;
  readonly #strangers = new Places({ max: STRANGERS_MAX, perSourceMax: STRANGERS_PER_SOURCE_MAX });
  readonly #refused;
  readonly #pipes = new Set<TcpPipe>();
  readonly #bound = new Map<string, { readonly address: ListenAddress; stop(isOver: boolean): void }>();
  readonly #handler: SocketHandler<SocketState> = {
    open: (socket) => socket.data.onOpen(socket),
    data: (socket, bytes) => socket.data.pipe?.onData(bytes),
    drain: (socket) => socket.data.pipe?.onDrain(),
    end: (socket) => {
      socket.data.pipe?.onEnd();
      socket.end();
    },
    close: (socket, error) => this.#onGone(socket, error),
    error: (socket, error) => this.#onGone(socket, error),
  };

  /** `scheme` is that of the endpoints its pipes show. */
  constructor(ctx: PluginContext, scheme: string, { setting = "listen" }: TcpOptions = {}) {
    this.#ctx = ctx;
    this.#setting = setting === false ? undefined : setting;
    this.#scheme = scheme;
    this.#refused = ctx.counter(
      "refused",
      "connections of strangers that were refused, or gave way to others",
    );
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
        const why = whyNotListening(error, { protocol: "tcp", ...address, setting: this.#setting });
        reasons.push(`cannot listen on ${formatEndpoint(this.#scheme, address.host, address.port)}: ${why}`);
      }
    }
    return reasons.join("; ");
  }

  /** `endpoint` is what errors name. Rejects with the signal's reason, with GODWIT_DIAL_FAILED, or with GODWIT_ENDPOINT_REFUSED by the terms. */
  async dial(
    endpoint: string,
    { host, port }: HostPort,
    signal: AbortSignal,
    terms?: DialTerms,
  ): Promise<TcpPipe> {
    return dialAny(endpoint, host, signal, {
      clock: this.#ctx.clock,
      resolve: async (name) => withinTerms(endpoint, await resolveHost(name), terms),
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
    data.place?.release();
    this.#onStrangers();
    if (data.pipe === undefined) data.onLost?.(error);
    else data.pipe.onGone(error);
  }

  #accept(socket: Socket<SocketState>): void {
    socket.data = { pipe: undefined, onOpen() {} };
    // It may be gone before it was accepted.
    if (socket.readyState <= 0) return void socket.terminate();
    const place = this.#strangers.accept(socket, sourceGroup(socket.remoteAddress), () => {
      this.#refused.add();
      socket.data.pipe?.cut(new Error("made room for others"));
    });
    if (place === undefined) {
      this.#refused.add();
      return void socket.terminate();
    }
    const state = socket.data;
    state.place = place;
    const pipe = this.#pipeOf(socket, "inbound", place);
    this.#onStrangers();
    state.pipe = pipe;
    this.#ctx.transport.accept(pipe);
  }

  #pipeOf(socket: Socket<SocketState>, direction: "inbound" | "outbound", place?: Place): TcpPipe {
    const pipe: TcpPipe = new TcpPipe(socket, direction, this.#scheme, {
      after: (delayMs, fn) => this.#ctx.clock.after(delayMs, fn),
      onProven: () => {
        place?.release();
        this.#onStrangers();
      },
      onOver: () => {
        place?.stand("leaving");
        this.#pipes.delete(pipe);
      },
    });
    this.#pipes.add(pipe);
    return pipe;
  }

  #connect(address: string, port: number): Attempt<TcpPipe> {
    let isCancelled = false;
    const connected = new Promise<TcpPipe>((resolve, reject) => {
      claimDescriptor("link");
      const state: SocketState = {
        pipe: undefined,
        onOpen: (socket) => {
          // Too late: nobody waits for this connection any more.
          if (isCancelled) return void socket.terminate();
          try {
            claimDescriptor("link", socket);
          } catch (error) {
            return reject(error);
          }
          state.pipe = this.#pipeOf(socket, "outbound");
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
