/**
 * transport.udp: links over UDP, one socket for each address it listens on; dials from the same sockets, so that a NAT
 * shows others one address for both. Never trusts a source address: the link proves who is there. docs/protocol/udp.md
 */
import { lookup } from "node:dns/promises";
import {
  advertisedHosts,
  definePlugin,
  formatEndpoint,
  GodwitError,
  isListen,
  isWildcard,
  planListen,
  withinTerms,
  type DialTerms,
  type ListenAddress,
  type Pipe,
  type PluginContext,
  type Timer,
} from "@godwit/sdk";
import { whyNotListening } from "@godwit/sdk/listening";
import { z } from "zod/mini";
import { parseUdpEndpoint } from "./endpoint.ts";
import { MTU_BASE, MTU_MAX } from "./path-mtu.ts";
import type { Address, UdpPipe } from "./pipe.ts";
import { type SocketEvents, UdpSocket } from "./socket.ts";

const LISTEN_RETRY_MS = 3_000;
/** Of a name with more addresses the rest is not tried. */
const ADDRESSES_TRIED_MAX = 4;

const listenEntry = z.string().check(
  z.refine(isListen, {
    error: 'expected address:port, [IPv6]:port or interface:port, e.g. "[::]:4861" or "eth0:4861"',
  }),
);

const config = z.strictObject({
  /** Addresses, or interfaces, to listen on. */
  listen: z._default(z.array(listenEntry).check(z.maxLength(64)), ["[::]:4861"]),
  /** Endpoints to publish instead of the addresses found. */
  advertise: z.optional(z.array(z.string().check(z.startsWith("udp://"))).check(z.maxLength(16))),
  /** Largest datagram that is tried, in bytes of UDP payload. */
  mtu_max: z._default(z.int().check(z.minimum(MTU_BASE), z.maximum(MTU_MAX)), MTU_MAX),
});

export default definePlugin({
  id: "udp",
  namespace: "transport",
  sdk: "^0.1.0",
  permissions: ["net.udp"],
  config,
  async start(ctx, { listen, advertise, mtu_max: mtuMax }) {
    let listenReason = "";
    const tell = () => {
      const reason = [listenReason, sockets.narrowReason].filter((text) => text !== "").join("; ");
      ctx.health(reason === "" ? { state: "running" } : { state: "degraded", reason });
    };
    const sockets = new Sockets(ctx, mtuMax, tell);
    ctx.own(() => sockets.close());
    ctx.transport.register({
      schemes: ["udp"],
      dial: (endpoint, signal, _expected, terms) => sockets.dial(endpoint, signal, terms),
    });
    let retry: Timer | undefined;
    const check = async () => {
      const reason = await sockets.listen(planListen(listen, ctx.network.addresses()));
      if (ctx.signal.aborted) return;
      const found = sockets.listening.flatMap((socket) =>
        advertisedHosts(socket.wanted, ctx.network.addresses()).map((host) =>
          formatEndpoint("udp", host, socket.socket.port),
        ),
      );
      const bound = sockets.listening.map(({ wanted, socket }) =>
        formatEndpoint("udp", wanted.host, socket.port),
      );
      ctx.transport.listening(
        bound.length === 0 ? [] : (advertise ?? found),
        advertise?.length === 0 ? [] : bound,
      );
      retry?.cancel();
      retry = reason === "" ? undefined : ctx.clock.after(LISTEN_RETRY_MS, again);
      if (reason === listenReason) return;
      listenReason = reason;
      if (reason !== "") ctx.log.warn("listen failed", { reason });
      tell();
    };
    // One at a time: an address may come and go again while its socket is being opened.
    const again = () => {
      checking = checking.then(check);
      void checking;
    };
    let checking = check();
    ctx.network.onChange(again);
    ctx.own(() => retry?.cancel());
    await checking;
  },
});

interface Listening {
  readonly wanted: ListenAddress;
  readonly socket: UdpSocket;
}

class Sockets {
  readonly #ctx: PluginContext;
  readonly #mtuMax: number;
  readonly #events: SocketEvents;
  /** What each path was last said to carry that does not carry the base whole; bounded by the pipes. */
  readonly #narrow = new Map<UdpPipe, { readonly bytes: number; readonly isCut: boolean }>();
  readonly #onNarrow: () => void;
  readonly #listening = new Map<string, Listening>();
  /** For dialling where no listener fits; by family. */
  readonly #dialling = new Map<4 | 6, Promise<UdpSocket>>();
  #isClosed = false;

  /** `onNarrow`: `narrowReason` may have changed. */
  constructor(ctx: PluginContext, mtuMax: number, onNarrow: () => void) {
    this.#ctx = ctx;
    this.#mtuMax = mtuMax;
    this.#onNarrow = onNarrow;
    const dropped = ctx.counter("dropped", "datagrams not taken or not sent", ["reason"]);
    const moved = ctx.counter("moved", "connections whose far end changed its address");
    this.#events = {
      screen: (datagram, remote) => ctx.transport.screen(datagram, remote),
      accept: (pipe) => ctx.transport.accept(pipe),
      dropped: (reason) => dropped.add(1, { reason }),
      moved: () => moved.add(),
      sized: (pipe) => this.#sized(pipe),
    };
  }

  /** Why something does not fit some path, or nothing. What crosses in fragments lacks nothing. */
  get narrowReason(): string {
    const first = [...this.#narrow].find(([, { isCut }]) => !isCut);
    if (first === undefined) return "";
    const [pipe, { bytes }] = first;
    return `the path to ${pipe.remote} carries datagrams of ${bytes} bytes and no fragments: no streams go there, nor whatever else needs larger frames`;
  }

  get listening(): readonly Listening[] {
    return [...this.#listening.values()];
  }

  /** Opens what is missing and closes what is not wanted any more. Answers why something failed, or nothing. */
  async listen(wanted: readonly ListenAddress[]): Promise<string> {
    const keys = new Set(wanted.map(keyOf));
    for (const [key, { socket }] of this.#listening)
      if (!keys.has(key)) {
        this.#listening.delete(key);
        socket.close();
      }
    const reasons: string[] = [];
    for (const address of wanted) {
      if (this.#listening.has(keyOf(address)) || this.#isClosed) continue;
      try {
        const socket = await this.#open(address.host, address.port);
        if (this.#isClosed) socket.close();
        else this.#listening.set(keyOf(address), { wanted: address, socket });
      } catch (error) {
        const why = whyNotListening(error, { protocol: "udp", ...address, setting: "listen" });
        reasons.push(`cannot listen on ${formatEndpoint("udp", address.host, address.port)}: ${why}`);
      }
    }
    return reasons.join("; ");
  }

  async dial(endpoint: string, signal: AbortSignal, terms: DialTerms | undefined): Promise<Pipe> {
    signal.throwIfAborted();
    const { host, port } = parseUdpEndpoint(endpoint);
    const found = withinTerms(endpoint, await untilAborted(resolve(host), signal, endpoint), terms);
    // One family on one socket; the other gets its turn when this one has no way.
    const family = found.some((entry) => entry.family === 6) && this.#hasIpv6 ? 6 : found[0]!.family;
    const addresses = found
      .filter((entry) => entry.family === family)
      .map(({ address }): Address => ({ host: address, port }));
    const all = found.map(({ address }): Address => ({ host: address, port }));
    const dual = this.#listener("::");
    const socket =
      dual ?? (await untilAborted(this.#socketFor(family, addresses[0]!.host), signal, endpoint));
    signal.throwIfAborted();
    return socket.dial((dual === undefined ? addresses : all).slice(0, ADDRESSES_TRIED_MAX));
  }

  close(): void {
    this.#isClosed = true;
    for (const { socket } of this.#listening.values()) socket.close();
    this.#listening.clear();
    for (const opening of this.#dialling.values()) opening.then((socket) => socket.close()).catch(() => {});
    this.#dialling.clear();
  }

  #sized(pipe: UdpPipe): void {
    const { narrow } = pipe;
    const before = this.#narrow.get(pipe);
    if (narrow?.bytes === before?.bytes && narrow?.isCut === before?.isCut) return;
    const { remote } = pipe;
    if (narrow === undefined) {
      this.#narrow.delete(pipe);
      if (!pipe.isClosed) this.#ctx.log.info("path carries whole datagrams again", { remote });
    } else {
      this.#narrow.set(pipe, narrow);
      const { bytes, isCut } = narrow;
      if (isCut) this.#ctx.log.info("small path, datagrams cross in fragments", { remote, bytes });
      else this.#ctx.log.warn("small path without fragments", { remote, bytes });
    }
    if (!this.#isClosed) this.#onNarrow();
  }

  get #hasIpv6(): boolean {
    return this.#ctx.network
      .addresses()
      .some(({ family, scope }) => family === 6 && scope !== "host" && scope !== "link");
  }

  #listener(host: string): UdpSocket | undefined {
    return this.listening.find(({ wanted }) => wanted.host === host)?.socket;
  }

  async #socketFor(family: 4 | 6, host: string): Promise<UdpSocket> {
    const wildcard = this.#listener(family === 4 ? "0.0.0.0" : "::");
    if (wildcard !== undefined) return wildcard;
    const isLoopback = (text: string) => text === "::1" || text.startsWith("127.");
    const own = this.listening.find(
      ({ wanted }) =>
        !isWildcard(wanted.host) &&
        wanted.host.includes(":") === (family === 6) &&
        isLoopback(wanted.host) === isLoopback(host) &&
        !wanted.host.includes("%"),
    );
    if (own !== undefined) return own.socket;
    let opening = this.#dialling.get(family);
    if (opening === undefined) {
      opening = this.#open(family === 4 ? "0.0.0.0" : "::", 0);
      this.#dialling.set(family, opening);
      opening.catch(() => this.#dialling.delete(family));
    }
    return opening;
  }

  #open(host: string, port: number): Promise<UdpSocket> {
    const { clock, random } = this.#ctx;
    return UdpSocket.open({ host, port, mtuMax: this.#mtuMax, clock, random, events: this.#events });
  }
}

const keyOf = ({ host, port }: ListenAddress): string => `${host} ${port}`;

async function resolve(
  host: string,
): Promise<readonly { readonly address: string; readonly family: 4 | 6 }[]> {
  if (host.includes(":")) return [{ address: host, family: 6 }];
  const found = await lookup(host, { all: true, verbatim: true });
  return found.map(({ address, family }) => ({ address, family: family === 6 ? 6 : 4 }));
}

/** Rejects with the signal's reason as soon as it aborts, else with a transport error. */
async function untilAborted<T>(promise: Promise<T>, signal: AbortSignal, endpoint: string): Promise<T> {
  const aborted = Promise.withResolvers<never>();
  const onAbort = () => aborted.reject(signal.reason);
  signal.addEventListener("abort", onAbort, { once: true });
  try {
    return await Promise.race([promise, aborted.promise]);
  } catch (cause) {
    if (signal.aborted) throw signal.reason;
    const why = cause instanceof Error ? cause.message : String(cause);
    throw new GodwitError("GODWIT_DIAL_FAILED", `${endpoint} cannot be reached: ${why}`, {
      kind: "transport",
      retry: "later",
      cause,
    });
  } finally {
    signal.removeEventListener("abort", onAbort);
  }
}
