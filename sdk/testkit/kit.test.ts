import { describe, expect, test } from "bun:test";
import { definePlugin, type PluginContext } from "../src/index.ts";
import { schemaOf } from "./broken.ts";
import { turn } from "./conformance/check.ts";
import {
  describeSocket,
  FakeMesh,
  ManualClock,
  openSockets,
  seededRandom,
  TestHost,
  WatchedAbort,
} from "./index.ts";

describe("the clock", () => {
  test("runs timers in order of time, those set meanwhile too, and none that was cancelled", () => {
    const clock = new ManualClock();
    const seen: string[] = [];
    clock.after(20, () => seen.push(`b${clock.monotonicMs()}`));
    clock.after(10, () => {
      seen.push(`a${clock.monotonicMs()}`);
      clock.after(5, () => seen.push(`c${clock.monotonicMs()}`));
    });
    clock.after(10, () => seen.push("never")).cancel();
    clock.after(100, () => seen.push("later"));
    clock.advance(50);
    expect(seen).toEqual(["a10", "c15", "b20"]);
    expect([clock.monotonicMs(), clock.pendingDelays]).toEqual([50, [100]]);
    expect(() => clock.after(-1, () => {})).toThrow(RangeError);
  });
});

test("the seed decides, within bounds", () => {
  const [a, b, c] = [seededRandom(1), seededRandom(1), seededRandom(2)];
  const bytes = a.bytes(64);
  expect(b.bytes(64)).toEqual(bytes);
  expect(c.bytes(64)).not.toEqual(bytes);
  const seen = new Set(Array.from({ length: 200 }, () => a.below(3)));
  expect([...seen].sort()).toEqual([0, 1, 2]);
});

describe("the mesh", () => {
  test("a handler that rejects is asked again, after the others, later each time", async () => {
    const clock = new ManualClock();
    const mesh = new FakeMesh(clock);
    const [first, second] = [mesh.receive("1"), mesh.receive("2")];
    const tries: string[] = [];
    mesh.onMessage(async ({ id }) => {
      tries.push(id);
      if (id === first && tries.length < 4) throw new Error("not yet");
    });
    await turn();
    expect([tries, clock.pendingDelays]).toEqual([[first, second], [1_000]]);
    clock.advance(1_000);
    await turn();
    expect([tries.length, clock.pendingDelays]).toEqual([3, [2_000]]);
    clock.advance(2_000);
    await turn();
    expect([tries, clock.pendingDelays]).toEqual([[first, second, first, first], []]);
  });

  test("send copies, keeps keys apart, and refuses like the real one", async () => {
    const mesh = new FakeMesh(new ManualClock());
    const body = Uint8Array.of(1);
    const { id } = await mesh.send({ to: "LON-B", body, idempotencyKey: "x:1" });
    body[0] = 2;
    expect(mesh.outgoing[0]!.body).toEqual(Uint8Array.of(1));
    expect(await mesh.send({ to: "lon-b", body: Uint8Array.of(1), idempotencyKey: "x:1" })).toEqual({ id });
    const codeOf = (sending: Promise<unknown>) => sending.catch((error: { code: string }) => error.code);
    expect(await codeOf(mesh.send({ to: "LON-B", body, idempotencyKey: "x:1" }))).toBe(
      "GODWIT_IDEMPOTENCY_CONFLICT",
    );
    expect(await codeOf(mesh.send({ to: "no such", body }))).toBe("GODWIT_ADDRESS_INVALID");
    expect(await codeOf(mesh.inbox.remove("0"))).toBe("GODWIT_MESSAGE_UNKNOWN");
    mesh.stop();
    expect(await codeOf(mesh.send({ to: "LON-B", body }))).toBe("GODWIT_STOPPED");
  });

  test("a transient message goes to a station that is reachable, now or never, and has no state", async () => {
    const mesh = new FakeMesh(new ManualClock());
    const station = (id: string, callsign: string, isReachable: boolean) => ({
      id: id.repeat(52),
      callsign,
      isReachable,
      costMs: undefined,
      via: undefined,
    });
    mesh.setStations([station("b", "LON-B", true), station("c", "NYC-C", false)]);
    const send = (to: string) =>
      mesh.send({ to, body: Uint8Array.of(1), transient: true }).then(
        async ({ id }) => (await mesh.sent(id)) ?? "gone",
        (error: { code: string }) => error.code,
      );
    expect([await send("lon-b"), await send("b".repeat(52))]).toEqual(["gone", "gone"]);
    expect([await send("NYC-C"), await send("d".repeat(52)), await send("LON"), await send("PAR-X")]).toEqual(
      ["GODWIT_NO_ROUTE", "GODWIT_NO_ROUTE", "GODWIT_NAME_UNKNOWN", "GODWIT_NAME_UNKNOWN"],
    );
    expect(mesh.outgoing.map(({ to }) => to)).toEqual(["lon-b", "b".repeat(52)]);
  });
});

describe("the host", () => {
  const hostOf = (start: (ctx: PluginContext) => void | Promise<void>) =>
    new TestHost(
      definePlugin({
        id: "x",
        namespace: "discovery",
        sdk: "^0.1.0",
        permissions: [],
        config: schemaOf([]),
        start,
      }),
    );

  test("stops like the real one: abort, tasks, then what is owned in reverse", async () => {
    const seen: string[] = [];
    const host = hostOf((ctx) => {
      ctx.own(() => void seen.push("first"));
      ctx.own(() => void seen.push("second"));
      ctx.spawn("wait", async (signal) => {
        await new Promise((resolve) => signal.addEventListener("abort", resolve, { once: true }));
        seen.push("task");
      });
    });
    await host.start({});
    await Promise.all([host.stop(), host.stop()]);
    expect(seen).toEqual(["task", "second", "first"]);
    expect(host.leaks()).toEqual([]);
  });

  test("notes tasks that fail, metrics that change, hints beyond the bound", async () => {
    const host = hostOf((ctx) => {
      ctx.spawn("bad", async () => {
        throw new Error("oh");
      });
      ctx.counter("calls", "", ["result"]).add(1, {});
      ctx.gauge("calls", "").set(Number.NaN);
      for (let i = 0; i < 4_097; i++) ctx.discovery.hint({ endpoint: `tcp://a:${i}` });
    });
    await host.start({});
    await turn();
    expect(host.leaks()).toEqual([
      "metric calls has labels (result) and was given ()",
      "metric calls is counter(result) and gauge()",
      "gauge calls is NaN",
      "more than 4096 live hints",
      'task "bad" failed: Error: oh',
    ]);
    await host.stop();
  });

  test("refuses a configuration that the schema refuses", async () => {
    expect(
      await hostOf(() => {})
        .start({ odd: 1 })
        .catch((error: { code: string }) => error.code),
    ).toBe("GODWIT_CONFIG_INVALID");
  });

  test("names the sockets that are open, with both ends and what became of them", async () => {
    const before = openSockets()!;
    const fresh = () => [...openSockets()!].filter((name) => !before.has(name)).map(describeSocket);
    using server = Bun.listen({ hostname: "::1", port: 0, socket: { data() {} } });
    expect(fresh()).toContain(
      `tcp6 [0000:0000:0000:0000:0000:0000:0000:0001]:${server.port} to [0000:0000:0000:0000:0000:0000:0000:0000]:0, listening`,
    );
    const udp = await Bun.udpSocket({ hostname: "127.0.0.1" });
    expect(fresh()).toContain(`udp 127.0.0.1:${udp.port}`);
    udp.close();
    expect(describeSocket("socket:[1]")).toBe("socket:[1]");
  });

  test("knows who still listens to a signal", () => {
    const abort = new WatchedAbort();
    const listener = () => {};
    abort.signal.addEventListener("abort", listener);
    expect(abort.listenerCount).toBe(1);
    abort.signal.removeEventListener("abort", listener);
    expect(abort.listenerCount).toBe(0);
  });
});
