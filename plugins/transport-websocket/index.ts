/**
 * transport.websocket: links through whatever lets the web through: HTTP proxies, reverse proxies, port 443. TLS hides
 * that it is Godwit and proves nothing to it; the link inside proves who is there. docs/protocol/websocket.md
 */
import { readFile } from "node:fs/promises";
import {
  advertisedHosts,
  definePlugin,
  endpointRefused,
  formatEndpoint,
  GodwitError,
  isListen,
  planListen,
  type ListenAddress,
  type Timer,
} from "@godwit/sdk";
import { whyNotListening } from "@godwit/sdk/listening";
import { resolveHost } from "@godwit/sdk/tcp";
import { z } from "zod/mini";
import { dialWebSocket } from "./dial.ts";
import { namesOf, parseWebSocketEndpoint, PATH_DEFAULT } from "./endpoint.ts";
import { environmentProxy, isExempt, parseProxy, type Proxy } from "./proxy.ts";
import { WebSocketListener } from "./server.ts";

const LISTEN_RETRY_MS = 3_000;

/** A zone means nothing to those who read it elsewhere. */
const isAdvertisable = (text: string): boolean => {
  try {
    return !parseWebSocketEndpoint(text).host.includes("%");
  } catch {
    return false;
  }
};
const isProxy = (text: string): boolean =>
  text === "environment" || (/^https?:\/\/[^\s/]+\/?$/.test(text) && parseProxy(text) !== undefined);

const config = z.strictObject({
  /** Addresses, or interfaces, to listen on. None: it only dials. */
  listen: z._default(
    z
      .array(z.string().check(z.refine(isListen, { error: "expected address:port or interface:port" })))
      .check(z.maxLength(64)),
    [],
  ),
  /** Path under which it is found; everything else is not found. */
  path: z._default(
    z.string().check(z.regex(/^\/[\w./~-]{0,99}$/, { error: "expected a path like /godwit" })),
    PATH_DEFAULT,
  ),
  /** PEM files; without them the listener speaks plain HTTP, for a reverse proxy that has the certificate. */
  cert: z.optional(z.string()),
  key: z.optional(z.string()),
  /** Endpoints to publish instead of the addresses found. */
  advertise: z.optional(
    z
      .array(z.string().check(z.refine(isAdvertisable, { error: "expected wss://host/path" })))
      .check(z.maxLength(16)),
  ),
  /** Names that may stand in the Host header besides those of `advertise`. */
  hosts: z._default(
    z
      .array(z.string().check(z.regex(/^[\w.-]{1,253}$/, { error: "expected a host name" })))
      .check(z.maxLength(16)),
    [],
  ),
  /** HTTP proxy for dialling; "environment": what HTTPS_PROXY or HTTP_PROXY says. What NO_PROXY names is dialled without. */
  proxy: z.optional(
    z.string().check(z.refine(isProxy, { error: 'expected http://host:port or "environment"' })),
  ),
  /** PEM file of the authorities that sign the certificates of those we dial, instead of the system's. */
  ca: z.optional(z.string()),
  /** False: any certificate will do; the link proves the node all the same. */
  verify: z._default(z.boolean(), true),
});

export default definePlugin({
  id: "websocket",
  namespace: "transport",
  sdk: "^0.1.0",
  permissions: ["net.tcp"],
  config,
  async start(ctx, options) {
    const { listen, path, advertise } = options;
    if ((options.cert === undefined) !== (options.key === undefined))
      throw new GodwitError("GODWIT_CONFIG_INVALID", "cert and key belong together", { kind: "config" });
    const tls =
      options.cert === undefined || options.key === undefined
        ? undefined
        : { cert: await read(options.cert), key: await read(options.key) };
    const ca = options.ca === undefined ? undefined : await read(options.ca);
    const refused = ctx.counter(
      "refused",
      "connections of strangers that were refused, or gave way to others",
    );
    const names = namesOf(options.hosts, advertise ?? []);
    const bound = new Map<string, WebSocketListener>();
    ctx.own(() => {
      for (const listener of bound.values()) listener.stop(true);
      bound.clear();
    });
    ctx.transport.register({
      schemes: ["ws", "wss"],
      dial: async (endpoint, signal, _expected, terms) => {
        const target = parseWebSocketEndpoint(endpoint);
        // Whoever names an endpoint does not choose what is requested of whoever is there.
        if (terms !== undefined && target.path !== PATH_DEFAULT && target.path !== path)
          throw endpointRefused(endpoint, `its path is neither ${PATH_DEFAULT} nor this node's own`);
        const { env } = process;
        const said = options.proxy === "environment" ? environmentProxy(target.scheme, env) : options.proxy;
        const proxy = said === undefined || isExempt(target, env) ? undefined : proxyOf(endpoint, said);
        const { clock, random } = ctx;
        const client = {
          proxy,
          trust: { ca, isVerified: options.verify },
          clock,
          random,
          resolve: resolveHost,
        };
        return dialWebSocket(target, client, signal, terms);
      },
    });
    let lastReason: string | undefined;
    let retry: Timer | undefined;
    const check = () => {
      const addresses = ctx.network.addresses();
      const wanted = planListen(listen, addresses);
      const keys = new Set(wanted.map(keyOf));
      for (const [key, listener] of bound)
        if (!keys.has(key)) {
          bound.delete(key);
          listener.stop(false);
        }
      const reasons: string[] = [];
      for (const address of wanted) {
        if (bound.has(keyOf(address))) continue;
        try {
          const accept = ctx.transport.accept;
          const listener = new WebSocketListener({
            ...{ address, path, names, tls, clock: ctx.clock, accept },
            refused: () => refused.add(),
          });
          bound.set(keyOf(address), listener);
        } catch (error) {
          const why = whyNotListening(error, { protocol: "tcp", ...address, setting: "listen" });
          reasons.push(`cannot listen on ${formatEndpoint("ws", address.host, address.port)}: ${why}`);
        }
      }
      const scheme = tls === undefined ? "ws" : "wss";
      const found = [...bound.values()].flatMap(({ address }) =>
        advertisedHosts(address, addresses).map((host) => formatEndpoint(scheme, host, address.port) + path),
      );
      const sockets = [...bound.values()].map(
        ({ address }) => formatEndpoint(scheme, address.host, address.port) + path,
      );
      ctx.transport.listening(
        sockets.length === 0 ? [] : (advertise ?? found),
        advertise?.length === 0 ? [] : sockets,
      );
      const reason = reasons.join("; ");
      retry?.cancel();
      retry = reason === "" ? undefined : ctx.clock.after(LISTEN_RETRY_MS, check);
      if (reason === lastReason) return;
      lastReason = reason;
      if (reason !== "") ctx.log.warn("listen failed", { reason });
      ctx.health(reason === "" ? { state: "running" } : { state: "degraded", reason });
    };
    if (ctx.signal.aborted) return;
    check();
    ctx.network.onChange(check);
    ctx.own(() => retry?.cancel());
  },
});

const keyOf = ({ host, port }: ListenAddress): string => `${host} ${port}`;

/** What was said stays unsaid: it may hold a password. */
function proxyOf(endpoint: string, said: string): Proxy {
  const proxy = parseProxy(said);
  if (proxy !== undefined) return proxy;
  throw new GodwitError(
    "GODWIT_DIAL_FAILED",
    `${endpoint} cannot be reached: the environment's proxy is not http://host:port`,
    { kind: "transport", retry: "later" },
  );
}

async function read(path: string): Promise<string> {
  try {
    return await readFile(path, "utf8");
  } catch (cause) {
    const why = cause instanceof Error ? cause.message : String(cause);
    throw new GodwitError("GODWIT_CONFIG_INVALID", `cannot read ${path}: ${why}`, { kind: "config", cause });
  }
}
