import { describe, expect, test } from "bun:test";
import { definePlugin, type Hint, type Pipe, type Plugin, type PluginContext } from "@godwit/sdk";
import { z } from "zod/mini";
import { ManualClock, sleep } from "../../kernel/clock.ts";
import { silentLog } from "../../kernel/log.ts";
import { Metrics } from "../../kernel/metrics.ts";
import { seededRandom } from "../../kernel/random.ts";
import type { MeshBackend } from "./mesh-door.ts";
import { overlayAddress, overlayViews } from "../../view/overlays.ts";
import { stateWords } from "../../view/health.ts";
import { PluginHost } from "./host.ts";
import type { PluginInstance } from "./instance.ts";

type Start = (ctx: PluginContext, config: { size?: number | undefined }) => void | Promise<void>;

const plugin = (id: string, start: Start, namespace: Plugin["namespace"] = "transport"): Plugin =>
  definePlugin({
    id,
    namespace,
    sdk: "^0.1.0",
    permissions: [],
    config: z.strictObject({ size: z.optional(z.number()) }),
    start,
  });
const instance = (
  type: string,
  options = {},
  namespace: Plugin["namespace"] = "transport",
): PluginInstance => ({
  namespace,
  name: `my-${type}`,
  type,
  options,
});
const driver = (name: string) => ({
  schemes: [name],
  dial: async () => ({ remote: name }) as Pipe,
});

function setup(plugins: readonly Plugin[]) {
  const clock = new ManualClock();
  const metrics = new Metrics();
  const log: string[] = [];
  const hints: Hint[] = [];
  const host: PluginHost = new PluginHost({
    plugins,
    clock,
    random: seededRandom(1),
    log: silentLog,
    metrics,
    mesh: {} as MeshBackend,
    network: { addresses: () => [], watch: () => () => {}, refusal: () => undefined },
    events: {
      screen: () => "open" as const,
      pipe: (name) => log.push(`pipe ${name}`),
      listening: () => log.push(`listening ${host.endpoints.join(",")}`),
      hint: (_source, hint) => hints.push(hint) < 4,
      withdraw: (source, endpoint) => log.push(`withdraw ${source} ${endpoint}`),
      withdrawAll: (source) => log.push(`withdraw all ${source}`),
      health: ({ instance: { type }, health }) =>
        log.push(`${type} ${health.state}${health.reason === undefined ? "" : `: ${health.reason}`}`),
    },
  });
  return { clock, metrics, log, hints, host };
}

describe("start", () => {
  test("transports before discovery; stop in reverse, disposers of each in reverse", async () => {
    const order: string[] = [];
    const noting = (id: string, namespace: Plugin["namespace"]) =>
      plugin(
        id,
        (ctx) => {
          order.push(`start ${id}`);
          ctx.own(() => void order.push(`first of ${id}`));
          ctx.own(async () => void order.push(`second of ${id}`));
        },
        namespace,
      );
    const { host } = setup([noting("d", "discovery"), noting("t", "transport")]);
    await host.start([instance("d", {}, "discovery"), instance("t")]);
    await host.stop();
    expect(order).toEqual(["start t", "start d", "second of d", "first of d", "second of t", "first of t"]);
  });

  test("of one that fails is undone and does not keep the others", async () => {
    let isDisposed = false;
    const bad = plugin("bad", (ctx) => {
      ctx.own(() => void (isDisposed = true));
      ctx.transport.register(driver("bad"));
      ctx.transport.listening(["bad://1"]);
      throw new Error("no radio");
    });
    const good = plugin("good", (ctx) => ctx.transport.register(driver("good")));
    const { host, log } = setup([bad, good]);
    await host.start([instance("bad"), instance("good")]);
    await Promise.resolve();
    expect(isDisposed).toBe(true);
    expect([host.canDial("bad://1"), host.canDial("good://1"), host.endpoints]).toEqual([false, true, []]);
    expect(host.running.map(({ health }) => health)).toEqual([
      { state: "down", reason: "no radio" },
      { state: "running" },
    ]);
    expect(log).toContain("withdraw all transport.my-bad");
  });

  test("that takes more than 30 s fails, and nothing it does later counts", async () => {
    const gate = Promise.withResolvers<void>();
    const slow = plugin("slow", async (ctx) => {
      await gate.promise;
      ctx.transport.register(driver("slow"));
      ctx.transport.listening(["slow://1"]);
      ctx.discovery.hint({ endpoint: "slow://2" });
      ctx.health({ state: "running" });
      ctx.spawn("late", () => Promise.reject(new Error("late")));
    });
    const { clock, host, hints } = setup([slow]);
    const starting = host.start([instance("slow")]);
    await clock.advance(30_001);
    expect(host.running[0]!.health.reason).toContain("30 s");
    gate.resolve();
    await starting;
    expect(host.running[0]!.health.state).toBe("down");
    expect([host.canDial("slow://1"), host.endpoints, hints]).toEqual([false, [], []]);
    await host.stop();
    expect(clock.nextAtMs()).toBeUndefined();
  });

  test("with wrong options says which and what; of an unknown type that there is none", async () => {
    const { host } = setup([plugin("tcp", () => {})]);
    await host.start([instance("tcp", { size: "big", colour: 1 }), instance("tpc")]);
    const [options, unknown] = host.running.map(({ health }) => health.reason);
    expect(options).toContain("size: ");
    expect(options).toContain("colour");
    expect(unknown).toContain('no transport of type "tpc"');
  });
});

describe("a running plugin", () => {
  test("whose task fails goes down with the reason, and is undone", async () => {
    const clockOf = Promise.withResolvers<void>();
    const flaky = plugin("flaky", (ctx) => {
      ctx.transport.register(driver("flaky"));
      ctx.spawn("reader", async () => {
        await clockOf.promise;
        throw new Error("port is gone");
      });
    });
    const { host, log } = setup([flaky]);
    await host.start([instance("flaky")]);
    expect(host.canDial("flaky://x")).toBe(true);
    clockOf.resolve();
    await new Promise((resolve) => setImmediate(resolve));
    expect(log).toContain("flaky down: task reader: port is gone");
    expect(host.canDial("flaky://x")).toBe(false);
  });

  test("reports health, counts, hints within its bound, and hands pipes over", async () => {
    const busy = plugin("bus-y", (ctx, config) => {
      ctx.health({ state: "degraded", reason: `size ${config.size}` });
      ctx.counter("frames", "frames seen", ["kind"]).add(2, { kind: "x" });
      ctx.gauge("level", "level").set(7);
      ctx.transport.register(driver("x"));
      for (let i = 0; i < 5; i++) ctx.discovery.hint({ endpoint: `x://${i}` });
      ctx.discovery.withdraw("x://0");
      ctx.transport.accept({} as Pipe);
    });
    const { host, log, hints, metrics } = setup([busy]);
    await host.start([instance("bus-y", { size: 3 })]);
    expect(host.running[0]!.health).toEqual({ state: "degraded", reason: "size 3" });
    expect(hints.length).toBe(5);
    expect(log).toContain("pipe my-bus-y");
    expect(log).toContain("withdraw transport.my-bus-y x://0");
    const text = await metrics.render();
    expect(text).toContain('godwit_plugin_bus_y_frames_total{kind="x"} 2');
    expect(text).toContain("godwit_plugin_bus_y_level 7");
  });
});

describe("a failed plugin", () => {
  /** Fails its first `failures` starts. */
  const shaky = (failures: number) => {
    let starts = 0;
    const one = plugin("shaky", (ctx) => {
      if (++starts <= failures) throw new Error(`no radio ${starts}`);
      ctx.transport.register(driver("shaky"));
    });
    return { one, starts: () => starts };
  };

  test("shows the overlay below it for as long as it runs, and the first that routes a subnet is the node's address", async () => {
    const peers = [{ address: "200:3::4", remote: "tls://192.0.2.7:9001", isUp: true, upMs: 7_900 }];
    const tell = (subnet: string | undefined) => (ctx: PluginContext) =>
      ctx.transport.overlay({ address: "200:1::2", ...(subnet === undefined ? {} : { subnet }), peers });
    const { promise, reject: fail } = Promise.withResolvers<void>();
    const wire = plugin("wire", (ctx) => {
      tell(undefined)(ctx);
      ctx.spawn("wait", () => promise);
    });
    const { host } = setup([wire, plugin("tree", tell("300:1::/64"))]);
    await host.start([instance("wire"), instance("tree")]);
    expect(overlayAddress(host.running)).toEqual({ address: "200:1::2", subnet: "300:1::/64" });
    expect(host.running.map(stateWords)).toEqual(Array(2).fill("running; overlay peers: 1 of 1 up"));
    expect(overlayViews(host.running)[0]).toMatchObject({
      transport: "my-wire",
      subnet: null,
      peers: [{ address: "200:3::4", up: true, up_seconds: 7, rtt_ms: null, direction: null }],
    });
    await host.remove("transport", "my-tree");
    expect([overlayAddress(host.running), overlayViews(host.running).length]).toEqual([undefined, 1]);
    fail(new Error("it is broken"));
    await new Promise((resolve) => setImmediate(resolve));
    expect(overlayViews(host.running)).toEqual([]);
  });

  test("is started again after a pause, and works", async () => {
    const { one, starts } = shaky(2);
    const { clock, host, log } = setup([one]);
    await host.start([instance("shaky")]);
    expect([host.running.length, host.running[0]!.health.state]).toEqual([1, "down"]);
    await clock.advance(1_300);
    expect([starts(), host.running[0]!.health.reason]).toEqual([2, "no radio 2"]);
    await clock.advance(2_600);
    expect([starts(), host.canDial("shaky://x"), host.running.length]).toEqual([3, true, 1]);
    expect(log).toContain("shaky running");
    await host.stop();
    expect(clock.nextAtMs()).toBeUndefined();
  });

  test("that spent its crash budget rests ten minutes, and is not given up", async () => {
    const { one, starts } = shaky(6);
    const { clock, host } = setup([one]);
    await host.start([instance("shaky")]);
    await clock.advance(100_000);
    expect(starts()).toBe(6);
    await clock.advance(400_000);
    expect(starts()).toBe(6);
    await clock.advance(200_000);
    expect([starts(), host.canDial("shaky://x")]).toEqual([7, true]);
    await host.stop();
  });

  test("with a wrong table or a wrong SDK is not started again", async () => {
    const old = { ...plugin("old", () => {}), sdk: "^9.0.0" };
    const { clock, host } = setup([plugin("tcp", () => {}), old]);
    await host.start([instance("tcp", { size: "big" }), instance("old")]);
    expect(host.running[1]!.health.reason).toContain("needs SDK ^9.0.0, this Godwit has ");
    await clock.advance(0);
    expect(clock.nextAtMs()).toBeUndefined();
  });

  test("that was removed meanwhile stays away", async () => {
    const { one, starts } = shaky(9);
    const { clock, host } = setup([one]);
    await host.start([instance("shaky")]);
    await host.remove("transport", "my-shaky");
    await clock.advance(600_000);
    expect([starts(), host.running.length]).toEqual([1, 0]);
  });

  test("does not start beside its earlier life that is still stopping", async () => {
    const order: string[] = [];
    const gate = Promise.withResolvers<void>();
    let starts = 0;
    const slow = plugin("slow", (ctx) => {
      order.push(`start ${++starts}`);
      ctx.own(async () => {
        await gate.promise;
        order.push("gone");
      });
      if (starts === 1) throw new Error("once");
    });
    const { clock, host } = setup([slow]);
    await host.start([instance("slow")]);
    await clock.advance(2_000);
    expect(order).toEqual(["start 1"]);
    gate.resolve();
    await clock.advance(10);
    expect(order).toEqual(["start 1", "gone", "start 2"]);
    await host.stop();
  });
});

describe("dial", () => {
  test("without a transport for the scheme rejects; a driver that throws at once rejects as well", async () => {
    const rude = plugin("rude", (ctx) =>
      ctx.transport.register({
        schemes: ["rude"],
        dial() {
          throw new Error("at once");
        },
      }),
    );
    const { host } = setup([rude]);
    await host.start([instance("rude")]);
    const { signal } = new AbortController();
    const reason = (endpoint: string) => host.dial(endpoint, signal).catch((error: Error) => error.message);
    expect(await reason("x://1")).toContain("no running transport dials x://1");
    expect(await reason("rude://1")).toBe("at once");
    expect(await reason("nonsense")).toContain("no running transport");
  });
});

describe("stop", () => {
  test("does not wait for ever for a plugin that ignores its signal", async () => {
    const order: string[] = [];
    const stubborn = plugin("stubborn", (ctx) => ctx.spawn("deaf", () => new Promise<void>(() => {})));
    const polite = plugin("polite", (ctx) => ctx.own(() => void order.push("polite gone")));
    const { clock, host } = setup([stubborn, polite]);
    await host.start([instance("polite"), instance("stubborn")]);
    const stopping = host.stop();
    await clock.advance(6_000);
    await stopping;
    expect(order).toEqual(["polite gone"]);
    expect(clock.nextAtMs()).toBeUndefined();
  });

  test("ends tasks, closes pipes that come too late, and may be called twice", async () => {
    let ctx: PluginContext | undefined;
    const { clock, host, log } = setup([
      plugin("p", (given) => {
        ctx = given;
        given.transport.listening(["p://1"]);
        given.spawn("waits", (signal) => sleep(clock, 1e9, signal));
      }),
    ]);
    await host.start([instance("p")]);
    await host.stop();
    await host.stop();
    let isClosed = false;
    ctx!.transport.accept({ close: () => (isClosed = true) } as unknown as Pipe);
    expect([isClosed, ctx!.signal.aborted, log.at(-1)]).toEqual([true, true, "listening "]);
    expect(clock.nextAtMs()).toBeUndefined();
  });
});
