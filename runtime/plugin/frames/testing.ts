/** Both ends of a channel of frames in memory, for tests: what one end writes waits until a turn hands it over. */
import { ManualClock } from "../../kernel/clock.ts";
import { asGodwitError, type GodwitError, godwitError } from "../../kernel/errors.ts";
import { Calls, pluginFailureOf } from "./calls.ts";
import { Flows } from "./flow.ts";
import { PLUGIN_JSON_BYTES_MAX } from "./frames.ts";
import { type ChannelHandlers, type FrameChannel, FramePort } from "./port.ts";

interface Hand {
  readonly to: "node" | "plugin";
  /** Undefined: the far end closed. */
  readonly bytes: Uint8Array | undefined;
}

export interface BedEnd {
  readonly port: FramePort;
  readonly flows: Flows;
  readonly calls: Calls;
}

export class FrameBed {
  readonly clock = new ManualClock();
  /** Why channels closed, both ends'. */
  readonly errors: (GodwitError | undefined)[] = [];
  /** Frames that came and were none of a flow or a call, by type and id. */
  readonly others: string[] = [];
  /** Also called with them. */
  onOther: (end: "node" | "plugin", type: number, id: number, body: Uint8Array) => void = () => {};
  readonly node: BedEnd;
  readonly plugin: BedEnd;
  readonly #isLive: boolean;
  #waiting: Hand[] = [];
  readonly #handlers = new Map<"node" | "plugin", ChannelHandlers>();

  /** `isLive`: frames hand themselves over, a moment after they were written. */
  constructor(isLive = false) {
    this.#isLive = isLive;
    this.node = this.#end("node");
    this.plugin = this.#end("plugin");
  }

  #channel(self: "node" | "plugin"): FrameChannel {
    const far = self === "node" ? "plugin" : "node";
    return {
      queuedBytes: 0,
      open: (given) => void this.#handlers.set(self, given),
      write: (bytes) => this.#send({ to: far, bytes: bytes.slice() }),
      close: () => this.#send({ to: far, bytes: undefined }),
      readBlocking: () => {
        for (;;) {
          const mine = this.#waiting.findIndex(({ to }) => to === self);
          if (mine >= 0) return this.#waiting.splice(mine, 1)[0]!.bytes;
          const next = this.#waiting.shift();
          if (next === undefined) return undefined;
          this.#hand(next);
          (far === "node" ? this.node : this.plugin).port.flush();
        }
      },
    };
  }

  #end(name: "node" | "plugin"): BedEnd {
    const port: FramePort = new FramePort(this.#channel(name), {
      frame: (type, id, body) => {
        if (flows.handle(type, id, body) || calls.handle(type, id, body)) return;
        this.others.push(`${name} ${type} ${id}`);
        this.onOther(name, type, id, body);
      },
      ...(name === "plugin" ? { awaited: (...frame) => calls.takeAwaited(...frame) } : {}),
      closed: (error) => {
        this.errors.push(error);
        const why = error ?? godwitError("GODWIT_STOPPED", "the channel closed");
        calls.close(why);
        flows.close(why);
      },
    });
    const flows: Flows = new Flows(port, this.clock, name === "node" ? 2 : 1);
    const calls: Calls = new Calls(port, {
      clock: this.clock,
      farEnd: name === "node" ? "the plugin" : "the node",
      ...(name === "node" ? { jsonBytesMax: PLUGIN_JSON_BYTES_MAX } : {}),
      errorOf: name === "node" ? asGodwitError : pluginFailureOf,
    });
    return { port, flows, calls };
  }

  #send(hand: Hand): void {
    this.#waiting.push(hand);
    if (!this.#isLive) return;
    queueMicrotask(() => {
      const next = this.#waiting.shift();
      if (next !== undefined) this.#hand(next);
    });
  }

  #hand({ to, bytes }: Hand): void {
    const handlers = this.#handlers.get(to);
    if (bytes === undefined) handlers?.closed();
    else handlers?.data(bytes);
  }

  /** Until nothing moves any more. */
  async settle(): Promise<void> {
    for (let idle = 0; idle < 8;) {
      await Promise.resolve();
      const ready = this.#waiting;
      this.#waiting = [];
      idle = ready.length === 0 ? idle + 1 : 0;
      for (const hand of ready) this.#hand(hand);
    }
  }
}
