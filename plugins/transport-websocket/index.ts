/**
 * transport.websocket: links through whatever lets the web through: HTTP proxies, reverse proxies, port 443. TLS hides
 * that it is Godwit and proves nothing to it; the link inside proves who is there. docs/protocol/websocket.md
 */
import { lookup } from "node:dns/promises";
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
} from "@godwit/sdk";
import { z } from "zod/mini";
import { dialWebSocket } from "./dial.ts";
import { namesOf, parseWebSocketEndpoint, PATH_DEFAULT } from "./endpoint.ts";
import { WebSocketListener } from "./server.ts";

const LISTEN_RETRY_MS = 3_000;

const resolve = (host: string) => lookup(host, { all: true, verbatim: true });

const isEndpoint = (text: string): boolean => {
  try {
    return parseWebSocketEndpoint(text) !== undefined;
  } catch {
    return false;
  }
};
const isProxy = (text: string): boolean => text === "environment" || /^https?:\/\/[^\s/]+\/?$/.test(text);

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
      .array(z.string().check(z.refine(isEndpoint, { error: "expected wss://host/path" })))
      .check(z.maxLength(16)),
  ),
  /** Names that may stand in the Host header besides those of `advertise`. */
  hosts: z._default(
    z
      .array(z.string().check(z.regex(/^[\w.-]{1,253}$/, { error: "expected a host name" })))
      .check(z.maxLength(16)),
    [],
  ),
  /** HTTP proxy for dialling; "environment": what HTTPS_PROXY or HTTP_PROXY says. */
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
        const url = parseWebSocketEndpoint(endpoint);
        // Whoever names an endpoint does not choose what is requested of whoever is there.
        if (terms !== undefined && url.pathname !== PATH_DEFAULT && url.pathname !== path)
          throw endpointRefused(endpoint, `its path is neither ${PATH_DEFAULT} nor this node's own`);
        const proxy = options.proxy === "environment" ? environmentProxy(url) : options.proxy;
        const client = { proxy, tls: { ca, isVerified: options.verify }, clock: ctx.clock, resolve };
        return dialWebSocket(url, client, signal, terms);
      },
    });
    let lastReason: string | undefined;
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
          const why = error instanceof Error ? error.message : String(error);
          reasons.push(`cannot listen on ${formatEndpoint("ws", address.host, address.port)}: ${why}`);
        }
      }
      const scheme = tls === undefined ? "ws" : "wss";
      const found = [...bound.values()].flatMap(({ address }) =>
        advertisedHosts(address, addresses).map((host) => formatEndpoint(scheme, host, address.port) + path),
      );
      ctx.transport.listening(bound.size === 0 ? [] : (advertise ?? found));
      const reason = reasons.join("; ");
      if (reason === lastReason) return;
      lastReason = reason;
      if (reason !== "") ctx.log.warn("listen failed", { reason });
      ctx.health(reason === "" ? { state: "running" } : { state: "degraded", reason });
    };
    if (ctx.signal.aborted) return;
    check();
    ctx.network.onChange(check);
    let retry = ctx.clock.after(LISTEN_RETRY_MS, function onRetry() {
      if (lastReason !== "") check();
      retry = ctx.clock.after(LISTEN_RETRY_MS, onRetry);
    });
    ctx.own(() => retry.cancel());
  },
});

const keyOf = ({ host, port }: ListenAddress): string => `${host} ${port}`;

/** As curl and most others read them. */
function environmentProxy(url: URL): string | undefined {
  const env = process.env;
  const names = url.protocol === "wss:" ? ["HTTPS_PROXY", "https_proxy"] : ["HTTP_PROXY", "http_proxy"];
  return names.map((name) => env[name]).find((value) => value !== undefined && value !== "");
}

async function read(path: string): Promise<string> {
  try {
    return await readFile(path, "utf8");
  } catch (cause) {
    const why = cause instanceof Error ? cause.message : String(cause);
    throw new GodwitError("GODWIT_CONFIG_INVALID", `cannot read ${path}: ${why}`, { kind: "config", cause });
  }
}
