/** The dialling half: Bun's WebSocket client, through an HTTP proxy by CONNECT where one is configured. */
import { formatEndpoint, GodwitError, type Clock } from "@godwit/sdk";
import { PROTOCOL } from "./endpoint.ts";
import { WebSocketPipe, type Wire } from "./pipe.ts";

export interface DialOptions {
  readonly proxy: string | undefined;
  readonly tls: { readonly ca: string | undefined; readonly isVerified: boolean };
  readonly clock: Clock;
}

/** Bun's options, which the web's type does not have. */
type Constructor = new (url: string, options: Readonly<Record<string, unknown>>) => WebSocket;

/** Rejects with GODWIT_DIAL_FAILED or the signal's reason. */
export function dialWebSocket(url: URL, options: DialOptions, signal: AbortSignal): Promise<WebSocketPipe> {
  return new Promise((resolve, reject) => {
    if (signal.aborted) return reject(signal.reason);
    const fail = (why: string, cause?: unknown) =>
      reject(
        new GodwitError("GODWIT_DIAL_FAILED", `${url.href} cannot be reached: ${why}`, {
          kind: "transport",
          retry: "later",
          cause,
        }),
      );
    const { proxy, tls, clock } = options;
    let socket: WebSocket;
    try {
      socket = new (WebSocket as unknown as Constructor)(url.href, {
        protocols: [PROTOCOL],
        perMessageDeflate: false,
        ...(proxy === undefined ? {} : { proxy }),
        tls: { rejectUnauthorized: tls.isVerified, ...(tls.ca === undefined ? {} : { ca: tls.ca }) },
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
  const host = url.hostname.replace(/^\[|\]$/g, "");
  return {
    direction: "outbound",
    local: `${scheme}://client`,
    remote: `${formatEndpoint(scheme, host, port)}${url.pathname}`,
  } as const;
}
