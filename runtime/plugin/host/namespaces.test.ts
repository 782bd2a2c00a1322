/** What a plugin may register is its namespace's, and what it was given beside that. Over frames: test/sandbox, remote/namespaces.test.ts. */
import { describe, expect, test } from "bun:test";
import type { Hint, Pipe, Plugin, PluginContext, PluginNamespace } from "@godwit/sdk";
import { ManualClock } from "../../kernel/clock.ts";
import { silentLog } from "../../kernel/log.ts";
import { Metrics } from "../../kernel/metrics.ts";
import { seededRandom } from "../../kernel/random.ts";
import { registerPolicyOf } from "../permissions.ts";
import { PluginHost } from "./host.ts";

interface Told {
  readonly endpoints: string[];
  readonly hints: { readonly hint: Hint; readonly isOperators: boolean }[];
  readonly pipes: Pipe[];
  /** Shared channels, as they began and ended. */
  readonly media: string[];
}

/** Runs `start` in a table of the namespace; answers what it threw and what the node heard. `grant` undefined: trusted. */
async function run(
  namespace: PluginNamespace,
  start: (ctx: PluginContext) => void,
  { asked = [], grant, net = [] }: { asked?: string[]; grant?: string[]; net?: string[] } = {},
): Promise<Told & { error: unknown }> {
  const told: Told = { endpoints: [], hints: [], pipes: [], media: [] };
  let error: unknown;
  const plugin: Plugin = {
    id: "one",
    namespace,
    sdk: "*",
    permissions: asked,
    config: { "~standard": { version: 1, vendor: "plain", validate: (value: unknown) => ({ value }) } },
    start(ctx) {
      try {
        start(ctx);
      } catch (thrown) {
        error = thrown;
      }
    },
  };
  const host = new PluginHost({
    plugins: [plugin],
    clock: new ManualClock(),
    random: seededRandom(1),
    log: silentLog,
    metrics: new Metrics(),
    network: { addresses: () => [], watch: () => () => {}, refusal: () => undefined },
    registerPolicy: () => registerPolicyOf(namespace, asked, grant),
    netPolicy: () => ({
      mayConnect: (to, port) => net.includes(`${to}:${port}`),
      mayListen: () => false,
      mayDatagrams: () => false,
      refusal: String,
    }),
    events: {
      pipe: (_, pipe) => void told.pipes.push(pipe),
      medium: ({ name }) => {
        told.media.push(`+${name}`);
        return () => void told.media.push(`-${name}`);
      },
      listening() {},
      hint: (_source, hint, isOperators) => told.hints.push({ hint, isOperators }) > 0,
      screen: () => undefined,
      withdraw() {},
      withdrawAll() {},
      health() {},
    },
  });
  await host.start([{ namespace, name: "one", type: "one", options: {} }]);
  told.endpoints.push(...host.endpoints);
  await host.stop();
  return { ...told, error };
}

const medium = (name: string) => ({
  name,
  rateBitsPerSecond: 1,
  airtimeMs: () => 1,
  utilisation: 0,
  broadcastBytesMax: 1,
  broadcast: () => true,
  listen() {},
});

test("a shared channel of a plugin that is not trusted takes no scheme from others, so that they are dialled as ever", async () => {
  const registers = (scheme: string, grant?: string[]) =>
    run(
      "transport",
      (ctx) => ctx.transport.register({ ...driver(scheme), medium: medium("one") }),
      grant && { grant },
    );
  for (const scheme of ["tcp", "udp", "tor"])
    expect((await registers(scheme, [])).error).toMatchObject(forbidden);
  expect((await registers("tcp")).error).toBeUndefined();
  expect((await registers("lora", [])).error).toBeUndefined();
});

const driver = (...schemes: string[]) => ({ schemes, dial: () => Promise.reject(new Error("no")) });
const forbidden = { code: "GODWIT_FORBIDDEN" };
let closed = 0;
const pipe = { close: () => void closed++ } as unknown as Pipe;

describe.each(["discovery", "service", "engine", "heal-action"] as const)("a %s", (namespace) => {
  test.each([
    ["trusted", undefined],
    ["not trusted", []],
  ])("that is %s offers no transport, publishes nothing and hands over no pipe", async (_level, grant) => {
    const attempts: ((ctx: PluginContext) => void)[] = [
      (ctx) => ctx.transport.register(driver("tcp")),
      (ctx) => ctx.transport.listening(["tcp://192.0.2.1:1"]),
      (ctx) => ctx.transport.overlay({ address: "200::1", subnet: "300::/64", peers: [] }),
      (ctx) => ctx.transport.accept(pipe),
    ];
    closed = 0;
    for (const attempt of attempts) {
      const { error, endpoints, pipes } = await run(namespace, attempt, grant === undefined ? {} : { grant });
      expect(error).toMatchObject(forbidden);
      expect([endpoints, pipes]).toEqual([[], []]);
    }
    expect(closed).toBe(1);
  });

  test("with the namespace asked for and granted it does", async () => {
    const open = { asked: ["transport"], grant: ["transport"] };
    const attempt = (ctx: PluginContext) => {
      ctx.transport.register(driver("x"));
      ctx.transport.listening(["x://1"]);
    };
    expect(await run(namespace, attempt, open)).toMatchObject({ error: undefined, endpoints: ["x://1"] });
    // One word alone is none.
    expect((await run(namespace, attempt, { ...open, asked: [] })).error).toMatchObject(forbidden);
    expect((await run(namespace, attempt, { ...open, grant: [] })).error).toMatchObject(forbidden);
  });
});

test.each(["service", "engine", "heal-action", "transport"] as const)(
  "a %s names no places to dial",
  async (namespace) => {
    const attempt = (ctx: PluginContext) => ctx.discovery.hint({ endpoint: "tcp://10.0.0.1:22" });
    const { error, hints } = await run(namespace, attempt);
    expect([error, hints]).toMatchObject([forbidden, []]);
    expect(
      (await run(namespace, attempt, { asked: ["discovery"], grant: ["discovery"] })).hints,
    ).toHaveLength(1);
  },
);

test("a transport names neighbours in its own medium, and none of another's", async () => {
  const { error, hints } = await run(
    "transport",
    (ctx) => {
      ctx.transport.register(driver("radio"));
      ctx.discovery.hint({ endpoint: "radio://7" });
      ctx.discovery.hint({ endpoint: "tcp://10.0.0.1:22" });
    },
    { grant: [] },
  );
  expect(hints.map(({ hint, isOperators }) => [hint.endpoint, isOperators])).toEqual([["radio://7", true]]);
  expect(error).toMatchObject(forbidden);
});

test("a transport that is not trusted has no medium of its own in a scheme that Godwit brings along, whoever runs first", async () => {
  const attempt = (ctx: PluginContext) => {
    ctx.transport.register(driver("tcp"));
    ctx.discovery.hint({ endpoint: "tcp://10.0.0.1:22" });
  };
  expect(await run("transport", attempt, { grant: [] })).toMatchObject({ error: forbidden, hints: [] });
  const granted = await run("transport", attempt, { asked: ["discovery"], grant: ["discovery"] });
  expect(granted.hints.map(({ isOperators }) => isOperators)).toEqual([false]);
});

test("a transport that is not trusted publishes what it registered, and no other address", async () => {
  const attempt = (ctx: PluginContext) => {
    ctx.transport.register(driver("radio"));
    ctx.transport.listening(["radio://1", "tcp://192.0.2.1:22"]);
  };
  expect(await run("transport", attempt, { grant: [] })).toMatchObject({ error: forbidden, endpoints: [] });
});

test("engines and heal actions are registered by their kind alone", async () => {
  const withEngine = (ctx: PluginContext) =>
    (ctx as never as { engine: { register(one: object): void } }).engine.register({ guarantee: "eventual" });
  const withAction = (ctx: PluginContext) =>
    (ctx as never as { heal: { register(one: object): void } }).heal.register({ name: "mend" });
  for (const namespace of ["service", "transport", "discovery"] as const)
    for (const attempt of [withEngine, withAction])
      expect((await run(namespace, attempt)).error).toMatchObject(forbidden);
  expect((await run("engine", withEngine)).error).toBeUndefined();
  expect((await run("engine", withAction)).error).toMatchObject(forbidden);
  expect((await run("heal-action", withAction)).error).toBeUndefined();
});

test("permanent is the operator's word of a trusted discovery alone; of others what it may connect to", async () => {
  const attempt = (ctx: PluginContext) => {
    ctx.discovery.hint({ endpoint: "tcp://127.0.0.1:22", permanent: true });
    ctx.discovery.hint({ endpoint: "tcp://[fd00::1]:23" });
  };
  const words = async (options: object) =>
    (await run("discovery", attempt, options)).hints.map((one) => one.isOperators);
  expect(await words({})).toEqual([true, false]);
  expect(await words({ grant: [] })).toEqual([false, false]);
  expect(await words({ grant: [], net: ["127.0.0.1:22"] })).toEqual([true, false]);
  expect(await words({ grant: [], net: ["fd00::1:23"] })).toEqual([false, true]);
});

test("a transport that registers again has the new shared channel alone, and none in the end", async () => {
  const { media } = await run("transport", (ctx) => {
    ctx.transport.register(driver("x"));
    ctx.transport.register({ ...driver("x"), medium: medium("one") });
    ctx.transport.register({ ...driver("x"), medium: medium("two") });
  });
  expect(media).toEqual(["+one", "-one", "+two", "-two"]);
});
