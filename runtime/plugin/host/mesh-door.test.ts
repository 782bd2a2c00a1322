import { describe, expect, test } from "bun:test";
import type { IncomingMeshStream, IncomingMessage, SentMessage } from "@godwit/sdk";
import { type FakeStream, fakeStreamPair } from "@godwit/sdk/testkit";
import { ManualClock } from "../../kernel/clock.ts";
import { silentLog } from "../../kernel/log.ts";
import { Scope } from "../../kernel/scope.ts";
import { type MeshBackend, openMeshDoor } from "./mesh-door.ts";

const settled = () => new Promise<void>((resolve) => setImmediate(resolve));

function setup(initial: readonly string[] = []) {
  const inbox = new Map<string, IncomingMessage>();
  const places = new Map<string, number>();
  const put = (id: string) => {
    places.set(id, places.size + 1);
    inbox.set(id, { id } as IncomingMessage);
  };
  for (const id of initial) put(id);
  const arrivals = new Set<() => void>();
  const changes = new Set<(message: SentMessage) => void>();
  const opened: FakeStream[] = [];
  const services = new Map<string, (stream: IncomingMeshStream) => void>();
  const backend: MeshBackend = {
    self: { id: "a", callsign: undefined, location: undefined, network: "n", version: "0" },
    stations: () => [],
    send: async () => ({ id: "sent" }),
    sent: async () => undefined,
    inbox: {
      get count() {
        return inbox.size;
      },
      list: async ({ limit, after }) => {
        const all = [...inbox.values()];
        const start = after === undefined ? 0 : all.findIndex(({ id }) => id === after) + 1;
        return all.slice(start, start + limit);
      },
      get: async (id) => inbox.get(id),
      since: async (place, limit) =>
        [...inbox.values()]
          .map((message) => ({ place: places.get(message.id)!, message }))
          .filter((placed) => placed.place > place)
          .slice(0, limit),
      body: async () => new Uint8Array(0),
      remove: async (id) => void inbox.delete(id),
    },
    openStream: async (to, service, options) => {
      options?.signal?.throwIfAborted();
      const { near } = fakeStreamPair({ opener: "a", handler: to }, service);
      opened.push(near);
      return near;
    },
    onStream(service, handler) {
      services.set(service, handler);
      return () => void services.delete(service);
    },
    onArrival(handler) {
      arrivals.add(handler);
      return () => void arrivals.delete(handler);
    },
    onChanged(handler) {
      changes.add(handler);
      return () => void changes.delete(handler);
    },
  };
  const scope = new Scope("service.test");
  const clock = new ManualClock();
  const mesh = openMeshDoor({ backend, scope, clock, log: silentLog });
  return {
    mesh,
    scope,
    clock,
    inbox,
    arrivals,
    changes,
    opened,
    services,
    arrive(id: string) {
      put(id);
      for (const handler of arrivals) handler();
    },
  };
}

describe("streams", () => {
  test("what a plugin opened and took ends with it; what is over is forgotten", async () => {
    const { mesh, scope, opened, services } = setup();
    const errors: (string | undefined)[] = [];
    const handlers = {
      data() {},
      end() {},
      drain() {},
      closed: (error?: Error) => errors.push(error?.message),
    };
    const stream = await mesh.openStream("LON-B", "test:echo");
    stream.open(handlers);
    expect(stream.remote).toBe("LON-B");
    mesh.onStream("test:in", (incoming) => {
      incoming.accept();
      incoming.open(handlers);
    });
    const { near, far } = fakeStreamPair({ opener: "b", handler: "a" }, "test:in");
    services.get("test:in")!(far);
    near.open(handlers);
    await scope.close();
    await settled();
    expect([opened[0]!.isClosed, far.isClosed, services.size]).toEqual([true, true, 0]);
    expect(errors.length).toBe(3);
    await expect(mesh.openStream("LON-B", "late")).rejects.toMatchObject({ code: "GODWIT_STOPPED" });
  });

  test("a handler that throws resets the stream, and the plugin lives on", async () => {
    const { mesh, services, scope } = setup();
    mesh.onStream("test:in", () => {
      throw new Error("no");
    });
    const { far } = fakeStreamPair({ opener: "b", handler: "a" }, "test:in");
    services.get("test:in")!(far);
    expect([far.isClosed, scope.isClosed]).toEqual([true, false]);
  });
});

describe("onMessage", () => {
  test("hands over what is there, oldest first and past a page, then what comes, one at a time", async () => {
    const before = Array.from({ length: 1_203 }, (_, i) => `m${i}`);
    const { mesh, arrive } = setup(before);
    const got: string[] = [];
    let running = 0;
    mesh.onMessage(async ({ id }) => {
      expect(++running).toBe(1);
      await Promise.resolve();
      got.push(id);
      running--;
    });
    arrive("new");
    expect(got).toEqual([]);
    await settled();
    expect(got).toEqual([...before, "new"]);
    arrive("newer");
    await settled();
    expect(got.at(-1)).toBe("newer");
  });

  test("one that fails comes again, later each time, and holds up nobody", async () => {
    const { mesh, clock, arrive, inbox } = setup(["bad", "good"]);
    const got: string[] = [];
    mesh.onMessage(({ id }) => {
      got.push(id);
      if (id === "bad") throw new Error("not now");
    });
    await settled();
    expect(got).toEqual(["bad", "good"]);
    await clock.advance(999);
    await settled();
    expect(got).toHaveLength(2);
    await clock.advance(1);
    await settled();
    expect(got).toEqual(["bad", "good", "bad"]);
    await clock.advance(1_999);
    arrive("other");
    await settled();
    expect(got.slice(3)).toEqual(["other"]);
    inbox.delete("bad");
    await clock.advance(1);
    await settled();
    expect(got.slice(3)).toEqual(["other"]);
  });

  test("one that was removed before its turn does not come", async () => {
    const { mesh, arrive } = setup(["a", "b"]);
    const got: string[] = [];
    mesh.onMessage(async ({ id }) => {
      got.push(id);
      if (id === "a") await mesh.inbox.remove("b");
    });
    arrive("c");
    await settled();
    expect(got).toEqual(["a", "c"]);
  });
});

test("after the plugin stopped nothing is called, answered, or left behind", async () => {
  const { mesh, scope, clock, arrive, arrivals, changes } = setup(["bad"]);
  let calls = 0;
  mesh.onMessage(() => {
    calls++;
    throw new Error("again");
  });
  mesh.onSent(() => calls++);
  await settled();
  expect(calls).toBe(1);
  await scope.close();
  expect([arrivals.size, changes.size]).toEqual([0, 0]);
  arrive("late");
  await clock.advance(1_000_000);
  await settled();
  expect(calls).toBe(1);
  await expect(mesh.send({ to: "DUN-A", body: new Uint8Array(0) })).rejects.toMatchObject({
    code: "GODWIT_STOPPED",
  });
  await expect(mesh.inbox.body("x")).rejects.toMatchObject({ code: "GODWIT_STOPPED" });
  expect(() => mesh.stations()).toThrow("stopped");
  expect(() => mesh.onSent(() => {})).toThrow("stopped");
});

test("a state handler that throws does not reach whoever delivers", () => {
  const { mesh, changes } = setup();
  mesh.onSent(() => {
    throw new Error("mine");
  });
  for (const handler of changes) handler({} as SentMessage);
});
