/**
 * The dialling half: Bun's WebSocket client, through an HTTP proxy by CONNECT where one is configured. Where another named the endpoint, the
 * client is given an address that was judged and never the name, which could mean another address by then; through a proxy the proxy connects.
 */
import { type Clock, type DialTerms, formatEndpoint, GodwitError, withinTerms } from "@godwit/sdk";
import { claimDescriptor } from "@godwit/sdk/places";
import { PROTOCOL } from "./endpoint.ts";
import { WebSocketPipe, type Wire } from "./pipe.ts";

/** Of a name with more addresses the rest is not tried. */
const ADDRESSES_TRIED_MAX = 4;

export interface DialOptions {
  readonly proxy: string | undefined;
  readonly tls: { readonly ca: string | undefined; readonly isVerified: boolean };
  readonly clock: Clock;
  /** The addresses of a name now, what to try first in front. */
  resolve(host: string): Promise<readonly { readonly address: string }[]>;
}

/** Bun's options, which the web's type does not have. */
type Constructor = new (url: string, options: Readonly<Record<string, unknown>>) => WebSocket;

/** Rejects with GODWIT_DIAL_FAILED, GODWIT_ENDPOINT_REFUSED or the signal's reason. */
export async function dialWebSocket(
  url: URL,
  options: DialOptions,
  signal: AbortSignal,
  terms: DialTerms | undefined,
): Promise<WebSocketPipe> {
  if (terms === undefined || options.proxy !== undefined) return await connect(url, url, options, signal);
  const places = await judgedPlaces(url, terms, options, signal);
  for (const [index, place] of places.entries()) {
    try {
      return await connect(url, place, options, signal);
    } catch (error) {
      if (signal.aborted || index === places.length - 1) throw error;
    }
  }
  throw failed(url, "the name has no address");
}

/** The URL once for each address that may be connected to, in the resolver's order. */
async function judgedPlaces(
  url: URL,
  terms: DialTerms,
  { resolve }: DialOptions,
  signal: AbortSignal,
): Promise<URL[]> {
  const host = hostOf(url);
  signal.throwIfAborted();
  const aborted = Promise.withResolvers<never>();
  const onAbort = () => aborted.reject(signal.reason);
  signal.addEventListener("abort", onAbort, { once: true });
  const found = await Promise.race([resolve(host), aborted.promise])
    .catch((error: unknown) => {
      signal.throwIfAborted();
      throw failed(url, error instanceof Error ? error.message : String(error), error);
    })
    .finally(() => signal.removeEventListener("abort", onAbort));
  return withinTerms(url.href, found, terms)
    .slice(0, ADDRESSES_TRIED_MAX)
    .map(({ address }) => {
      const place = new URL(url);
      place.hostname = address.includes(":") ? `[${address}]` : address;
      return place;
    });
}

const hostOf = (url: URL): string => url.hostname.replace(/^\[|\]$/g, "");

const failed = (url: URL, why: string, cause?: unknown): GodwitError =>
  new GodwitError("GODWIT_DIAL_FAILED", `${url.href} cannot be reached: ${why}`, {
    kind: "transport",
    retry: "later",
    cause,
  });

/** `place` is `url` with an address in place of its name, or the same. */
function connect(url: URL, place: URL, options: DialOptions, signal: AbortSignal): Promise<WebSocketPipe> {
  return new Promise((resolve, reject) => {
    if (signal.aborted) return reject(signal.reason);
    const fail = (why: string, cause?: unknown) => reject(failed(url, why, cause));
    const { proxy, tls, clock } = options;
    let socket: WebSocket;
    try {
      claimDescriptor("link");
      socket = new (WebSocket as unknown as Constructor)(place.href, {
        protocols: [PROTOCOL],
        perMessageDeflate: false,
        ...(proxy === undefined ? {} : { proxy }),
        ...(place === url ? {} : { headers: { Host: url.host } }),
        tls: {
          rejectUnauthorized: tls.isVerified,
          ...(tls.ca === undefined ? {} : { ca: tls.ca }),
          // The certificate is the name's.
          ...(place === url ? {} : { serverName: hostOf(url) }),
        },
      });
    } catch (error) {
      return fail(error instanceof Error ? error.message : String(error), error);
    }
    socket.binaryType = "arraybuffer";
    let pipe: WebSocketPipe | undefined;
    let why: string | undefined;
    const onAbort = () => {
      socket.onopen = () => socket.terminate();
      socket.terminate();
      reject(signal.reason);
    };
    const settle = () => signal.removeEventListener("abort", onAbort);
    signal.addEventListener("abort", onAbort, { once: true });
    socket.onopen = () => {
      settle();
      if (socket.protocol !== PROTOCOL) {
        socket.terminate();
        return fail("it does not speak for Godwit");
      }
      pipe = new WebSocketPipe(wireOf(socket), endsOf(url), clock);
      resolve(pipe);
    };
    socket.onmessage = ({ data }: MessageEvent<unknown>) => {
      if (data instanceof ArrayBuffer) pipe?.onData(new Uint8Array(data));
      else socket.terminate();
    };
    socket.onerror = (event) => {
      why = event.message;
    };
    socket.onclose = ({ code }) => {
      settle();
      if (pipe === undefined) fail(why ?? `closed with code ${code}`);
      else pipe.onGone();
    };
  });
}

const wireOf = (socket: WebSocket): Wire => ({
  send: (bytes) => socket.send(bytes),
  get bufferedBytes() {
    return socket.bufferedAmount;
  },
  pause: () => void socket.pause(),
  resume: () => void socket.resume(),
  close: () => socket.close(),
  terminate: () => socket.terminate(),
});

function endsOf(url: URL) {
  const scheme = url.protocol.slice(0, -1);
  const port = Number(url.port === "" ? (scheme === "wss" ? 443 : 80) : url.port);
  const host = hostOf(url);
  return {
    direction: "outbound",
    local: `${scheme}://client`,
    remote: `${formatEndpoint(scheme, host, port)}${url.pathname}`,
  } as const;
}
