/**
 * Plugins for the kit's own tests: correct as long as no fault is asked for, and wrong in one way when one is. They
 * show that a check can fail.
 */
import {
  definePlugin,
  GodwitError,
  type Medium,
  type MediumHeard,
  type Pipe,
  type PipeHandlers,
  type Plugin,
  type PluginContext,
  type StandardSchema,
} from "../src/index.ts";

export type TransportFault =
  | "abort-closes"
  | "abort-leaves-the-far-end"
  | "bad-metric"
  | "boasts-of-its-mtu"
  | "buffers-unseen"
  | "closes-silently"
  | "counts-for-ever"
  | "duplicates"
  | "keeps-a-socket"
  | "medium-costs-nothing"
  | "medium-forgets-no-listener"
  | "medium-gets-cheaper"
  | "medium-hears-itself"
  | "medium-is-deaf"
  | "medium-is-overfull"
  | "medium-keeps-what-was-lent"
  | "medium-missing"
  | "medium-of-its-own"
  | "medium-takes-too-much"
  | "medium-under-another-name"
  | "medium-without-places"
  | "merges"
  | "never-publishes"
  | "polite-error"
  | "splits"
  | "throws-after-close"
  | "throws-on-bad-endpoint"
  | "accepts-unknown-keys"
  | "closes-twice"
  | "deaf-to-the-end"
  | "dies-silently"
  | "data-after-closed"
  | "drains-late"
  | "drains-twice"
  | "drops-before-open"
  | "drops-last-bytes"
  | "forgets-abort"
  | "ignores-pause"
  | "keeps-listening"
  | "keeps-signal"
  | "keeps-task"
  | "keeps-timer"
  | "leaves-at-once"
  | "leaves-nothing"
  | "leaves-twice"
  | "leaves-unasked"
  | "never-drains"
  | "no-mtu"
  | "plain-error"
  | "publishes-nonsense"
  | "reorders"
  | "reuses-buffer"
  | "scribbles"
  | "slices"
  | "swallows-bad-endpoint"
  | "truncates"
  | "unbounded"
  | "wrong-direction";

const HIGH_WATER_BYTES = 64 * 1024;
const MTU = 200;
const CHANNEL_RATE_BITS = 1_000;

/** A table with these keys, all of them optional text. */
export const schemaOf = (
  keys: readonly string[],
  isLax = false,
): StandardSchema<Record<string, string | undefined>> => ({
  "~standard": {
    version: 1,
    vendor: "testkit",
    validate(value) {
      const isTable = typeof value === "object" && value !== null && !Array.isArray(value);
      if (!isTable) return { issues: [{ message: "expected a table" }] };
      const unknown = Object.keys(value).filter((key) => !keys.includes(key));
      if (unknown.length > 0 && !isLax) return { issues: [{ message: `unknown ${unknown.join()}` }] };
      return { value: value as Record<string, string> };
    },
  },
});

class LoopPipe implements Pipe {
  readonly kind: Pipe["kind"];
  readonly direction: Pipe["direction"];
  readonly local: string;
  readonly remote: string;
  readonly linkClass = "fast";
  readonly rateBitsPerSecond = 1e9;
  readonly medium?: Medium;
  readonly mtu: number;
  readonly answerMs?: number;
  readonly #fault: TransportFault | undefined;
  #far!: LoopPipe;
  #handlers: PipeHandlers | undefined;
  #arrived: Uint8Array[] = [];
  #unread = 0;
  #isPaused = false;
  #isClosed = false;
  #isEnded = false;
  #hasReported = false;
  #wantsDrain = false;
  #counted = 0;

  constructor(
    kind: Pipe["kind"],
    direction: Pipe["direction"],
    names: readonly [string, string],
    fault?: TransportFault,
    medium?: Medium,
  ) {
    if (medium !== undefined) this.medium = medium;
    this.kind = kind;
    this.direction = fault === "wrong-direction" ? "outbound" : direction;
    [this.local, this.remote] = names;
    this.mtu = kind === "stream" ? 0 : fault === "boasts-of-its-mtu" ? MTU * 2 : MTU;
    this.#fault = fault;
    if (kind === "datagram" && fault !== "leaves-unasked") this.answerMs = 1;
  }

  get bufferedBytes(): number {
    if (this.#fault === "buffers-unseen") return 0;
    if (this.#fault === "counts-for-ever") return (this.#counted += 1);
    return this.#far.#unread;
  }

  join(far: LoopPipe): void {
    this.#far = far;
  }

  open(handlers: PipeHandlers): void {
    this.#handlers = handlers;
    if (this.#fault === "dies-silently" && this.#isEnded) return;
    this.#wake();
  }

  write(bytes: Uint8Array): boolean {
    if (this.#isClosed && this.#fault === "throws-after-close") throw new Error("closed");
    if (this.#isClosed) return true;
    if (this.kind === "datagram") this.#leave();
    const fault = this.#fault;
    const far = this.#far;
    if (this.kind === "datagram" && bytes.length > MTU && fault !== "no-mtu") return true;
    if (fault === "drops-before-open" && far.#handlers === undefined) return true;
    // Of a Buffer `slice` is no copy.
    let kept = fault === "reuses-buffer" ? bytes : fault === "slices" ? bytes.slice() : new Uint8Array(bytes);
    if (fault === "scribbles") bytes.fill(0);
    if (fault === "truncates") kept = kept.subarray(0, 100);
    if (fault === "reorders") far.#arrived.unshift(kept);
    else if (fault === "splits")
      far.#arrived.push(kept.subarray(0, kept.length >> 1), kept.subarray(kept.length >> 1));
    else if (fault === "merges" && far.#arrived.length > 0)
      far.#arrived.push(new Uint8Array([...far.#arrived.pop()!, ...kept]));
    else far.#arrived.push(kept);
    far.#unread += kept.length;
    if (fault === "duplicates") {
      far.#arrived.push(kept);
      far.#unread += kept.length;
    }
    far.#wake();
    if (far.#unread < HIGH_WATER_BYTES || fault === "unbounded") return true;
    if (this.kind === "datagram") return true;
    this.#wantsDrain = true;
    return false;
  }

  /** What it drops counts as left as well. */
  #leave(): void {
    if (this.#fault === "leaves-nothing") return;
    const left = () => {
      if (!this.#isClosed) this.#handlers?.left?.();
    };
    if (this.#fault === "leaves-at-once") return left();
    setImmediate(left);
    if (this.#fault === "leaves-twice") setImmediate(left);
  }

  pause(paused: boolean): void {
    if (this.#fault === "ignores-pause") return;
    this.#isPaused = paused;
    if (!paused) this.#wake();
  }

  close(): void {
    if (this.#isClosed && this.#fault !== "closes-twice") return;
    this.#isClosed = true;
    this.#far.#isEnded = this.#fault !== "deaf-to-the-end";
    if (this.#fault === "drops-last-bytes") this.#far.#arrived = [];
    this.#far.#wake();
    this.#report();
    if (this.#fault === "data-after-closed") setImmediate(() => this.#handlers?.data(new Uint8Array(1)));
  }

  #wake(): void {
    setImmediate(() => this.#deliver());
  }

  #deliver(): void {
    const handlers = this.#handlers;
    if (handlers === undefined) return;
    while (!this.#isPaused && !this.#isClosed && this.#arrived.length > 0) {
      const bytes = this.#arrived.shift()!;
      this.#unread -= bytes.length;
      handlers.data(bytes);
      if (this.#unread === 0) this.#far.#drain();
    }
    if (this.#isClosed || (this.#isEnded && this.#arrived.length === 0)) {
      this.#isClosed = true;
      this.#report();
    }
  }

  #drain(): void {
    if (!this.#wantsDrain || this.#fault === "never-drains") return;
    if (this.#isClosed && this.#fault !== "drains-late") return;
    this.#wantsDrain = false;
    this.#handlers?.drain();
    if (this.#fault === "drains-twice") this.#handlers?.drain();
  }

  #report(): void {
    const handlers = this.#handlers;
    if (handlers === undefined || (this.#hasReported && this.#fault !== "closes-twice")) return;
    this.#hasReported = true;
    if (this.#fault === "closes-silently") return;
    queueMicrotask(() => handlers.closed(this.#fault === "polite-error" ? new Error("bye") : undefined));
  }
}

/** Everybody on a loop hears what the others send to all. */
class LoopMedium implements Medium {
  readonly name: string;
  readonly rateBitsPerSecond = CHANNEL_RATE_BITS;
  readonly utilisation: number;
  readonly broadcastBytesMax = MTU;
  readonly #fault: TransportFault | undefined;
  readonly #all: Set<LoopMedium>;
  readonly #place: string;
  readonly #heard: MediumHeard[] = [];

  constructor(name: string, place: string, all: Set<LoopMedium>, fault?: TransportFault) {
    this.name = fault === "medium-under-another-name" ? "another" : name;
    this.utilisation = fault === "medium-is-overfull" ? 2 : 0;
    this.#place = fault === "medium-without-places" ? "somebody" : place;
    this.#all = all;
    this.#fault = fault;
  }

  airtimeMs(bytes: number): number {
    if (this.#fault === "medium-costs-nothing") return 1;
    const ms = (bytes * 8_000) / CHANNEL_RATE_BITS + 100;
    return this.#fault === "medium-gets-cheaper" && bytes === MTU ? ms - 50 : ms;
  }

  broadcast(bytes: Uint8Array): boolean {
    if (bytes.length > MTU && this.#fault !== "medium-takes-too-much") return false;
    const kept = this.#fault === "medium-keeps-what-was-lent" ? bytes : new Uint8Array(bytes);
    const hearers = [...this.#all].filter((one) => one !== this || this.#fault === "medium-hears-itself");
    if (this.#fault !== "medium-is-deaf")
      setImmediate(() => {
        for (const hearer of hearers) hearer.#hear(this.#place, kept);
      });
    return true;
  }

  listen(heard: MediumHeard): void {
    if (this.#fault !== "medium-forgets-no-listener") this.#heard.length = 0;
    this.#heard.push(heard);
  }

  #hear(from: string, bytes: Uint8Array): void {
    for (const heard of this.#heard) heard(from, bytes);
  }
}

/** Of the fault "keeps-a-socket". */
export const leftOpen: { stop(isOver: boolean): void }[] = [];

interface Listener {
  readonly medium: Medium | undefined;
  accept(pipe: Pipe): void;
}

/** A transport within this process, on a medium of its own. */
export function loopTransport(kind: Pipe["kind"], fault?: TransportFault): Plugin {
  const listeners = new Map<string, Listener>();
  const media = new Set<LoopMedium>();
  const dialNow = async (endpoint: string, signal: AbortSignal, own?: Medium): Promise<Pipe> => {
    if (fault !== "forgets-abort") signal.throwIfAborted();
    if (fault === "keeps-signal") signal.addEventListener("abort", () => {});
    const name = /^loop:\/\/([a-z]+)$/.exec(endpoint)?.[1];
    if (name === undefined && fault !== "swallows-bad-endpoint")
      throw new GodwitError("GODWIT_ENDPOINT_INVALID", `"${endpoint}" is not loop://name`, {
        kind: "config",
      });
    await new Promise((resolve) => setImmediate(resolve));
    if (fault !== "forgets-abort" && fault !== "abort-leaves-the-far-end") signal.throwIfAborted();
    const listener = listeners.get(name ?? "");
    if (listener === undefined && fault === "plain-error") throw new Error("nobody");
    if (listener === undefined)
      throw new GodwitError("GODWIT_DIAL_FAILED", `nobody at ${endpoint}`, { kind: "transport" });
    const near = new LoopPipe(kind, "outbound", ["loop://me", endpoint], fault, own);
    const far = new LoopPipe(kind, "inbound", [endpoint, "loop://me"], fault, listener.medium);
    near.join(far);
    far.join(near);
    listener.accept(far);
    if (fault === "abort-leaves-the-far-end") signal.throwIfAborted();
    if (fault === "abort-closes") signal.addEventListener("abort", () => near.close(), { once: true });
    return near;
  };
  const dial = (endpoint: string, signal: AbortSignal, own?: Medium): Promise<Pipe> => {
    if (fault === "throws-on-bad-endpoint" && !/^loop:\/\/[a-z]+$/.test(endpoint)) throw new Error("bad");
    return dialNow(endpoint, signal, own);
  };
  /** Datagrams are on a channel, streams are not. */
  const mediumFor = (ctx: PluginContext, place: string): LoopMedium | undefined => {
    if (kind === "stream" || fault === "medium-missing") return undefined;
    const medium = new LoopMedium(ctx.instance, place, media, fault);
    media.add(medium);
    ctx.own(() => void media.delete(medium));
    return medium;
  };
  return definePlugin({
    id: "loop",
    namespace: "transport",
    sdk: "^0.1.0",
    permissions: [],
    config: schemaOf(["listen"], fault === "accepts-unknown-keys"),
    start(ctx, { listen }) {
      const medium = mediumFor(ctx, `loop://${listen ?? "me"}`);
      const ofPipes = fault === "medium-of-its-own" ? undefined : medium;
      ctx.transport.register({
        schemes: ["loop"],
        ...(medium === undefined ? {} : { medium }),
        dial: (endpoint, signal) => dial(endpoint, signal, ofPipes),
      });
      if (fault === "keeps-timer") ctx.clock.after(5_000, () => {});
      if (fault === "bad-metric") ctx.counter("Dials-Total", "dials").add();
      // Kept on purpose, and told: whoever runs this closes what is there.
      if (fault === "keeps-a-socket")
        leftOpen.push(Bun.listen({ hostname: "127.0.0.1", port: 0, socket: { data() {} } }));
      if (fault === "keeps-task") ctx.spawn("for ever", () => new Promise(() => {}));
      if (listen === undefined) return;
      listeners.set(listen, { medium: ofPipes, accept: (pipe) => ctx.transport.accept(pipe) });
      if (fault !== "keeps-listening") ctx.own(() => void listeners.delete(listen));
      if (fault === "never-publishes") return;
      ctx.transport.listening([
        `loop://${listen}`,
        ...(fault === "publishes-nonsense" ? ["loop://nowhere"] : []),
      ]);
    },
  });
}

export type DiscoveryFault =
  "bad-endpoint" | "bad-node-id" | "for-ever" | "silent" | "withdraws-twice" | "late";

export const knownHints = ["tcp://a.example:1", "tcp://b.example:1"];

export const listDiscovery = (fault?: DiscoveryFault): Plugin =>
  definePlugin({
    id: "list",
    namespace: "discovery",
    sdk: "^0.1.0",
    permissions: [],
    config: schemaOf([]),
    start(ctx: PluginContext) {
      for (const endpoint of fault === "silent" ? [] : knownHints) ctx.discovery.hint({ endpoint });
      if (fault === "bad-endpoint") ctx.discovery.hint({ endpoint: "c.example:1" });
      if (fault === "bad-node-id") ctx.discovery.hint({ endpoint: "tcp://c.example:1", nodeId: "me" });
      if (fault === "for-ever")
        ctx.discovery.hint({ endpoint: "tcp://c.example:1", permanent: true, lifetimeMs: 1e12 });
      if (fault === "withdraws-twice") ctx.own(() => ctx.discovery.withdraw(knownHints[0]!));
      if (fault === "late") ctx.clock.after(60_000, () => ctx.discovery.hint({ endpoint: knownHints[0]! }));
    },
  });

export type ServiceFault = "answers-twice" | "chokes-on-empty" | "gives-up" | "stray-promise" | "bad-metric";

/** Sends every message back to where it came from; `done` lists what was answered. */
export const echoService = (done: string[], fault?: ServiceFault): Plugin =>
  definePlugin({
    id: "echo",
    namespace: "service",
    sdk: "^0.1.0",
    permissions: ["mesh.read", "mesh.send"],
    config: schemaOf([]),
    start(ctx) {
      const answered = ctx.counter("answered", "messages answered");
      ctx.mesh.onMessage(async (message) => {
        if (fault === "chokes-on-empty" && message.size === 0) throw new Error("empty");
        const reading = ctx.mesh.inbox.body(message.id);
        const body = fault === "gives-up" ? await reading.catch(() => undefined) : await reading;
        if (body === undefined) return;
        const sending = ctx.mesh.send({
          to: message.from,
          body,
          ...(fault === "answers-twice" ? {} : { idempotencyKey: `echo:${message.id}` }),
        });
        if (fault === "stray-promise") return void sending.then(() => done.push(message.id));
        await sending;
        if (fault === "bad-metric") answered.add(-1, { who: message.from });
        else answered.add();
        done.push(message.id);
      });
    },
  });
