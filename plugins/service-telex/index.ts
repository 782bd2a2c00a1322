/**
 * service.telex: the telex console on a TCP port, for people with `telnet`, `nc` or a teletype and for programs that
 * speak Project Telex's line-delimited JSON. Messages live in the node's own inbox and outbox; nothing is kept here.
 * Specified by docs/telex.md.
 */
import type { Socket } from "bun";
import { definePlugin, type MetricCounter, type ServiceContext, sourceGroup } from "@godwit/sdk";
import { whyNotListening } from "@godwit/sdk/listening";
import { Places } from "@godwit/sdk/places";
import { formatListen, isLoopback, isWithin } from "./address.ts";
import { telexConfig, type TelexConfig } from "./config.ts";
import { Connection, errorLine } from "./connection.ts";
import { textOf } from "./console.ts";
import { userOfCaller } from "./local-caller.ts";
import type { Arrival, SessionDeps } from "./session.ts";

const LISTEN_RETRY_MS = 3_000;
const CHECK_MS = 1_000;
const ROOT = 0;
/** A look into the kernel's table takes up to some milliseconds where there are many connections. */
const LOOKS_PER_SECOND_MAX = 50;
/** A longer message is announced and not shown at once. */
const LIVE_BODY_BYTES_MAX = 4_096;

/** One in so many lines is kept for callers from elsewhere. */
const KEPT_FOR_OTHERS = 8;

interface SocketState {
  connection: Connection | undefined;
}

export default definePlugin({
  id: "telex",
  namespace: "service",
  sdk: "^0.1.0",
  permissions: ["net.tcp", "mesh.send", "mesh.read"],
  config: telexConfig,
  start(ctx, config) {
    const exchange = new Exchange(ctx, config);
    ctx.own(() => exchange.stop());
    const listen = () => {
      try {
        exchange.listen();
        ctx.health({ state: "running" });
      } catch (error) {
        const why = whyNotListening(error, { protocol: "tcp", ...config.listen, setting: "listen" });
        ctx.health({ state: "degraded", reason: `cannot listen on ${formatListen(config.listen)}: ${why}` });
        timer = ctx.clock.after(LISTEN_RETRY_MS, listen);
      }
    };
    let timer = ctx.clock.after(0, () => {});
    ctx.own(() => timer.cancel());
    listen();
  },
});

/** All callers of one instance. */
class Exchange {
  readonly #ctx: ServiceContext;
  readonly #config: TelexConfig;
  readonly #connections = new Set<Connection>();
  /** Strangers who have not said the password, or anything, must not keep out those who do: they give way. */
  readonly #lines: Places;
  readonly #calls: MetricCounter;
  readonly #sessions: Omit<SessionDeps, "line">;
  #timer: { cancel(): void } | undefined;
  #server: { stop(closeActive: boolean): void } | undefined;
  #isStopped = false;
  #looks = 0;
  #looksSinceMs = 0;

  constructor(ctx: ServiceContext, config: TelexConfig) {
    this.#ctx = ctx;
    this.#config = config;
    const max = config.max_connections;
    this.#lines = new Places({ max, perSourceMax: max - Math.floor(max / KEPT_FOR_OTHERS) });
    this.#calls = ctx.counter("calls", "calls by what became of them", ["result"]);
    const messages = ctx.counter("messages", "messages handed in", ["result"]);
    const connections = ctx.gauge("connections", "callers on the line");
    connections.set(0);
    this.#onCount = () => connections.set(this.#connections.size);
    this.#sessions = {
      mesh: ctx.mesh,
      clock: ctx.clock,
      messageMax: config.message_max,
      count: (result) => messages.add(1, { result }),
    };
    ctx.mesh.onMessage(async (message) => {
      if (this.#connections.size === 0) return;
      const isShort = message.size <= LIVE_BODY_BYTES_MAX;
      // Removed meantime, by a program that was quicker: it is not shown.
      const body = isShort ? await ctx.mesh.inbox.body(message.id).catch(() => undefined) : undefined;
      if (isShort && body === undefined) return;
      const arrival: Arrival = { message, text: body === undefined ? undefined : textOf(body) };
      for (const connection of this.#connections) connection.onArrival(arrival);
    });
    ctx.mesh.onSent((message) => {
      for (const connection of this.#connections) connection.onSent(message);
    });
  }

  readonly #onCount: () => void;

  /** Throws the operating system's error. */
  listen(): void {
    const { host, port } = this.#config.listen;
    const server = Bun.listen<SocketState>({
      hostname: host,
      port,
      // A caller that has said all he has to say still gets his answers.
      allowHalfOpen: true,
      socket: {
        open: (socket) => this.#onCall(socket),
        data: (socket, bytes) => socket.data.connection?.onData(bytes),
        drain: (socket) => socket.data.connection?.onDrain(),
        end: (socket) => {
          if (socket.data.connection === undefined) socket.end();
          else socket.data.connection.onEnd();
        },
        close: (socket) => socket.data?.connection?.onClosed(),
        error: (socket) => socket.data?.connection?.onClosed(),
        timeout: (socket) => socket.terminate(),
      },
    });
    this.#server = server;
    this.#ctx.log.info("telex listening", { address: formatListen({ host, port: server.port }) });
  }

  stop(): void {
    this.#isStopped = true;
    this.#timer?.cancel();
    for (const connection of this.#connections)
      connection.dismiss("GODWIT_STOPPED", "this node is stopping; goodbye");
    this.#server?.stop(true);
  }

  #onCall(socket: Socket<SocketState>): void {
    socket.data = { connection: undefined };
    // It may be gone before it was accepted.
    if (socket.readyState <= 0 || this.#isStopped) return void socket.terminate();
    const from = socket.remoteAddress;
    if (this.#config.allow_from !== undefined && !isWithin(from, this.#config.allow_from))
      return this.#refuse(socket, "forbidden", "GODWIT_FORBIDDEN", `calls from ${from} are not allowed here`);
    if (this.#isUserAsked && !this.#hasLook())
      return this.#refuse(socket, "busy", "GODWIT_TOO_MANY_REQUESTS", "too many calls at once; call again");
    if (this.#isUserAsked && !isOurUser(socket))
      return this.#refuse(
        socket,
        "forbidden",
        "GODWIT_FORBIDDEN",
        'only programs of the user that this node runs as may call without a password; set password = "file:/path", or let all users of this machine call with allow_from = ["127.0.0.0/8", "::1"]',
      );
    const place = this.#lines.accept(socket, sourceGroup(from), () => {
      this.#calls.add(1, { result: "evicted" });
      socket.data.connection?.cut();
    });
    if (place === undefined)
      return this.#refuse(socket, "busy", "GODWIT_TOO_MANY_REQUESTS", "all lines are busy; call again later");
    this.#calls.add(1, { result: "accepted" });
    socket.setNoDelay(true);
    socket.setKeepAlive(true, 60_000);
    const connection: Connection = new Connection({
      wire: socket,
      clock: this.#ctx.clock,
      config: this.#config,
      sessions: this.#sessions,
      onSpoken: () => place.stand("held"),
      onWrongPassword: () => this.#calls.add(1, { result: "wrong_password" }),
      onClosed: () => {
        place.release();
        this.#connections.delete(connection);
        this.#onCount();
      },
    });
    socket.data.connection = connection;
    this.#connections.add(connection);
    this.#onCount();
    this.#watch();
  }

  /** On loopback every user of the machine gets as far as here, and would read, delete and send this node's mail. */
  get #isUserAsked(): boolean {
    const { password, allow_from: allowed, listen } = this.#config;
    return password === undefined && allowed === undefined && isLoopback(listen.host);
  }

  #hasLook(): boolean {
    const nowMs = this.#ctx.clock.monotonicMs();
    if (nowMs - this.#looksSinceMs >= 1_000) [this.#looks, this.#looksSinceMs] = [0, nowMs];
    return ++this.#looks <= LOOKS_PER_SECOND_MAX;
  }

  #refuse(socket: Socket<SocketState>, result: "forbidden" | "busy", code: string, message: string): void {
    this.#calls.add(1, { result });
    this.#ctx.log.debug("call refused", { from: socket.remoteAddress, code });
    socket.write(errorLine(code, message));
    socket.end();
    // Our end alone would leave it half open for as long as the caller likes.
    socket.timeout(5);
  }

  #watch(): void {
    if (this.#timer !== undefined || this.#isStopped) return;
    this.#timer = this.#ctx.clock.after(CHECK_MS, () => {
      this.#timer = undefined;
      const nowMs = this.#ctx.clock.monotonicMs();
      for (const connection of this.#connections) connection.check(nowMs);
      if (this.#connections.size > 0) this.#watch();
    });
  }
}

function isOurUser(socket: Socket<SocketState>): boolean {
  const user = userOfCaller({
    callerAddress: socket.remoteAddress,
    callerPort: socket.remotePort,
    ownAddress: socket.localAddress,
    ownPort: socket.localPort,
  });
  return user === ROOT || (user !== undefined && user === process.getuid?.());
}
