import { afterEach, describe, expect, test } from "bun:test";
import type { HostAddress, Pipe, PluginHealth, ServiceContext, TransportDriver } from "@godwit/sdk";
import { FakeHostNetwork, ManualClock } from "@godwit/sdk/testkit";
import { dialAny, interleave, type Resolved, STRANGERS_PER_SOURCE_MAX } from "@godwit/sdk/tcp";
import { parseTcpEndpoint } from "./endpoint.ts";
import plugin from "./index.ts";

interface Timer {
  readonly delayMs: number;
  fn: (() => void) | undefined;
}

/** One instance of the plugin on real sockets; its timers run when the test says so. */
class Instance {
  readonly accepted: Pipe[] = [];
  readonly timers: Timer[] = [];
  readonly health: PluginHealth[] = [];
  readonly network = new FakeHostNetwork();
  refused = 0;
  endpoints: readonly string[] = [];
  driver: TransportDriver | undefined;
  warnings = 0;
  /** Called for each accepted pipe. */
  onPipe: (pipe: Pipe) => void = () => {};
  readonly #disposers: (() => void)[] = [];
  readonly #abort = new AbortController();

  async start(options: Record<string, unknown>): Promise<this> {
    const result = (await plugin.config["~standard"].validate(options)) as { value: unknown };
    await plugin.start(this.#context(), result.value);
    instances.push(this);
    return this;
  }

  get port(): number {
    return parseTcpEndpoint(this.endpoints[0]!).port;
  }

  dial(endpoint: string, signal = new AbortController().signal): Promise<Pipe> {
    return this.driver!.dial(endpoint, signal);
  }

  /** Runs the timers that are set now. */
  fire(delayMs: number): void {
    for (const timer of [...this.timers])
      if (timer.delayMs === delayMs) {
        const { fn } = timer;
        timer.fn = undefined;
        fn?.();
      }
  }

  get liveTimers(): number[] {
    return this.timers.filter(({ fn }) => fn !== undefined).map(({ delayMs }) => delayMs);
  }

  stop(): void {
    this.#abort.abort();
    for (const dispose of this.#disposers.splice(0).reverse()) dispose();
  }

  #context(): ServiceContext {
    const nothing = () => {};
    return {
      instance: "lan",
      clock: {
        monotonicMs: () => performance.now(),
        wallMs: () => 0,
        after: (delayMs: number, fn: () => void) => {
          const timer: Timer = { delayMs, fn };
          this.timers.push(timer);
          return { cancel: () => (timer.fn = undefined) };
        },
      },
      log: { debug: nothing, info: nothing, warn: () => this.warnings++, error: nothing },
      signal: this.#abort.signal,
      network: this.network,
      counter: () => ({ add: () => void this.refused++ }),
      gauge: () => ({ set: nothing }),
      own: (dispose: () => void) => this.#disposers.push(dispose),
      health: (health: PluginHealth) => this.health.push(health),
      transport: {
        register: (driver: TransportDriver) => (this.driver = driver),
        accept: (pipe: Pipe) => {
          this.accepted.push(pipe);
          this.onPipe(pipe);
        },
        listening: (endpoints: readonly string[]) => (this.endpoints = endpoints),
      },
    } as unknown as ServiceContext;
  }
}
const instances: Instance[] = [];
afterEach(() => {
  for (const instance of instances.splice(0)) instance.stop();
});

function watch(pipe: Pipe) {
  const closed = Promise.withResolvers<Error | undefined>();
  const seen = { bytes: 0, text: "", drains: 0, closes: 0, closed: closed.promise, waitFor };
  const waiting: { bytes: number; resolve: () => void }[] = [];
  function waitFor(bytes: number): Promise<void> {
    const { promise, resolve } = Promise.withResolvers<void>();
    if (seen.bytes >= bytes) resolve();
    else waiting.push({ bytes, resolve });
    return promise;
  }
  pipe.open({
    data(bytes) {
      seen.bytes += bytes.length;
      if (seen.bytes < 100) seen.text += Buffer.from(bytes).toString();
      for (const waiter of waiting) if (seen.bytes >= waiter.bytes) waiter.resolve();
    },
    drain: () => seen.drains++,
    closed(error) {
      seen.closes++;
      closed.resolve(error);
    },
  });
  return seen;
}
const accepted = (instance: Instance): Promise<Pipe> => {
  const { promise, resolve } = Promise.withResolvers<Pipe>();
  const last = instance.accepted.at(-1);
  if (last !== undefined) resolve(last);
  else instance.onPipe = resolve;
  return promise;
};
async function connect(host = "127.0.0.1") {
  const server = await new Instance().start({ listen: [`${host.includes(":") ? `[${host}]` : host}:0`] });
  const client = await new Instance().start({ listen: [] });
  const arriving = accepted(server);
  const near = await client.dial(server.endpoints[0]!);
  return { server, client, near, far: await arriving };
}
const bytes = (text: string) => new Uint8Array(Buffer.from(text));

describe("a connection", () => {
  for (const host of ["127.0.0.1", "::1"]) {
    test(`over ${host} carries bytes both ways, nothing before it is opened`, async () => {
      const { near, far } = await connect(host);
      expect(near.write(bytes("hello"))).toBe(true);
      const [atFar, atNear] = [watch(far), watch(near)];
      await atFar.waitFor(5);
      far.write(bytes("ho"));
      await atNear.waitFor(2);
      expect([atFar.text, atNear.text]).toEqual(["hello", "ho"]);
      expect([near.direction, far.direction, near.remote, near.local]).toEqual([
        "outbound",
        "inbound",
        far.local,
        far.remote,
      ]);
      near.close();
      far.close();
    });
  }

  test("a slow reader bounds memory: write says stop, drain follows, every byte arrives in order", async () => {
    const { near, far } = await connect();
    const [atFar, atNear] = [watch(far), watch(near)];
    far.pause(true);
    let written = 0;
    const piece = new Uint8Array(128 * 1024);
    while (near.write(piece)) written += piece.length;
    written += piece.length;
    expect(near.bufferedBytes).toBeLessThanOrEqual(512 * 1024 + piece.length);
    expect(atNear.drains).toBe(0);
    far.pause(false);
    await atFar.waitFor(written);
    expect(atFar.bytes).toBe(written);
    for (let i = 0; i < 100 && atNear.drains === 0; i++)
      await new Promise((resolve) => setImmediate(resolve));
    expect([atNear.drains, near.bufferedBytes]).toEqual([1, 0]);
    near.close();
    far.close();
  });

  test("close sends what still waits, then each end hears of it exactly once", async () => {
    const { near, far } = await connect();
    far.pause(true);
    const atNear = watch(near);
    let written = 0;
    const piece = new Uint8Array(256 * 1024);
    while (near.write(piece)) written += piece.length;
    written += piece.length;
    near.close();
    near.close();
    expect(near.write(piece)).toBe(true);
    await atNear.closed;
    const atFar = watch(far);
    await atFar.closed;
    expect([atFar.bytes, atFar.closes, atNear.closes]).toEqual([written, 1, 1]);
  });

  test("a far end that takes nothing more is cut after a second, and its socket does not stay", async () => {
    const { client, near, far } = await connect();
    const atFar = watch(far);
    far.pause(true);
    watch(near);
    const piece = new Uint8Array(256 * 1024);
    while (near.write(piece));
    near.close();
    expect(client.liveTimers).toContain(1_000);
    client.fire(1_000);
    far.pause(false);
    await atFar.closed;
    expect(atFar.closes).toBe(1);
  });

  test("closed while nobody reads frees its socket at both ends", async () => {
    const { client, server, near, far } = await connect();
    // Neither was ever opened: a handshake that was refused.
    near.close();
    far.close();
    for (let i = 0; i < 1_000 && client.liveTimers.length + server.liveTimers.length > 2; i++)
      await new Promise((resolve) => setImmediate(resolve));
    expect(client.liveTimers.filter((delayMs) => delayMs === 1_000)).toEqual([]);
    expect(server.liveTimers.filter((delayMs) => delayMs === 1_000)).toEqual([]);
    const late = watch(far);
    await late.closed;
    expect(late.closes).toBe(1);
  });

  test("a far end that half-closes, resets or vanishes closes the pipe", async () => {
    const server = await new Instance().start({ listen: ["127.0.0.1:0"] });
    for (const how of ["end", "terminate"] as const) {
      const pipes: Pipe[] = [];
      server.onPipe = (pipe) => pipes.push(pipe);
      const socket = await Bun.connect({
        hostname: "127.0.0.1",
        port: server.port,
        allowHalfOpen: true,
        socket: { data() {} },
      });
      while (pipes.length === 0) await new Promise((resolve) => setImmediate(resolve));
      const seen = watch(pipes[0]!);
      socket.write("x");
      await seen.waitFor(1);
      socket[how]();
      await seen.closed;
      expect(seen.closes).toBe(1);
      socket.terminate();
    }
  });

  test("connections that are gone before they are accepted harm nobody", async () => {
    const server = await new Instance().start({ listen: ["127.0.0.1:0"] });
    for (let i = 0; i < 30; i++) {
      const socket = await Bun.connect({ hostname: "127.0.0.1", port: server.port, socket: { data() {} } });
      socket.terminate();
    }
    const client = await new Instance().start({ listen: [] });
    const before = server.accepted.length;
    const pipe = await client.dial(server.endpoints[0]!);
    // Whoever is still there is heard.
    while (server.accepted.length === before) await new Promise<void>((resolve) => setImmediate(resolve));
    expect([pipe.kind, server.accepted.length - before]).toEqual(["stream", 1]);
    for (const far of server.accepted) far.close();
    pipe.close();
  });
});

describe("dial", () => {
  test("a refused one rejects with GODWIT_DIAL_FAILED and names the endpoint", async () => {
    const server = await new Instance().start({ listen: ["127.0.0.1:0"] });
    const endpoint = server.endpoints[0]!;
    server.stop();
    const client = await new Instance().start({ listen: [] });
    const error = await client.dial(endpoint).catch((e: { code: string; message: string }) => e);
    expect(error).toMatchObject({ code: "GODWIT_DIAL_FAILED" });
    expect(error).toHaveProperty("message", expect.stringContaining(endpoint));
  });

  test("aborted before, during or after: the reason before, nothing after, and no connection stays", async () => {
    const { client, server } = await connect();
    const reason = new Error("no longer wanted");
    expect(await client.dial(server.endpoints[0]!, AbortSignal.abort(reason)).catch((e: unknown) => e)).toBe(
      reason,
    );
    const during = new AbortController();
    const dialling = client.dial(server.endpoints[0]!, during.signal);
    during.abort(reason);
    expect(await dialling.catch((e: unknown) => e)).toBe(reason);
    const after = new AbortController();
    const pipe = await client.dial(server.endpoints[0]!, after.signal);
    after.abort(reason);
    const seen = watch(pipe);
    pipe.close();
    await seen.closed;
    // The far end of the one that was aborted in the middle hears that it is gone.
    for (const far of server.accepted.slice(1)) await watch(far).closed;
  });

  test("what is no endpoint rejects and never throws", async () => {
    const client = await new Instance().start({ listen: [] });
    for (const endpoint of ["tcp://", "tcp://a", "tcp://a:99999", "tcp://[::1:1"])
      expect(await client.dial(endpoint).catch((e: { code: string }) => e.code)).toBe(
        "GODWIT_ENDPOINT_INVALID",
      );
  });
});

describe("listening", () => {
  test("a taken port: degraded with the reason, once; free again: running", async () => {
    const holder = Bun.listen({ hostname: "127.0.0.1", port: 0, socket: { data() {} } });
    const instance = await new Instance().start({ listen: ["127.0.0.1:0", `127.0.0.1:${holder.port}`] });
    expect(instance.health).toHaveLength(1);
    expect(instance.health[0]).toMatchObject({ state: "degraded" });
    expect(instance.health[0]!.reason).toContain(`127.0.0.1:${holder.port}`);
    expect(instance.endpoints.length).toBe(1);
    for (let i = 0; i < 5; i++) instance.fire(3_000);
    expect([instance.health.length, instance.warnings]).toEqual([1, 1]);
    expect(instance.liveTimers).toEqual([3_000]);
    holder.stop(true);
    instance.fire(3_000);
    expect(instance.health.at(-1)).toEqual({ state: "running" });
    expect(instance.endpoints.length).toBe(2);
    // Nothing is left to be tried again.
    expect(instance.liveTimers).toEqual([]);
    instance.stop();
  });

  test("stop frees the port", async () => {
    const first = await new Instance().start({ listen: ["127.0.0.1:0"] });
    const { port } = first;
    first.stop();
    const second = await new Instance().start({ listen: [`127.0.0.1:${port}`] });
    expect(second.health).toEqual([{ state: "running" }]);
  });

  test("on every address publishes those that others can dial, and new ones at once", async () => {
    const instance = new Instance();
    instance.network.set([...instance.network.addresses(), at("192.0.2.7", "eth0", "global")]);
    await instance.start({ listen: ["0.0.0.0:0"] });
    expect(instance.endpoints).toEqual([`tcp://192.0.2.7:${instance.port}`]);
    const { port } = instance;
    instance.network.set([at("192.0.2.8", "eth0", "global"), at("172.17.0.1", "docker0", "private", false)]);
    expect(instance.endpoints).toEqual([`tcp://192.0.2.8:${port}`]);
    instance.network.set([]);
    expect(instance.endpoints).toEqual([]);
    expect(instance.health).toEqual([{ state: "running" }]);
  });

  test("an interface's addresses are bound as they come and freed as they go", async () => {
    const instance = await new Instance().start({ listen: ["lan0:0"] });
    expect(instance.endpoints).toEqual([]);
    instance.network.set([at("127.0.0.2", "lan0", "host"), at("127.0.0.3", "lan1", "host")]);
    expect(instance.endpoints.join()).toStartWith("tcp://127.0.0.2:");
    const [before] = instance.endpoints;
    instance.network.set([at("127.0.0.4", "lan0", "host")]);
    expect(instance.endpoints.join()).toStartWith("tcp://127.0.0.4:");
    const error = await instance.dial(before!).catch((e: { code: string }) => e.code);
    expect(error).toBe("GODWIT_DIAL_FAILED");
  });

  test("a link on an address that went is closed at once, others stay", async () => {
    const server = new Instance();
    const [own] = server.network.addresses();
    server.network.set([...server.network.addresses(), at("192.0.2.9", "eth9", "global")]);
    await server.start({ listen: ["[::]:0"] });
    const client = await new Instance().start({ listen: [] });
    const loopback = await client.dial(`tcp://127.0.0.1:${server.port}`);
    const stays = watch(loopback);
    const here = (await import("node:os")).networkInterfaces();
    const address = Object.values(here)
      .flatMap((found) => found ?? [])
      .find(({ internal, family }) => !internal && family === "IPv4")?.address;
    if (address === undefined) return;
    client.network.set([own!, at(address, "eth0", "global")]);
    const pipe = await client.dial(`tcp://${address}:${server.port}`);
    const seen = watch(pipe);
    client.network.set([own!]);
    expect((await seen.closed)?.message).toContain(address);
    expect(stays.closes).toBe(0);
  });

  test("strangers are bounded for each source: the oldest gives way, and a link makes room", async () => {
    const server = await new Instance().start({ listen: ["127.0.0.1:0"] });
    const client = await new Instance().start({ listen: [] });
    const pipes: Pipe[] = [];
    const fill = async () => {
      while (pipes.length < STRANGERS_PER_SOURCE_MAX) pipes.push(await client.dial(server.endpoints[0]!));
      while (server.accepted.length < pipes.length) await Bun.sleep(1);
    };
    await fill();
    expect(server.refused).toBe(0);
    const oldest = watch(pipes[0]!);
    const late = watch(await client.dial(server.endpoints[0]!));
    await oldest.closed;
    expect([late.closes, server.refused]).toEqual([0, 1]);
    server.accepted[1]!.proven!();
    const next = new Promise<Pipe>((resolve) => (server.onPipe = resolve));
    await client.dial(server.endpoints[0]!);
    await next;
    expect(server.refused).toBe(1);
  });

  test("advertise replaces what was found, but only while something listens", async () => {
    const advertise = ["tcp://example.org:1"];
    const open = await new Instance().start({ listen: ["127.0.0.1:0"], advertise });
    expect(open.endpoints).toEqual(advertise);
    const closed = await new Instance().start({ listen: [], advertise });
    expect(closed.endpoints).toEqual([]);
  });
});

describe("dialling a name", () => {
  const v6 = (address: string): Resolved => ({ address, family: 6 });
  const v4 = (address: string): Resolved => ({ address, family: 4 });

  test("families take turns, each address once", () => {
    const found = [v6("::1"), v6("::2"), v6("::3"), v4("1.1.1.1"), v4("1.1.1.1")];
    expect(interleave(found)).toEqual(["::1", "1.1.1.1", "::2", "::3"]);
    expect(interleave([])).toEqual([]);
  });

  function race(found: readonly Resolved[]) {
    const clock = new ManualClock();
    const tried: string[] = [];
    const cancelled: string[] = [];
    const discarded: string[] = [];
    const ends = new Map<string, PromiseWithResolvers<string>>();
    const abort = new AbortController();
    const result = dialAny("tcp://n:1", "n", abort.signal, {
      clock,
      resolve: async () => found,
      connect(address) {
        tried.push(address);
        const end = Promise.withResolvers<string>();
        ends.set(address, end);
        return { connected: end.promise, cancel: () => cancelled.push(address) };
      },
      discard: (address) => discarded.push(address),
    });
    const outcome = result.catch((error: unknown) => error);
    return { clock, tried, cancelled, discarded, ends, abort, outcome };
  }

  test("the next address is tried after 250 ms, the first to connect wins, later ones go", async () => {
    const { clock, tried, cancelled, discarded, ends, outcome } = race([
      v6("::1"),
      v4("1.1.1.1"),
      v4("2.2.2.2"),
    ]);
    await settle();
    expect(tried).toEqual(["::1"]);
    clock.advance(249);
    expect(tried.length).toBe(1);
    clock.advance(1);
    expect(tried).toEqual(["::1", "1.1.1.1"]);
    ends.get("1.1.1.1")!.resolve("four");
    expect(await outcome).toBe("four");
    expect(cancelled).toEqual(["::1"]);
    ends.get("::1")!.resolve("six");
    await settle();
    expect(discarded).toEqual(["six"]);
    expect(clock.pendingDelays).toEqual([]);
  });

  test("a failure hurries the next, all failures are told", async () => {
    const { tried, ends, outcome, clock } = race([v6("::1"), v4("1.1.1.1")]);
    await settle();
    ends.get("::1")!.reject(new Error("no route"));
    await settle();
    expect(tried).toEqual(["::1", "1.1.1.1"]);
    ends.get("1.1.1.1")!.reject(new Error("refused"));
    expect(String(await outcome)).toContain("::1: no route; 1.1.1.1: refused");
    expect(clock.pendingDelays).toEqual([]);
  });

  test("a refusal of the system is told where the words do not", async () => {
    const { ends, outcome } = race([v6("::1"), v4("1.1.1.1")]);
    await settle();
    ends.get("::1")!.reject(Object.assign(new Error("Failed to connect"), { code: "EACCES" }));
    await settle();
    ends.get("1.1.1.1")!.reject(Object.assign(new Error("connect EPERM"), { code: "EPERM" }));
    expect(String(await outcome)).toEndWith("::1: Failed to connect (EACCES); 1.1.1.1: connect EPERM");
  });
});

const settle = () => new Promise((resolve) => setImmediate(resolve));
const at = (
  address: string,
  name: string,
  scope: HostAddress["scope"],
  isAdvertisable = scope === "global" || scope === "private",
): HostAddress => ({
  address,
  family: address.includes(":") ? 6 : 4,
  prefixLength: 24,
  interface: name,
  scope,
  isAdvertisable,
});
