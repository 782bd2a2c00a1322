/** A provider of a third party: offers one service under the name of its table, and does what it is asked, well or badly. */
import { definePlugin, type PluginContext, type ServiceChannel } from "@godwit/sdk";

/** Filled in by the test: an operator asks plugins by their id. */
declare const ID: string;

interface Table {
  readonly offers: string;
}
const config = {
  "~standard": {
    version: 1 as const,
    vendor: "plain",
    validate: (value: unknown) => ({ value: value as Table }),
  },
};

const seen = { calls: 0, aborted: 0, opened: 0, closes: {} as Record<string, number>, unsent: 0 };

/** Numbers, each in a message of a size of its own, until there is no room; goes on at every drain, up to `count`. */
function pump(channel: ServiceChannel, count: number): { drain(): void } {
  let next = 0;
  const drain = () => {
    while (next < count) {
      const bytes = new Uint8Array((next * 7_919) % 4_000).fill(next % 251);
      if (!channel.send({ json: { n: next }, bytes })) break;
      next++;
    }
    seen.unsent = count - next;
    if (next === count) channel.close();
  };
  return { drain };
}

function open(channel: ServiceChannel, ask: string, json: unknown): void {
  if (ask !== "pump" && ask !== "echo" && ask !== "throws") throw new Error(`it knows no ${ask}`);
  seen.opened++;
  const pumping = ask === "pump" ? pump(channel, Number(json)) : undefined;
  channel.open({
    message(message) {
      if (ask === "throws") throw new Error("thrown at a message");
      channel.send(message);
    },
    drain: () => pumping?.drain(),
    closed(error) {
      const code = error === undefined ? "politely" : ((error as { code?: string }).code ?? error.message);
      seen.closes[code] = (seen.closes[code] ?? 0) + 1;
    },
  });
  pumping?.drain();
}

const fails = (ctx: PluginContext) => {
  ctx.spawn("fails", () => Promise.reject(new Error("failed as asked")));
  return new Promise<never>(() => {});
};

export default definePlugin({
  id: ID,
  namespace: "discovery",
  sdk: "^0.1.0",
  permissions: ["service.offer:*"],
  config,
  start(ctx, { offers }) {
    ctx.services.offer(offers, {
      async request({ ask, consumer, json, bytes }, signal) {
        seen.calls++;
        if (ask === "echo") return { json: { consumer, json }, bytes };
        if (ask === "fails") return await fails(ctx);
        if (ask === "exits") process.exit(7);
        if (ask === "hangs") {
          signal.addEventListener("abort", () => seen.aborted++);
          return await new Promise(() => {});
        }
        throw new Error(`it knows no ${ask}`);
      },
      channel: (channel, { ask, json }) => open(channel, ask, json),
    });
    ctx.onRequest(async (request) => {
      if (request === "seen") return seen;
      if (request === "offer-other") {
        ctx.services.offer("another-name", { request: async () => ({}) });
        return "offered";
      }
      throw new Error(`it knows no ${request}`);
    });
  },
});
