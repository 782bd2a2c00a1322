/**
 * transport.tcp: links over TCP, IPv4 and IPv6. Listens where it is told, for as long as it runs: an address that cannot
 * be bound is retried, one that comes is bound, the links over one that went are closed at once, so that the dialer goes
 * another way. Never trusts who connects: strangers are counted before anything is made for them.
 */
import { advertisedHosts, definePlugin, formatEndpoint, isListen, planListen, type Timer } from "@godwit/sdk";
import { Tcp } from "@godwit/sdk/tcp";
import { z } from "zod/mini";
import { parseTcpEndpoint } from "./endpoint.ts";

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
    const tcp = new Tcp(ctx, "tcp");
    ctx.own(() => tcp.close());
    ctx.transport.register({
      schemes: ["tcp"],
      dial: async (endpoint, signal, _expected, terms) =>
        tcp.dial(endpoint, parseTcpEndpoint(endpoint), signal, terms),
    });
    let lastReason: string | undefined;
    let retry: Timer | undefined;
    const check = () => {
      const addresses = ctx.network.addresses();
      const reason = tcp.listen(planListen(listen, addresses));
      const found = tcp.listening.flatMap((bound) =>
        advertisedHosts(bound, addresses).map((host) => formatEndpoint("tcp", host, bound.port)),
      );
      const sockets = tcp.listening.map(({ host, port }) => formatEndpoint("tcp", host, port));
      ctx.transport.listening(
        sockets.length === 0 ? [] : (advertise ?? found),
        advertise?.length === 0 ? [] : sockets,
      );
      retry?.cancel();
      retry = reason === "" ? undefined : ctx.clock.after(LISTEN_RETRY_MS, check);
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
    ctx.own(() => retry?.cancel());
  },
});
