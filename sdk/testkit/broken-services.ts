/** A provider and a consumer of a named service for the kit's own tests: correct as long as no fault is asked for, and wrong in one way when one is. */
import {
  definePlugin,
  GodwitError,
  type Plugin,
  type PluginContext,
  type ServiceChannel,
  type ServiceMessage,
} from "../src/index.ts";
import { schemaOf } from "./broken.ts";

export type ProviderFault =
  | "absent"
  | "answers-anything"
  | "dies-with-its-consumer"
  | "drops-the-slow"
  | "fails-at-strange"
  | "hangs-when-given-up"
  | "hoards"
  | "impatient"
  | "mute"
  | "never-resumes"
  | "one-for-all"
  | "opens-anything"
  | "silent"
  | "throws-at-strange"
  | "throws-in-message";

const unknown = (ask: string) =>
  new GodwitError("GODWIT_NOT_FOUND", `it knows no ${ask}`, { kind: "protocol", retry: "never" });
const turn = () => new Promise<void>((resolve) => setImmediate(resolve));
const never = <T>() => new Promise<T>(() => {});

export interface TestRadio {
  readonly plugin: Plugin;
  /** So many packets were received. */
  hear(count: number): void;
}

/** Offers `radio`: `info`, and channels `listen` on which it sends what it hears. */
export function radioProvider(fault?: ProviderFault): TestRadio {
  const radio = { hear: (_count: number) => {} };
  const plugin = definePlugin({
    id: "radio",
    namespace: "transport",
    sdk: "^0.1.0",
    permissions: ["service.offer:radio"],
    config: schemaOf([]),
    start(ctx) {
      const listeners = new Set<Listener>();
      let heard = 0;
      radio.hear = (count) => {
        for (let i = 0; i < count; i++) {
          heard++;
          const isHeldBack = fault === "one-for-all" && [...listeners].some(({ isFull }) => isFull);
          if (!isHeldBack) for (const listener of listeners) listener.tell(heard);
        }
      };
      if (fault === "absent") return;
      ctx.services.offer("radio", {
        async request({ ask, json }, signal) {
          if (ask !== "info" && fault !== "answers-anything") throw unknown(ask);
          if (fault === "mute") throw unknown(ask);
          await turn();
          if (signal.aborted && fault === "hangs-when-given-up") return await never();
          signal.throwIfAborted();
          if (fault === "throws-at-strange" && Array.isArray(json)) throw new TypeError("an array");
          if (fault === "fails-at-strange" && Array.isArray(json))
            ctx.spawn("strange", () => Promise.reject(new TypeError("an array")));
          return { json: { heard } };
        },
        channel(channel, { ask }) {
          if (ask !== "listen" && fault !== "opens-anything") throw unknown(ask);
          const listener = new Listener(channel, fault);
          listeners.add(listener);
          channel.open({
            message({ json }) {
              if (fault === "throws-in-message" && json === 7) throw new TypeError("a number");
            },
            drain: () => listener.onDrain(),
            closed(error) {
              listeners.delete(listener);
              if (error !== undefined && fault === "dies-with-its-consumer")
                ctx.spawn("mourns", () => Promise.reject(error));
            },
          });
        },
      });
    },
  });
  return { plugin, hear: (count) => radio.hear(count) };
}

class Listener {
  isFull = false;
  readonly #channel: ServiceChannel;
  readonly #fault: ProviderFault | undefined;
  readonly #hoard: number[] = [];

  constructor(channel: ServiceChannel, fault: ProviderFault | undefined) {
    this.#channel = channel;
    this.#fault = fault;
  }

  tell(packet: number): void {
    const fault = this.#fault;
    if (fault === "silent") return;
    if (this.isFull && fault === "hoards") this.#hoard.push(packet);
    // What nobody has room for is lost, as on the air.
    if (this.isFull && fault !== "impatient") return;
    this.isFull = !this.#channel.send({ json: packet });
    if (this.isFull && fault === "drops-the-slow") this.#channel.close();
  }

  onDrain(): void {
    if (this.#fault === "never-resumes") return;
    this.isFull = false;
    while (this.#hoard.length > 0 && !this.isFull) {
      this.isFull = !this.#channel.send({ json: this.#hoard[0] });
      if (!this.isFull) this.#hoard.shift();
    }
  }
}

export type ConsumerFault =
  | "fails-when-refused"
  | "floods"
  | "impatient"
  | "needs-it-at-start"
  | "once"
  | "opens-without-end"
  | "says-it-is-down"
  | "sulks"
  | "trusts";

const RETRY_MS = 1_000;

/** Uses `radio`: asks for `info`, says what it wants to hear, listens. */
export const radioConsumer = (fault?: ConsumerFault): Plugin =>
  definePlugin({
    id: "observer",
    namespace: "service",
    sdk: "^0.1.0",
    permissions: ["service:radio"],
    config: schemaOf([]),
    async start(ctx) {
      const used = ctx.services.use("radio");
      if (fault === "needs-it-at-start") await used.request("info");
      if (fault === "says-it-is-down" && !used.isThere) ctx.health({ state: "down", reason: "no radio" });
      ctx.spawn("listen", async (signal) => {
        while (!signal.aborted) {
          await used.whenThere(signal);
          try {
            await useOnce(ctx, fault);
          } catch (error) {
            if (fault === "fails-when-refused") throw error;
            if (fault === "sulks") return;
          }
          if (fault === "once") return;
          await pause(ctx, RETRY_MS);
        }
      });
    },
  });

/** Until the channel ends. */
async function useOnce(ctx: PluginContext, fault: ConsumerFault | undefined): Promise<void> {
  const used = ctx.services.use("radio");
  const { signal } = ctx;
  if (fault === "floods") for (let i = 0; i < 100; i++) used.request("info").catch(() => {});
  if (fault === "opens-without-end") for (let i = 0; i < 100; i++) used.openChannel("listen").catch(() => {});
  const channel = await used.openChannel("listen", {}, { signal });
  const over = Promise.withResolvers<void>();
  const count = ({ json }: ServiceMessage): number =>
    fault === "trusts" ? (json as { readonly of: string }).of.length : 1;
  channel.open({
    message: (message) => void count(message),
    drain() {},
    closed: () => over.resolve(),
  });
  for (let i = 0; i < 1_000; i++) if (!channel.send({ json: { filter: i } }) && fault !== "impatient") break;
  await over.promise;
}

/** Rejects with the reason of the stop. */
async function pause({ clock, signal }: PluginContext, ms: number): Promise<void> {
  signal.throwIfAborted();
  const { promise, resolve, reject } = Promise.withResolvers<void>();
  const onAbort = () => reject(signal.reason as Error);
  const timer = clock.after(ms, resolve);
  signal.addEventListener("abort", onAbort, { once: true });
  try {
    await promise;
  } finally {
    timer.cancel();
    signal.removeEventListener("abort", onAbort);
  }
}
