/**
 * The dialling half: which address is connected to, through which proxy, and what it has to prove. Where another named the endpoint
 * only addresses that were judged are connected to, and the name stays the one of the request and the certificate; through a proxy
 * the proxy looks up and connects. docs/protocol/websocket.md
 */
import {
  type Clock,
  type DialTerms,
  formatEndpoint,
  GodwitError,
  type Random,
  withinTerms,
} from "@godwit/sdk";
import { dialAny, type Resolved } from "@godwit/sdk/tcp";
import { openWebSocket } from "./client.ts";
import { type ConnectionEvents, connectDirectly, connectThrough, type Trust } from "./connection.ts";
import { formatWebSocketEndpoint, type WebSocketEndpoint, withoutZone } from "./endpoint.ts";
import type { WebSocketPipe } from "./pipe.ts";
import type { Proxy } from "./proxy.ts";

export interface DialOptions {
  readonly proxy: Proxy | undefined;
  readonly trust: Trust;
  readonly clock: Clock;
  readonly random: Random;
  /** The addresses of a name now, what to try first in front; an IPv6 address is its own. */
  resolve(host: string): Promise<readonly Resolved[]>;
}

/** Rejects with GODWIT_DIAL_FAILED, GODWIT_ENDPOINT_REFUSED or the signal's reason. */
export function dialWebSocket(
  endpoint: WebSocketEndpoint,
  options: DialOptions,
  signal: AbortSignal,
  terms: DialTerms | undefined,
): Promise<WebSocketPipe> {
  const { scheme, host, port, path, hostHeader } = endpoint;
  const text = formatWebSocketEndpoint(endpoint);
  const { proxy, trust, clock, random, resolve } = options;
  const name = withoutZone(host);
  const tls = scheme === "wss" ? { ...trust, name } : undefined;
  const authority = formatEndpoint("", name, port).replace("://", "");
  const ends = { local: `${scheme}://client`, remote: formatEndpoint(scheme, name, port) + path };
  if (proxy !== undefined && name !== host) return Promise.reject(zoneThroughProxy(text));
  const connect = (address: string, events: ConnectionEvents) =>
    proxy === undefined
      ? connectDirectly(address, port, tls, events)
      : connectThrough(proxy, address, authority, trust, tls, events);
  return dialAny(text, proxy?.host ?? host, signal, {
    clock,
    resolve: async (wanted) => {
      const found = await resolve(wanted);
      return proxy === undefined ? withinTerms(text, found, terms) : found;
    },
    connect: (address) =>
      openWebSocket({
        ...{ hostHeader, path, ends, clock, random },
        connect: (events) => connect(address, events),
      }),
    discard: (pipe) => pipe.close(),
  });
}

const zoneThroughProxy = (endpoint: string): GodwitError =>
  new GodwitError(
    "GODWIT_DIAL_FAILED",
    `${endpoint} cannot be reached: the zone of an address means nothing to a proxy; name its host in NO_PROXY`,
    { kind: "transport", retry: "later" },
  );
