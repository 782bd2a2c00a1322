/**
 * A plugin that runs outside of the node's thread, as the host sees it: an ordinary `Plugin` whose `start` launches a Worker
 * or a process and speaks frames with it. Owns what the far end may ask for and how fast; trusts nothing it sends: a frame
 * that breaks the protocol, silence, and a flood end that plugin and nothing else. Specified by docs/protocol/plugin-frames.md.
 */
import type { Plugin, PluginContext, Timer } from "@godwit/sdk";
import { SDK_VERSION } from "@godwit/sdk";
import { z } from "zod";
import { TokenBucket } from "../../kernel/backoff.ts";
import { asGodwitError, GodwitError, godwitError } from "../../kernel/errors.ts";
import { Calls } from "../frames/calls.ts";
import { Flows } from "../frames/flow.ts";
import { type FrameChannel, FramePort } from "../frames/port.ts";
import {
  decodeParts,
  errorOfWire,
  PLUGIN_JSON_BYTES_MAX,
  PLUGIN_PROTOCOL_VERSION,
  PluginFrame,
} from "../frames/frames.ts";
import { parseBody } from "../frames/parse.ts";
import { addEngineCalls } from "./engines.ts";
import { addMeshCalls } from "./mesh.ts";
import { RemoteMetrics } from "./metrics.ts";
import { addNetCalls } from "./net.ts";
import { addSerialCalls } from "./serial.ts";
import { RemoteOffers } from "./offers.ts";
import type { RemoteContext, RemoteParts } from "./parts.ts";
import { addPagesCalls } from "./pages.ts";
import { addPeersCalls } from "./peers.ts";
import { addSelfCalls } from "./self.ts";
import { addServiceCalls } from "./services.ts";
import { addStorageCalls } from "./storage.ts";
import { RemoteTransport } from "./transport.ts";

/** From the launch to `hello`. */
const HELLO_DEADLINE_MS = 10_000;
const HEARTBEAT_MS = 1_000;
/** A process that answers is asked at each third one alone: each question wakes a runtime of its own. */
const PROCESS_ASKED_EVERY = 3;
/** Heartbeats in a row without an answer; a node that itself was stopped for a while counts one. */
const HEARTBEATS_MISSED_MAX = 5;
/** What it may take to end by itself before it is ended. */
const STOP_DEADLINE_MS = 2_000;
/** Frames that are not data on an open flow. Beyond this it floods the node. */
const CONTROL_FRAMES = { perSecond: 10_000, burst: 20_000 } as const;
const LOGS = { perSecond: 20, burst: 200 } as const;
/** Changes of state that others are told of: health, endpoints, drivers. Beyond this it floods them. */
const STATES = { perSecond: 5, burst: 50 } as const;
/** Of a Worker's heap: it shares the node's memory, so that the node must look. */
const CONTAINED_HEAP_BYTES_MAX = 256 * 2 ** 20;

export interface Launched {
  readonly channel: FrameChannel;
  /** Ends it at once, whatever it does. */
  kill(): void;
  /** Resolves when it is over, with what is known of why. */
  readonly ended: Promise<string>;
  /** Why it must be ended, when it uses more than it may; asked at each heartbeat. */
  overuse?(): string | undefined;
}

/** Starts the far end. Rejects with why that is not possible here. */
export type Launcher = (ctx: PluginContext) => Promise<Launched>;

export interface RemoteOptions {
  readonly level: "contained" | "untrusted";
  /** The code that goes with `configure`; empty where the launcher brought it. */
  readonly code: Uint8Array;
  readonly launch: Launcher;
  /** What it says of why it is not well, with the grant that it lacks. */
  explain?(reason: string): string;
}

/** `plugin` is the same plugin as its manifest has it; its `start` is not called. */
export function remotePlugin(plugin: Plugin, options: RemoteOptions): Plugin {
  return {
    ...plugin,
    async start(ctx, table) {
      const launched = await options.launch(ctx);
      const remote = new Remote(plugin, options, ctx as RemoteContext, launched);
      // Before anything is waited for, so that a stop during the start ends it as well.
      ctx.own(() => remote.stop());
      await remote.start(table);
      ctx.spawn(options.level === "contained" ? "thread" : "process", (signal) => {
        // It ends by `stop`, for which the host waits only when its tasks are over.
        const asked = new Promise<void>((resolve) =>
          signal.addEventListener("abort", () => resolve(), { once: true }),
        );
        return Promise.race([remote.whole, asked]);
      });
    },
  };
}

const helloSchema = z.object({ protocol: z.number().int(), name: z.string().max(200).optional() });
const healthSchema = z.object({
  state: z.enum(["starting", "running", "degraded", "down"]),
  reason: z.string().max(1_024).optional(),
});
const logSchema = z.object({
  level: z.enum(["debug", "info", "warn", "error"]),
  event: z.string().max(200),
  fields: z
    .record(z.string().max(64), z.union([z.string().max(4_096), z.number(), z.boolean(), z.null()]))
    .optional(),
});

class Remote {
  readonly #plugin: Plugin;
  readonly #options: RemoteOptions;
  readonly #ctx: RemoteContext;
  readonly #launched: Launched;
  readonly #port: FramePort;
  readonly #flows: Flows;
  readonly #calls: Calls;
  readonly #offers: RemoteOffers;
  readonly #metrics: RemoteMetrics;
  readonly #transport: RemoteTransport;
  readonly #budget: TokenBucket;
  readonly #logs: TokenBucket;
  readonly #states: TokenBucket;
  readonly #hello = Promise.withResolvers<void>();
  readonly #started = Promise.withResolvers<void>();
  readonly #stopped = Promise.withResolvers<void>();
  readonly #over = Promise.withResolvers<void>();
  readonly #protocolErrors;
  #logsDropped = 0;
  #phase: "hello" | "starting" | "running" | "stopping" | "over" = "hello";
  #timer: Timer | undefined;
  #missed = 0;
  #beat = 0;

  constructor(plugin: Plugin, options: RemoteOptions, ctx: RemoteContext, launched: Launched) {
    this.#plugin = plugin;
    this.#options = options;
    this.#ctx = ctx;
    this.#launched = launched;
    this.#budget = new TokenBucket(ctx.clock, CONTROL_FRAMES.perSecond, CONTROL_FRAMES.burst);
    this.#logs = new TokenBucket(ctx.clock, LOGS.perSecond, LOGS.burst);
    this.#states = new TokenBucket(ctx.clock, STATES.perSecond, STATES.burst);
    this.#protocolErrors = ctx.counter("protocol_errors", "frames of the plugin that broke the protocol");
    for (const { promise } of [this.#hello, this.#started, this.#over]) promise.catch(() => {});
    this.#port = new FramePort(
      launched.channel,
      {
        frame: (type, id, body) => this.#onFrame(type, id, body),
        closed: (error) => this.#onClosed(error),
      },
      { pacedBy: ctx.clock },
    );
    this.#flows = new Flows(this.#port, ctx.clock, 2);
    this.#metrics = new RemoteMetrics(ctx);
    this.#calls = new Calls(this.#port, {
      clock: ctx.clock,
      farEnd: "the plugin",
      jsonBytesMax: PLUGIN_JSON_BYTES_MAX,
      errorOf: (thrown) => {
        const error = asGodwitError(thrown);
        if (error.code === "GODWIT_FORBIDDEN") ctx.refused(error.message);
        return error;
      },
    });
    const parts: RemoteParts = { ctx, port: this.#port, flows: this.#flows, calls: this.#calls };
    this.#transport = new RemoteTransport(parts, (error) => this.#explained(error));
    this.#offers = new RemoteOffers(parts);
    addStorageCalls(parts);
    addNetCalls(parts);
    addSerialCalls(parts);
    addSelfCalls(parts);
    addPeersCalls(parts);
    addServiceCalls(parts);
    if (plugin.namespace === "service") {
      addMeshCalls(parts);
      addPagesCalls(parts);
    }
    if (plugin.namespace === "engine") addEngineCalls(parts);
    void launched.ended.then((why) => this.#fail(godwitError("GODWIT_PLUGIN_FAILED", why)));
  }

  /** Settles when the plugin is over: rejects when that was not asked for. */
  get whole(): Promise<void> {
    return this.#over.promise;
  }

  async start(table: unknown): Promise<void> {
    const { clock } = this.#ctx;
    const deadline = clock.after(HELLO_DEADLINE_MS, () =>
      this.#fail(
        godwitError("GODWIT_PLUGIN_FAILED", `it did not say hello within ${HELLO_DEADLINE_MS / 1_000} s`),
      ),
    );
    try {
      await this.#hello.promise;
    } finally {
      deadline.cancel();
    }
    const { instance, network, mesh } = this.#ctxParts();
    this.#port.sendParts(
      PluginFrame.configure,
      0,
      {
        protocol: PLUGIN_PROTOCOL_VERSION,
        sdk: SDK_VERSION,
        id: this.#plugin.id,
        namespace: this.#plugin.namespace,
        instance,
        level: this.#options.level,
        table,
        addresses: network.addresses(),
        ...(mesh === undefined ? {} : { self: mesh.self }),
      },
      this.#options.code,
    );
    network.onChange(() =>
      this.#port.sendParts(PluginFrame.event, 0, { event: "addresses", addresses: network.addresses() }),
    );
    this.#timer = clock.after(HEARTBEAT_MS, this.#onBeat);
    await this.#started.promise;
  }

  /** Asks it to end, then ends it. */
  async stop(): Promise<void> {
    const { clock } = this.#ctx;
    const wasRunning = this.#phase === "starting" || this.#phase === "running";
    if (this.#phase !== "over") this.#phase = "stopping";
    this.#timer?.cancel();
    if (wasRunning) {
      this.#port.send(PluginFrame.stop);
      const deadline = clock.after(STOP_DEADLINE_MS, () => this.#stopped.resolve());
      await Promise.race([this.#stopped.promise, this.#launched.ended]);
      deadline.cancel();
    }
    this.#end(godwitError("GODWIT_STOPPED", "the plugin has stopped"));
    await this.#launched.ended;
  }

  #ctxParts() {
    const { instance, network } = this.#ctx;
    return { instance, network, mesh: this.#plugin.namespace === "service" ? this.#ctx.mesh : undefined };
  }

  readonly #onBeat = (): void => {
    const why = this.#launched.overuse?.();
    if (why !== undefined) return this.#fail(godwitError("GODWIT_PLUGIN_FAILED", why));
    if (this.#missed >= HEARTBEATS_MISSED_MAX)
      return this.#fail(
        godwitError(
          "GODWIT_PLUGIN_FAILED",
          `it did not answer for ${(HEARTBEATS_MISSED_MAX * HEARTBEAT_MS) / 1_000} s`,
        ),
      );
    this.#beat++;
    const every = this.#options.level === "untrusted" ? PROCESS_ASKED_EVERY : 1;
    if (this.#missed > 0 || this.#beat % every === 0) {
      this.#missed++;
      this.#port.send(PluginFrame.ping, this.#beat);
    }
    if (this.#logsDropped > 0) {
      this.#ctx.log.warn("plugin logs too much", { dropped: this.#logsDropped });
      this.#logsDropped = 0;
    }
    this.#timer = this.#ctx.clock.after(HEARTBEAT_MS, this.#onBeat);
  };

  #onFrame(type: number, id: number, body: Uint8Array): void {
    try {
      // Data on an open flow is bounded by the room that it was given, an answer by what was asked.
      const isFlow = (type >= PluginFrame.data && type <= PluginFrame.change) || type === PluginFrame.left;
      const isOwed =
        (isFlow && type !== PluginFrame.change && type !== PluginFrame.left && this.#flows.has(id)) ||
        (type === PluginFrame.answer && this.#calls.isAsked(id));
      if (!isOwed && !this.#budget.take())
        throw godwitError(
          "GODWIT_PLUGIN_FAILED",
          `it floods the node with more than ${CONTROL_FRAMES.perSecond} frames a second`,
        );
      if (
        this.#phase === "hello" &&
        type !== PluginFrame.hello &&
        type !== PluginFrame.failed &&
        type !== PluginFrame.sandboxed
      )
        throw godwitError("GODWIT_DECODE", `plugin frame: 0x${type.toString(16)} before hello`);
      if (isFlow) return void this.#flows.handle(type, id, body);
      if (this.#calls.handle(type, id, body)) return;
      this.#handle(type, id, body);
    } catch (thrown) {
      const error = asGodwitError(thrown);
      if (error.code === "GODWIT_DECODE") this.#protocolErrors.add();
      this.#fail(error);
    }
  }

  #handle(type: number, id: number, body: Uint8Array): void {
    const { log } = this.#ctx;
    switch (type) {
      case PluginFrame.hello: {
        if (this.#phase !== "hello") throw godwitError("GODWIT_DECODE", "plugin frame: a second hello");
        const { protocol } = parseBody(helloSchema, body);
        if (protocol !== PLUGIN_PROTOCOL_VERSION)
          throw godwitError(
            "GODWIT_DECODE",
            `plugin frame: it speaks version ${protocol}, this Godwit speaks ${PLUGIN_PROTOCOL_VERSION}`,
          );
        this.#phase = "starting";
        return this.#hello.resolve();
      }
      case PluginFrame.sandboxed:
        if (this.#phase !== "hello")
          throw godwitError("GODWIT_DECODE", "plugin frame: sandboxed after hello");
        return log.debug("plugin sandboxed", { facts: JSON.stringify(decodeParts(body, 4_096).json) });
      case PluginFrame.started:
        if (this.#phase === "starting") this.#phase = "running";
        return this.#started.resolve();
      case PluginFrame.failed:
        return this.#fail(this.#explained(errorOfWire(decodeParts(body, PLUGIN_JSON_BYTES_MAX).json)));
      case PluginFrame.stopped:
        return this.#stopped.resolve();
      case PluginFrame.pong:
        this.#missed = 0;
        return this.#onPong(body);
      case PluginFrame.health: {
        const { state, reason } = parseBody(healthSchema, body);
        this.#countState();
        return this.#ctx.health(
          reason === undefined ? { state } : { state, reason: this.#options.explain?.(reason) ?? reason },
        );
      }
      case PluginFrame.log: {
        const { level, event, fields } = parseBody(logSchema, body);
        if (this.#logs.take()) log[level](event, fields);
        else this.#logsDropped++;
        return;
      }
      case PluginFrame.metric:
        return this.#metrics.handle(decodeParts(body, PLUGIN_JSON_BYTES_MAX).json);
      case PluginFrame.event: {
        const { json, bytes } = decodeParts(body, PLUGIN_JSON_BYTES_MAX);
        if (isStateEvent(json)) this.#countState();
        const isChange = (json as { readonly event?: unknown } | null)?.event === "engine-change";
        return isChange ? this.#offers.onChange(json, bytes) : this.#transport.onEvent(json, bytes);
      }
      case PluginFrame.open:
        return this.#transport.onOpen(id, decodeParts(body, PLUGIN_JSON_BYTES_MAX).json);
      default:
        // Of a later version: ignored, like unknown keys.
        return;
    }
  }

  #explained(error: GodwitError): GodwitError {
    const message = this.#options.explain?.(error.message) ?? error.message;
    const { code, kind, retry } = error;
    return message === error.message ? error : new GodwitError(code, message, { kind, retry, cause: error });
  }

  #countState(): void {
    if (!this.#states.take())
      throw godwitError(
        "GODWIT_PLUGIN_FAILED",
        `it floods the node with more than ${STATES.perSecond} changes of its state a second`,
      );
  }

  /** A Worker says how large its heap is; of a process the kernel bounds it. */
  #onPong(body: Uint8Array): void {
    if (this.#options.level !== "contained" || body.length !== 8) return;
    const bytes = new DataView(body.buffer, body.byteOffset, 8).getFloat64(0);
    if (bytes > CONTAINED_HEAP_BYTES_MAX)
      throw godwitError(
        "GODWIT_PLUGIN_FAILED",
        `its heap has ${Math.round(bytes / 2 ** 20)} MiB, at most ${CONTAINED_HEAP_BYTES_MAX / 2 ** 20} are allowed`,
      );
  }

  #onClosed(error: GodwitError | undefined): void {
    if (error?.code === "GODWIT_DECODE") this.#protocolErrors.add();
    if (error !== undefined) return this.#fail(error);
    // Its end says more than that of the channel, and follows at once.
    if (this.#phase === "over") return;
    this.#timer?.cancel();
    this.#timer = this.#ctx.clock.after(HEARTBEAT_MS, () =>
      this.#fail(godwitError("GODWIT_PLUGIN_FAILED", "it closed its channel")),
    );
  }

  #fail(error: GodwitError): void {
    if (this.#phase === "over") return;
    const wasStopping = this.#phase === "stopping";
    this.#phase = "over";
    this.#hello.reject(error);
    this.#started.reject(error);
    if (wasStopping) this.#over.resolve();
    else this.#over.reject(error);
    this.#end(error);
  }

  #end(error: GodwitError): void {
    this.#phase = "over";
    this.#timer?.cancel();
    this.#launched.kill();
    this.#stopped.resolve();
    this.#hello.reject(error);
    this.#started.reject(error);
    this.#over.resolve();
    this.#port.close();
    this.#calls.close(error);
    this.#flows.close(error);
  }
}

const isStateEvent = (event: unknown): boolean => {
  const name = (event as { event?: unknown } | null)?.event;
  return name === "register" || name === "listening" || name === "medium";
};
