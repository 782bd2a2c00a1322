/**
 * transport.yggdrasil: links over the Yggdrasil overlay that a daemon on this machine keeps. Reads the daemon's address
 * from its admin socket, listens on that address alone, dials nothing outside 200::/7, and tells the daemon of the peers
 * it is configured with. Never starts the daemon and never sees its key.
 */
import {
  definePlugin,
  formatEndpoint,
  GodwitError,
  parseHostPort,
  type HostPort,
  type PluginContext,
} from "@godwit/sdk";
import { Tcp } from "@godwit/sdk/tcp";
import { z } from "zod/mini";
import { type AdminAddress, ask, parseAdmin, parsePeerCount, parseSelf } from "./admin.ts";

const SCHEME = "yggdrasil";
const POLL_MS = 3_000;

const config = z.strictObject({
  /** The daemon's admin socket. */
  admin: z._default(
    z.string().check(
      z.refine((text) => parseAdmin(text) !== undefined, {
        error: 'expected unix:///path or tcp://host:port, e.g. "unix:///var/run/yggdrasil/yggdrasil.sock"',
      }),
    ),
    "unix:///var/run/yggdrasil/yggdrasil.sock",
  ),
  /** TCP port on the overlay's address. */
  port: z._default(z.int().check(z.minimum(1), z.maximum(65_535)), 4_862),
  /** Peers of the overlay that the daemon is told to call, as it writes them itself. */
  peers: z._default(
    z
      .array(z.string().check(z.regex(/^(?:tcp|tls|quic|ws|wss|unix|socks):\/\/\S{1,240}$/)))
      .check(z.maxLength(64)),
    [],
  ),
});

export default definePlugin({
  id: "yggdrasil",
  namespace: "transport",
  sdk: "^0.1.0",
  permissions: ["net.tcp"],
  config,
  start(ctx, { admin, port, peers }) {
    const tcp = new Tcp(ctx, SCHEME);
    ctx.own(() => tcp.close());
    ctx.transport.register({
      schemes: [SCHEME],
      dial: async (endpoint, signal) => tcp.dial(endpoint, parseEndpoint(endpoint), signal),
    });
    const overlay = new Overlay(ctx, tcp, parseAdmin(admin)!, port, peers);
    ctx.spawn("daemon", (signal) => overlay.follow(signal));
  },
});

/** Throws GODWIT_ENDPOINT_INVALID for whatever is no address of 200::/7: a hint must not lead out of the overlay. */
export function parseEndpoint(endpoint: string): HostPort {
  const found = parseHostPort(endpoint.replace(/^yggdrasil:\/\//, ""));
  if (/^0?[23][0-9a-fA-F]{2}:[0-9a-fA-F:]+$/.test(found.host) && found.port > 0) return found;
  throw new GodwitError("GODWIT_ENDPOINT_INVALID", `${endpoint} is no address of 200::/7 with a port`, {
    kind: "config",
  });
}

/** The daemon as it was last seen. */
class Overlay {
  readonly #ctx: PluginContext;
  readonly #tcp: Tcp;
  readonly #admin: AdminAddress;
  readonly #port: number;
  readonly #peers: readonly string[];
  readonly #neighbours;
  #address: string | undefined;
  #reason: string | undefined;
  /** Peers that the daemon has from here, not from its own configuration. */
  readonly #added = new Set<string>();
  #listening = "";

  constructor(ctx: PluginContext, tcp: Tcp, admin: AdminAddress, port: number, peers: readonly string[]) {
    this.#ctx = ctx;
    this.#tcp = tcp;
    this.#admin = admin;
    this.#port = port;
    this.#peers = peers;
    this.#neighbours = ctx.gauge("neighbours", "nodes that the daemon is connected to");
  }

  async follow(signal: AbortSignal): Promise<void> {
    try {
      while (!signal.aborted) {
        await this.#look(signal);
        await pause(this.#ctx, signal);
      }
    } finally {
      await this.#forget();
    }
  }

  async #look(signal: AbortSignal): Promise<void> {
    const { clock } = this.#ctx;
    const request = (name: string, args = {}) => ask(this.#admin, name, args, { clock, signal });
    try {
      const { address } = parseSelf(await request("getself"));
      // A daemon that was started anew knows nothing of them. One that has a peer already refuses, and keeps its own.
      for (const uri of this.#peers)
        await request("addpeer", { uri }).then(
          () => this.#added.add(uri),
          () => {},
        );
      this.#neighbours.set(parsePeerCount(await request("getpeers")));
      if (address !== this.#address) {
        if (this.#address !== undefined) this.#tcp.closeVanished(new Set([address]));
        this.#address = address;
        this.#ctx.log.info("overlay address", { address });
      }
      const failure = this.#tcp.listen([{ host: address, port: this.#port, isIpv6Only: true }]);
      this.#tell(failure);
    } catch (error) {
      if (signal.aborted) return;
      this.#neighbours.set(0);
      this.#tcp.listen([]);
      this.#tell(error instanceof Error ? error.message : String(error));
    }
  }

  /** "" when all is well. */
  #tell(reason: string): void {
    const listening = this.#tcp.listening.map(({ host, port }) => formatEndpoint(SCHEME, host, port));
    if (listening.join() !== this.#listening) this.#ctx.transport.listening(listening);
    this.#listening = listening.join();
    if (reason === this.#reason) return;
    this.#reason = reason;
    if (reason !== "") this.#ctx.log.warn("overlay unusable", { reason });
    this.#ctx.health(reason === "" ? { state: "running" } : { state: "degraded", reason });
  }

  async #forget(): Promise<void> {
    const { clock } = this.#ctx;
    const signal = new AbortController().signal;
    await Promise.allSettled(
      [...this.#added].map((uri) => ask(this.#admin, "removepeer", { uri }, { clock, signal })),
    );
  }
}

function pause({ clock }: PluginContext, signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    if (signal.aborted) return resolve();
    const timer = clock.after(POLL_MS, done);
    function done() {
      timer.cancel();
      signal.removeEventListener("abort", done);
      resolve();
    }
    signal.addEventListener("abort", done, { once: true });
  });
}
