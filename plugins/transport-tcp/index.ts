/**
 * transport.tcp: links over TCP. Listens where it is told and publishes what others can dial; an address that cannot
 * be bound is retried, because a node with nobody on site must heal when the address appears or comes free.
 */
import type { Socket, SocketHandler } from "bun";
import { definePlugin, GodwitError, type PluginContext } from "@godwit/sdk";
import { z } from "zod/mini";
import {
  formatTcpEndpoint,
  parseHostPort,
  parseTcpEndpoint,
  reachableEndpoints,
  type HostPort,
} from "./endpoint.ts";
import { TcpPipe, type SocketState } from "./pipe.ts";

const LISTEN_RETRY_MS = 3_000;
const ADDRESS_CHECK_MS = 30_000;

const address = z
  .string()
  .check(
    z.refine(isAddress, { error: 'expected host:port or [IPv6]:port, e.g. "0.0.0.0:4860" or "[::]:4860"' }),
  );

const config = z.strictObject({
  /** Addresses to listen on. */
  listen: z._default(z.array(address).check(z.maxLength(64)), ["0.0.0.0:4860"]),
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
    const handler = socketHandler();
    ctx.transport.register({
      schemes: ["tcp"],
      dial: async (endpoint, signal) => dialTcp(ctx, handler, endpoint, signal),
    });
    const bound = new Map<string, HostPort>();
    const publish = () =>
      ctx.transport.listening(
        bound.size === 0 ? [] : (advertise ?? [...bound.values()].flatMap(reachableEndpoints)),
      );
    const failed = new Map<string, string>();
    const tryListen = (wanted: string) => {
      try {
        bound.set(wanted, listenTcp(ctx, handler, parseHostPort(wanted)));
        failed.delete(wanted);
      } catch (error) {
        failed.set(wanted, error instanceof Error ? error.message : String(error));
      }
    };
    let lastReason: string | undefined;
    const check = () => {
      for (const wanted of bound.size === 0 ? listen : [...failed.keys()]) tryListen(wanted);
      publish();
      const reason = [...failed].map(([wanted, why]) => `cannot listen on ${wanted}: ${why}`).join("; ");
      if (reason !== lastReason) report(ctx, (lastReason = reason));
    };
    check();
    // Addresses come and go for as long as the node runs: an interface may be up only after us, a lease may change.
    const again = () => {
      check();
      timer = ctx.clock.after(failed.size > 0 ? LISTEN_RETRY_MS : ADDRESS_CHECK_MS, again);
    };
    let timer = ctx.clock.after(failed.size > 0 ? LISTEN_RETRY_MS : ADDRESS_CHECK_MS, again);
    ctx.own(() => timer.cancel());
  },
});

function report(ctx: PluginContext, reason: string): void {
  if (reason === "") return ctx.health({ state: "running" });
  ctx.log.warn("listen failed", { reason });
  ctx.health({ state: "degraded", reason });
}

function socketHandler(): SocketHandler<SocketState> {
  return {
    open: (socket) => socket.data.onOpen(socket),
    data: (socket, bytes) => socket.data.pipe?.onData(bytes),
    drain: (socket) => socket.data.pipe?.onDrain(),
    end: (socket) => {
      socket.data.pipe?.onClosed();
      socket.end();
    },
    close: (socket, error) => socket.data.pipe?.onClosed(error),
    error: (socket, error) => socket.data.pipe?.onClosed(error),
  };
}

/** Throws the operating system's error. Answers where it really listens (port 0: the kernel's choice). */
function listenTcp(
  ctx: PluginContext,
  handler: SocketHandler<SocketState>,
  { host, port }: HostPort,
): HostPort {
  const server = Bun.listen<SocketState>({
    hostname: host,
    port,
    socket: {
      ...handler,
      open(socket) {
        // It may be gone before it was accepted.
        if (socket.readyState <= 0) return void socket.terminate();
        const pipe = new TcpPipe(socket, "inbound", (delayMs, fn) => ctx.clock.after(delayMs, fn));
        socket.data = { pipe, onOpen() {} };
        ctx.transport.accept(pipe);
      },
    },
  });
  ctx.own(() => server.stop(true));
  return { host, port: server.port };
}

function dialTcp(
  ctx: PluginContext,
  handler: SocketHandler<SocketState>,
  endpoint: string,
  signal: AbortSignal,
): Promise<TcpPipe> {
  const { host, port } = parseTcpEndpoint(endpoint);
  return new Promise((resolve, reject) => {
    if (signal.aborted) return reject(signal.reason as Error);
    const onAbort = () => reject(signal.reason as Error);
    signal.addEventListener("abort", onAbort, { once: true });
    const state: SocketState = {
      pipe: undefined,
      onOpen(socket: Socket<SocketState>) {
        signal.removeEventListener("abort", onAbort);
        // Too late: nobody waits for this connection any more.
        if (signal.aborted) return void socket.terminate();
        state.pipe = new TcpPipe(socket, "outbound", (delayMs, fn) => ctx.clock.after(delayMs, fn));
        resolve(state.pipe);
      },
    };
    Bun.connect<SocketState>({ hostname: host, port, data: state, socket: handler }).catch(
      (cause: unknown) => {
        signal.removeEventListener("abort", onAbort);
        const why = cause instanceof Error ? cause.message : String(cause);
        reject(
          new GodwitError(
            "GODWIT_DIAL_FAILED",
            `${formatTcpEndpoint(host, port)} cannot be reached: ${why}`,
            {
              kind: "transport",
              retry: "later",
              cause,
            },
          ),
        );
      },
    );
  });
}

function isAddress(text: string): boolean {
  try {
    parseHostPort(text);
    return true;
  } catch {
    return false;
  }
}
