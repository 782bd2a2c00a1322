/** A user of others' services, of a third party: does to each what the operator asks, and answers what came of it. */
import { definePlugin, type PluginContext, type ServiceChannel } from "@godwit/sdk";

const config = {
  "~standard": { version: 1 as const, vendor: "plain", validate: () => ({ value: {} }) },
};

/** Filled in by the test: an operator asks plugins by their id. */
declare const ID: string;

interface Input {
  readonly name: string;
  readonly count: number;
}

const codeOf = (error: unknown): string => {
  const { code, message } = error as { readonly code?: string; readonly message: string };
  return code ?? message;
};
const outcomeOf = (promise: Promise<unknown>): Promise<string> => promise.then(() => "answered", codeOf);

/** How often each came. */
async function tally(outcomes: readonly Promise<string>[]): Promise<Record<string, number>> {
  const counts: Record<string, number> = {};
  for (const outcome of await Promise.all(outcomes)) counts[outcome] = (counts[outcome] ?? 0) + 1;
  return counts;
}

/** Whether the message is the one of that number, whole and alone. */
const isWhole = (json: unknown, bytes: Uint8Array, n: number): boolean =>
  (json as { readonly n?: unknown } | null)?.n === n &&
  bytes.length === (n * 7_919) % 4_000 &&
  bytes.every((byte) => byte === n % 251);

let slow: ServiceChannel | undefined;
const read = { messages: 0, broken: 0, ended: null as string | null };

const actions: Readonly<Record<string, (ctx: PluginContext, input: Input) => Promise<unknown>>> = {
  async echo({ services }, { name, count }) {
    const { json, bytes } = await services
      .use(name)
      .request("echo", { json: [count], bytes: new Uint8Array(count).fill(count) });
    return { json, length: bytes.length, isSame: bytes.every((byte) => byte === count % 256) };
  },
  use: async ({ services }, { name }) => services.use(name).isThere,
  flood: ({ services }, { name, count }) =>
    tally(Array.from({ length: count }, () => outcomeOf(services.use(name).request("echo", { json: 1 })))),
  channels: ({ services }, { name, count }) =>
    tally(Array.from({ length: count }, () => outcomeOf(services.use(name).openChannel("echo")))),
  /** Opens and reads nothing. */
  async slow({ services }, { name, count }) {
    slow = await services.use(name).openChannel("pump", { json: count });
    Object.assign(read, { messages: 0, broken: 0, ended: null });
    slow.open({
      message({ json, bytes }) {
        if (!isWhole(json, bytes, read.messages)) read.broken++;
        read.messages++;
      },
      drain() {},
      closed: (error) => void (read.ended = error === undefined ? "politely" : codeOf(error)),
    });
    slow.pause(true);
    return "open";
  },
  async read() {
    slow?.pause(false);
    return "reads";
  },
  seen: async () => read,
  /** What a call in the middle of which its provider goes rejects with. */
  "mid-call": async ({ services }, { name }) => {
    const used = services.use(name);
    const channel = await used.openChannel("echo");
    const ended = new Promise<string>((resolve) =>
      channel.open({
        message() {},
        drain() {},
        closed: (error) => resolve(error === undefined ? "politely" : codeOf(error)),
      }),
    );
    const call = await outcomeOf(used.request("fails"));
    return { call, channel: await ended };
  },
  "exits-provider": ({ services }, { name }) => outcomeOf(services.use(name).request("exits")),
  /** Its channel's handler throws at the far end. */
  async throws({ services }, { name }) {
    const channel = await services.use(name).openChannel("throws");
    const { promise, resolve } = Promise.withResolvers<string>();
    channel.open({
      message() {},
      drain() {},
      closed: (error) => resolve(error === undefined ? "politely" : codeOf(error)),
    });
    channel.send({ json: 1 });
    return await promise;
  },
  async when({ services }, { name }) {
    await services.use(name).whenThere(AbortSignal.timeout(20_000));
    return "there";
  },
  /** Leaves a call and a channel open, and fails. */
  async fails({ services, spawn, clock }, { name }) {
    const used = services.use(name);
    await used.openChannel("echo");
    used.request("hangs").catch(() => {});
    // Once this answer is out.
    clock.after(50, () => spawn("fails", () => Promise.reject(new Error("failed as asked"))));
    return "fails";
  },
};

export default definePlugin({
  id: ID,
  namespace: "discovery",
  sdk: "^0.1.0",
  permissions: ["service:*"],
  config,
  start(ctx) {
    ctx.onRequest(async (request, input) => {
      const action = actions[request];
      if (action === undefined) throw new Error(`it knows no ${request}`);
      return await action(ctx, input as Input).catch((error: unknown) => ({ error: codeOf(error) }));
    });
  },
});
