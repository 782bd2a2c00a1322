/** What the SDK says of `ctx.discovery.hint` and `ctx.own`, by the host joined to the real hints. */
import { definePlugin, type PluginContext, SDK_VERSION, z } from "@godwit/sdk";
import { expect, test } from "bun:test";
import { ManualClock } from "../../kernel/clock.ts";
import { createLog } from "../../kernel/log.ts";
import { Metrics } from "../../kernel/metrics.ts";
import { seededRandom } from "../../kernel/random.ts";
import { Hints, HINTS_PER_SOURCE_MAX } from "../../membership/hints.ts";
import { PluginHost } from "./host.ts";

async function open() {
  const clock = new ManualClock();
  const metrics = new Metrics();
  const lines: string[] = [];
  const hints = new Hints(clock, {
    isKnown: () => false,
    isLinked: () => false,
    wanted() {},
    unwanted() {},
    heard() {},
  });
  const started = Promise.withResolvers<PluginContext>();
  const plugin = definePlugin({
    ...{ id: "finder", namespace: "discovery", sdk: `^${SDK_VERSION}`, permissions: [] },
    config: z.strictObject({}),
    start: (ctx) => started.resolve(ctx),
  });
  const host = new PluginHost({
    plugins: [plugin],
    ...{ clock, metrics, random: seededRandom(1) },
    log: createLog({
      level: "debug",
      format: "text",
      clock,
      sink: { write: (line) => void lines.push(line) },
    }),
    network: { addresses: () => [], watch: () => () => {}, refusal: () => undefined },
    events: {
      screen: () => "open" as const,
      pipe() {},
      listening() {},
      hint: (source, hint, isOperators) => hints.add(source, hint, isOperators ? "operator" : "plugin"),
      withdraw: (source, endpoint) => hints.withdraw(source, endpoint),
      withdrawAll: (source) => hints.withdrawAll(source),
      health() {},
    },
  });
  await host.start([{ namespace: "discovery", name: "f", type: "finder", options: {} }]);
  const dropped = async () =>
    Number(/^godwit_hints_dropped_total (\d+)/m.exec(await metrics.render())?.[1] ?? 0);
  return { host, hints, lines, dropped, ctx: await started.promise };
}

const endpointOf = (n: number) => `tcp://192.0.2.1:${n}`;

test("a hint beyond 4,096 is dropped, counted and told once, and may be given again when others have ended", async () => {
  const { host, hints, lines, dropped, ctx } = await open();
  expect(HINTS_PER_SOURCE_MAX).toBe(4_096);
  for (let n = 0; n < 4_098; n++) ctx.discovery.hint({ endpoint: endpointOf(n), permanent: true });
  expect([hints.list.length, await dropped()]).toEqual([4_096, 2]);
  expect(lines.filter((line) => line.includes("hint dropped"))).toHaveLength(1);
  ctx.discovery.hint({ endpoint: endpointOf(0) }); // one that is there is replaced
  expect(await dropped()).toBe(2);
  ctx.discovery.withdraw(endpointOf(1));
  ctx.discovery.hint({ endpoint: endpointOf(4_097) });
  expect([hints.list.some(({ endpoint }) => endpoint === endpointOf(4_097)), await dropped()]).toEqual([
    true,
    2,
  ]);
  ctx.discovery.hint({ endpoint: "x".repeat(201) });
  expect(await dropped()).toBe(3);
  await host.stop();
  expect(hints.list).toEqual([]);
});

test("a hint of a malformed node id throws, adds nothing and leaves what was there", async () => {
  const { host, hints, ctx } = await open();
  ctx.discovery.hint({ endpoint: endpointOf(1) });
  for (const at of [1, 2])
    expect(() => ctx.discovery.hint({ endpoint: endpointOf(at), nodeId: "nonsense" })).toThrow(
      expect.objectContaining({ code: "GODWIT_ID_INVALID" }),
    );
  expect(hints.list).toMatchObject([{ endpoint: endpointOf(1), nodeId: undefined }]);
  await host.stop();
});

test("own: last first, each after the one before has settled; what one throws is logged; after the end at once", async () => {
  const { host, lines, ctx } = await open();
  const order: string[] = [];
  ctx.own(() => void order.push("first"));
  ctx.own(() => {
    order.push("throws");
    throw new Error("stuck valve");
  });
  ctx.own(async () => {
    order.push("slow begins");
    for (let turn = 0; turn < 20; turn++) await Promise.resolve();
    order.push("slow ends");
  });
  await host.stop();
  expect(order).toEqual(["slow begins", "slow ends", "throws", "first"]);
  expect(lines.some((line) => line.includes("stuck valve"))).toBe(true);
  ctx.own(() => void order.push("late"));
  expect(order.at(-1)).toBe("late");
});
