import { describe, expect, test } from "bun:test";
import type { Pipe, ServiceContext, TransportDriver } from "@godwit/sdk";
import { memoryTransport } from "./index.ts";
import { MemoryNetwork } from "./network.ts";

const turn = () => new Promise((resolve) => setImmediate(resolve));

function watch(pipe: Pipe) {
  const seen = { data: [] as string[], drains: 0, closed: 0 };
  pipe.open({
    data: (bytes) => seen.data.push(Buffer.from(bytes).toString()),
    drain: () => seen.drains++,
    closed: () => seen.closed++,
  });
  return seen;
}
function connect() {
  const network = new MemoryNetwork();
  let far: Pipe | undefined;
  network.listen("far", (pipe) => (far = pipe));
  const near = network.dial("far", "near");
  return { network, near, far: far! };
}
const bytes = (text: string) => new Uint8Array(Buffer.from(text));

describe("a pair of pipes", () => {
  test("carries bytes both ways, only once opened, and copies what is written", async () => {
    const { near, far } = connect();
    const buffer = bytes("hi");
    near.write(buffer);
    buffer.fill(0);
    await turn();
    const [atFar, atNear] = [watch(far), watch(near)];
    far.write(bytes("ho"));
    await turn();
    expect([atFar.data, atNear.data]).toEqual([["hi"], ["ho"]]);
    expect([near.remote, near.local, far.remote, far.direction]).toEqual([
      "memory://far",
      "memory://near",
      "memory://near",
      "inbound",
    ]);
  });

  test("a slow reader: write says stop at the high-water mark, drain follows when it reads", async () => {
    const { near, far } = connect();
    const [atFar, atNear] = [watch(far), watch(near)];
    far.pause(true);
    let written = 0;
    while (near.write(new Uint8Array(64 * 1024))) written++;
    expect([written, near.bufferedBytes]).toEqual([15, 1024 * 1024]);
    await turn();
    expect([atFar.data.length, atNear.drains]).toEqual([0, 0]);
    far.pause(false);
    await turn();
    expect([atFar.data.length, atNear.drains, near.bufferedBytes]).toEqual([16, 1, 0]);
  });

  test("close delivers what was written before, and each end hears of it exactly once", async () => {
    const { near, far } = connect();
    const [atFar, atNear] = [watch(far), watch(near)];
    near.write(bytes("last"));
    near.close();
    near.close();
    expect(near.write(bytes("too late"))).toBe(true);
    await turn();
    far.close();
    await turn();
    expect([atFar, atNear]).toEqual([
      { data: ["last"], drains: 0, closed: 1 },
      { data: [], drains: 0, closed: 1 },
    ]);
  });

  test("one that is dead before it is opened says so soon after", async () => {
    const { near, far } = connect();
    near.close();
    await turn();
    const [atFar, atNear] = [watch(far), watch(near)];
    await turn();
    expect([atFar.closed, atNear.closed]).toEqual([1, 1]);
  });
});

describe("the plugin", () => {
  function start(network: MemoryNetwork, listen?: string) {
    const disposers: (() => void)[] = [];
    const seen = {
      driver: undefined as TransportDriver | undefined,
      accepted: [] as Pipe[],
      endpoints: [] as readonly string[],
    };
    const ctx = {
      instance: "m",
      own: (dispose: () => void) => disposers.push(dispose),
      transport: {
        register: (driver: TransportDriver) => (seen.driver = driver),
        accept: (pipe: Pipe) => seen.accepted.push(pipe),
        listening: (endpoints: readonly string[]) => (seen.endpoints = endpoints),
      },
    } as unknown as ServiceContext;
    void memoryTransport(network).start(ctx, { listen });
    return { seen, stop: () => disposers.forEach((dispose) => dispose()) };
  }
  const { signal } = new AbortController();

  test("listens, is dialled, and is gone after stop; a taken name is refused", async () => {
    const network = new MemoryNetwork();
    const far = start(network, "far");
    const near = start(network);
    expect(far.seen.endpoints).toEqual(["memory://far"]);
    expect(() => start(network, "far")).toThrow("taken");
    const pipe = await near.seen.driver!.dial("memory://far", signal);
    expect([far.seen.accepted.length, pipe.direction]).toEqual([1, "outbound"]);
    far.stop();
    expect(await near.seen.driver!.dial("memory://far", signal).catch((e: { code: string }) => e.code)).toBe(
      "GODWIT_DIAL_FAILED",
    );
  });

  test("an aborted dial rejects with the reason", async () => {
    const { seen } = start(new MemoryNetwork(), "x");
    const reason = new Error("no");
    expect(await seen.driver!.dial("memory://x", AbortSignal.abort(reason)).catch((e: unknown) => e)).toBe(
      reason,
    );
  });
});
