/**
 * The far end of a channel of frames for plugins in JavaScript: says hello, takes the configuration and the code, gives the
 * plugin the context of the SDK and runs it. Lives in the Worker or process of one plugin; protects nobody: whatever it does
 * not enforce here, the node or the kernel does. Specified by docs/protocol/plugin-frames.md.
 */
import { createHash } from "node:crypto";
import { heapSize, heapStats } from "bun:jsc";
import type { Plugin } from "@godwit/sdk";
import { asGodwitError, godwitError } from "../../kernel/errors.ts";
import { systemClock } from "../../kernel/clock.ts";
import { Scope } from "../../kernel/scope.ts";
import { importPlugin, startPlugin } from "../package/code.ts";
import { Calls, pluginFailureOf } from "../frames/calls.ts";
import { Flows } from "../frames/flow.ts";
import { type FrameChannel, FramePort } from "../frames/port.ts";
import { decodeParts, PLUGIN_PROTOCOL_VERSION, PluginFrame, wireErrorOf } from "../frames/frames.ts";
import { createContext, type GuestContext } from "./context.ts";
import type { Configure } from "./parts.ts";

/** Less is no reason to look what the heap consists of. */
const HEAP_CHANGE_BYTES = 1_048_576;

export interface GuestSurroundings {
  /** Before the plugin's code is seen, and after everything of ours was loaded. */
  beforeCode(): void;
  /** Ends this Worker or process. */
  exit(): void;
  /** Absolute path of the plugin's own folder; undefined: the node says. */
  readonly folder: string | undefined;
}

export function runGuest(channel: FrameChannel, surroundings: GuestSurroundings): void {
  const scope = new Scope("plugin", {
    onFailure: (error, task) =>
      fail(godwitError("GODWIT_PLUGIN_FAILED", `task ${task}: ${asGodwitError(error).message}`)),
  });
  let context: GuestContext | undefined;
  let hasFailed = false;
  const port: FramePort = new FramePort(channel, {
    frame: (type, id, body) => handle(type, id, body),
    awaited: (type, id, body) => calls.takeAwaited(type, id, body),
    // Without its node a plugin has nothing to do.
    closed: () => surroundings.exit(),
  });
  const flows = new Flows(port, systemClock, 1);
  const calls: Calls = new Calls(port, { clock: systemClock, farEnd: "the node", errorOf: pluginFailureOf });

  function fail(error: unknown): void {
    if (hasFailed) return;
    hasFailed = true;
    port.sendParts(PluginFrame.failed, 0, wireErrorOf(error));
    port.close();
    systemClock.after(0, () => surroundings.exit());
  }
  process.on("uncaughtException", (error) => fail(error));
  process.on("unhandledRejection", (error) => fail(error));

  async function start(configure: Configure, code: Uint8Array): Promise<void> {
    try {
      context = createContext({ configure, port, flows, calls, scope, folder: surroundings.folder });
      const hash = createHash("sha256").update(code).digest("hex");
      surroundings.beforeCode();
      const plugin: Plugin = await importPlugin(configure, code, hash);
      await startPlugin(plugin, context.ctx, configure.table);
      context.flushMetrics();
      port.send(PluginFrame.started);
    } catch (error) {
      fail(error);
    }
  }

  async function stop(): Promise<void> {
    await scope.close().catch(() => {});
    context?.flushMetrics();
    port.send(PluginFrame.stopped);
    port.flush();
    // The node closes the channel; whoever waits for that longer than this waits for nobody.
    systemClock.after(1_000, () => surroundings.exit());
  }

  let looked = { heapBytes: Number.NEGATIVE_INFINITY, extraBytes: 0 };
  function pong(id: number): void {
    const body = new Uint8Array(8);
    const heapBytes = heapSize();
    // Looks at each object of the heap, 26 ms for 200,000 of them; what it asks for is a part of the heap and changes no more than that.
    if (Math.abs(heapBytes - looked.heapBytes) > HEAP_CHANGE_BYTES)
      looked = { heapBytes, extraBytes: heapStats().extraMemorySize };
    new DataView(body.buffer).setFloat64(0, heapBytes + looked.extraBytes);
    port.send(PluginFrame.pong, id, body);
  }

  function handle(type: number, id: number, body: Uint8Array): void {
    if (flows.handle(type, id, body) || calls.handle(type, id, body)) return;
    switch (type) {
      case PluginFrame.configure: {
        const { json, bytes } = decodeParts(body);
        return void start(json as Configure, bytes.slice());
      }
      case PluginFrame.stop:
        return void stop();
      case PluginFrame.ping:
        return pong(id);
      case PluginFrame.event: {
        const { json, bytes } = decodeParts(body);
        return context?.onEvent(json as { event: string }, bytes);
      }
      case PluginFrame.open: {
        const { json, bytes } = decodeParts(body);
        return context?.onOpen(id, json as { what: string }, bytes.slice());
      }
      default:
        return;
    }
  }

  port.sendParts(PluginFrame.hello, 0, { protocol: PLUGIN_PROTOCOL_VERSION, name: "godwit" });
}
