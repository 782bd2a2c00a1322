/** Services between plugins in the node's thread: who may, what holds whom back, and how everything ends. */
import { describe, expect, test } from "bun:test";
import {
  type OfferedService,
  SERVICE_LIMITS,
  type ServiceChannel,
  type ServiceMessage,
  type ServiceRequest,
} from "@godwit/sdk";
import { ManualClock } from "../../kernel/clock.ts";
import { godwitError } from "../../kernel/errors.ts";
import { silentLog } from "../../kernel/log.ts";
import { Metrics } from "../../kernel/metrics.ts";
import { Scope } from "../../kernel/scope.ts";
import { doorPolicyOf } from "../permissions.ts";
import { ServiceBoard } from "./board.ts";

function rig() {
  const clock = new ManualClock();
  const metrics = new Metrics();
  const board = new ServiceBoard(clock, metrics);
  const plugin = (source: string, grant?: readonly string[]) => {
    const scope = new Scope(source);
    const asked = ["service:*", "service.offer:*"];
    const policy = doorPolicyOf(asked, grant);
    return { scope, services: board.door({ source, scope, policy, log: silentLog }) };
  };
  return { clock, metrics, board, plugin };
}
const codeOf = (promise: Promise<unknown>): Promise<string> =>
  promise.then(
    () => "fulfilled",
    (error: { code?: string; message?: string }) => error.code ?? error.message ?? "",
  );
const thrown = (run: () => unknown): string => {
  try {
    run();
    return "nothing";
  } catch (error) {
    return (error as { code: string }).code;
  }
};
const echo: OfferedService = {
  request: async ({ ask, consumer, json, bytes }) => ({ json: { ask, consumer, json }, bytes }),
};
const settled = () => new Promise<void>((resolve) => setImmediate(resolve));

/** A channel's end that notes what comes. */
function listen(channel: ServiceChannel) {
  const heard: ServiceMessage[] = [];
  const state = { heard, drains: 0, ended: undefined as string | undefined };
  channel.open({
    message: (message) => void heard.push(message),
    drain: () => void state.drains++,
    closed: (error) =>
      void (state.ended = error === undefined ? "closed" : (error as { code?: string }).code),
  });
  return state;
}
/** Offers channels; answers each far end as it comes. */
function channels() {
  const far: ServiceChannel[] = [];
  return { far, service: { channel: (channel) => void far.push(channel) } satisfies OfferedService };
}

describe("who may", () => {
  test("a plugin that is not trusted offers and uses what was granted by name, and nothing else", async () => {
    const { plugin } = rig();
    const provider = plugin("service.a", ["service.offer:radio"]);
    const consumer = plugin("transport.b", ["service:radio"]);
    provider.services.offer("radio", echo);
    expect(thrown(() => provider.services.offer("other", echo))).toBe("GODWIT_FORBIDDEN");
    expect(thrown(() => provider.services.use("radio"))).toBe("GODWIT_FORBIDDEN");
    expect(thrown(() => consumer.services.use("other"))).toBe("GODWIT_FORBIDDEN");
    expect(thrown(() => consumer.services.offer("radio", echo))).toBe("GODWIT_FORBIDDEN");
    const { json } = await consumer.services.use("radio").request("hello", { json: { n: 1 } });
    expect(json).toEqual({ ask: "hello", consumer: "transport.b", json: { n: 1 } });
  });

  test("what was granted for any name is granted for none", () => {
    const { plugin } = rig();
    const one = plugin("service.a", ["service:*", "service.offer:*"]);
    expect(thrown(() => one.services.use("radio"))).toBe("GODWIT_FORBIDDEN");
    expect(thrown(() => one.services.offer("radio", echo))).toBe("GODWIT_FORBIDDEN");
  });

  test("one provider a name; names are names", () => {
    const { plugin } = rig();
    plugin("service.a").services.offer("radio", echo);
    const other = plugin("service.b");
    expect(thrown(() => other.services.offer("radio", echo))).toBe("GODWIT_SERVICE_TAKEN");
    for (const name of ["", "Radio", "a b", "1a", "a".repeat(65), "../x"])
      expect(thrown(() => other.services.offer(name, echo))).toBe("GODWIT_REQUEST_INVALID");
    expect(thrown(() => other.services.offer("none", {}))).toBe("GODWIT_REQUEST_INVALID");
  });

  test("so many and no more", () => {
    const { plugin } = rig();
    const one = plugin("service.a");
    for (let i = 0; i < SERVICE_LIMITS.offers; i++) one.services.offer(`o${i}`, echo);
    expect(thrown(() => one.services.offer("more", echo))).toBe("GODWIT_QUEUE_FULL");
    for (let i = 0; i < SERVICE_LIMITS.uses; i++) one.services.use(`o${i}`);
    expect(one.services.use("o1")).toBe(one.services.use("o1"));
    expect(thrown(() => one.services.use("more"))).toBe("GODWIT_QUEUE_FULL");
  });
});

describe("a consumer that starts before its provider", () => {
  test("is told at once that nobody is there, may wait, and hears of each coming and going", async () => {
    const { plugin } = rig();
    const used = plugin("service.b").services.use("radio");
    const changes: boolean[] = [];
    used.onChange(() => changes.push(used.isThere));
    expect([used.isThere, await codeOf(used.request("x"))]).toEqual([false, "GODWIT_SERVICE_ABSENT"]);
    const abort = new AbortController();
    const givenUp = codeOf(used.whenThere(abort.signal));
    abort.abort(new Error("no longer"));
    expect(await givenUp).toBe("no longer");
    const waiting = used.whenThere();
    const provider = plugin("service.a");
    provider.services.offer("radio", echo);
    await waiting;
    await provider.scope.close();
    await settled();
    expect(changes).toEqual([true, false]);
  });

  test("waits no longer than it lives", async () => {
    const { plugin } = rig();
    const consumer = plugin("service.b");
    const used = consumer.services.use("radio");
    const waiting = codeOf(used.whenThere());
    await consumer.scope.close();
    expect([await waiting, await codeOf(used.request("x"))]).toEqual(["GODWIT_STOPPED", "GODWIT_STOPPED"]);
  });
});

describe("requests", () => {
  test("carry copies: neither end can change what the other has", async () => {
    const { plugin } = rig();
    const kept: ServiceRequest[] = [];
    const answer = { json: { deep: [1] }, bytes: new Uint8Array([9]) };
    plugin("service.a").services.offer("radio", {
      request: async (request) => (kept.push(request), answer),
    });
    const used = plugin("service.b").services.use("radio");
    const json = { deep: [1] };
    const bytes = new Uint8Array([1]);
    const asking = used.request("x", { json, bytes });
    json.deep.push(2);
    bytes[0] = 7;
    const told = await asking;
    expect([kept[0]?.json, kept[0]?.bytes]).toEqual([{ deep: [1] }, new Uint8Array([1])]);
    answer.json.deep.push(2);
    answer.bytes[0] = 0;
    expect(told).toEqual({ json: { deep: [1] }, bytes: new Uint8Array([9]) });
  });

  test("the provider's error keeps its code; its bug is its failure, and so is an answer that is none", async () => {
    const { plugin } = rig();
    const cyclic: Record<string, unknown> = {};
    cyclic["self"] = cyclic;
    const answers: Readonly<Record<string, () => unknown>> = {
      refuses: () => Promise.reject(godwitError("GODWIT_QUOTA", "enough")),
      bug: () => Promise.reject(new TypeError("oops")),
      throws: () => {
        throw new TypeError("at once");
      },
      cyclic: () => Promise.resolve({ json: cyclic }),
      large: () => Promise.resolve({ bytes: new Uint8Array(SERVICE_LIMITS.messageBytes) }),
    };
    plugin("service.a").services.offer("radio", {
      request: ({ ask }) => answers[ask]!() as Promise<object>,
    });
    const used = plugin("service.b").services.use("radio");
    const codes = await Promise.all(Object.keys(answers).map((ask) => codeOf(used.request(ask))));
    const failed = "GODWIT_PLUGIN_FAILED";
    expect(codes).toEqual(["GODWIT_QUOTA", failed, failed, failed, failed]);
  });

  test("a provider that stops in mid-call: the call rejects at once, whatever it does", async () => {
    const { plugin } = rig();
    const provider = plugin("service.a");
    let isAborted = false;
    provider.services.offer("radio", {
      request: (_request, signal) =>
        new Promise(() => signal.addEventListener("abort", () => (isAborted = true))),
    });
    const asking = codeOf(plugin("service.b").services.use("radio").request("x"));
    await settled();
    await provider.scope.close();
    expect([await asking, isAborted]).toEqual(["GODWIT_SERVICE_GONE", true]);
  });

  test("given up, late, and outlived by its asker", async () => {
    const { plugin, clock } = rig();
    const signals: AbortSignal[] = [];
    plugin("service.a").services.offer("radio", {
      request: (_request, signal) => (signals.push(signal), new Promise(() => {})),
    });
    const consumer = plugin("service.b");
    const used = consumer.services.use("radio");
    const abort = new AbortController();
    const reason = new Error("no longer");
    const givenUp = codeOf(used.request("x", {}, { signal: abort.signal }));
    const late = codeOf(used.request("x", {}, { timeoutMs: 5_000 }));
    const outlived = codeOf(used.request("x"));
    await clock.advance(5_001);
    abort.abort(reason);
    await consumer.scope.close();
    expect(await Promise.all([givenUp, late, outlived])).toEqual([
      "no longer",
      "GODWIT_TIMEOUT",
      "GODWIT_STOPPED",
    ]);
    expect(signals.every(({ aborted }) => aborted)).toBe(true);
    expect(clock.nextAtMs()).toBeUndefined();
  });

  test("a provider that never settles is asked no more than so often, even when every call was given up", async () => {
    const { plugin } = rig();
    let asked = 0;
    plugin("service.a").services.offer("radio", {
      request: () => (asked++, new Promise(() => {})),
    });
    const used = plugin("service.b").services.use("radio");
    for (let i = 0; i < SERVICE_LIMITS.requests * 2; i++) {
      const abort = new AbortController();
      const asking = codeOf(used.request("x", {}, { signal: abort.signal }));
      await settled();
      abort.abort(new Error("no longer"));
      await asking;
    }
    expect([asked, await codeOf(used.request("x"))]).toEqual([SERVICE_LIMITS.requests, "GODWIT_QUEUE_FULL"]);
  });

  test("a place is given back by whoever gives up before it is asked, by a provider that throws at once, and by one that never settled and is gone", async () => {
    const { plugin, clock } = rig();
    const consumer = plugin("transport.b");
    const radio = consumer.services.use("radio");
    const first = plugin("service.a");
    first.services.offer("radio", {
      request: ({ ask }) => {
        if (ask === "throw") throw new Error("at once");
        return new Promise(() => {});
      },
    });
    const turn = async () => {
      await settled();
      await clock.advance(1_000); // the rate is another bound
    };
    for (let round = 0; round < 3; round++) {
      const early = Array.from({ length: SERVICE_LIMITS.requests }, () => {
        const controller = new AbortController();
        const asked = radio.request("wait", {}, { signal: controller.signal });
        controller.abort(godwitError("GODWIT_STOPPED", "given up"));
        return codeOf(asked);
      });
      expect(new Set(await Promise.all(early))).toEqual(new Set(["GODWIT_STOPPED"]));
      await turn();
      const failed = Array.from({ length: SERVICE_LIMITS.requests }, () => codeOf(radio.request("throw")));
      expect(new Set(await Promise.all(failed))).toEqual(new Set(["GODWIT_PLUGIN_FAILED"]));
      await turn();
    }
    const hanging = Array.from({ length: SERVICE_LIMITS.requests }, () => codeOf(radio.request("hang")));
    await turn();
    expect(await codeOf(radio.request("more"))).toBe("GODWIT_QUEUE_FULL");
    await first.scope.close();
    expect(new Set(await Promise.all(hanging))).toEqual(new Set(["GODWIT_SERVICE_GONE"]));
    plugin("service.a").services.offer("radio", echo);
    await turn();
    expect(await codeOf(radio.request("again"))).toBe("fulfilled");
  });

  test("an offer that is refused is none: whoever tries again gets the name once it is free", async () => {
    const { plugin } = rig();
    const first = plugin("service.a");
    first.services.offer("radio", echo);
    const second = plugin("service.b");
    for (let i = 0; i < 3 * SERVICE_LIMITS.offers; i++)
      expect(thrown(() => second.services.offer("radio", echo))).toBe("GODWIT_SERVICE_TAKEN");
    await first.scope.close();
    expect(thrown(() => second.services.offer("radio", echo))).toBe("nothing");
  });

  test("a flood is refused beyond its rate, and counted", async () => {
    const { plugin, metrics, clock } = rig();
    plugin("service.a").services.offer("radio", echo);
    const used = plugin("service.b").services.use("radio");
    const codes: string[] = [];
    for (let i = 0; i < SERVICE_LIMITS.requestsPerSecond + 50; i++)
      codes.push(await codeOf(used.request("x")));
    expect(codes.filter((code) => code === "GODWIT_QUEUE_FULL").length).toBe(50);
    expect(await metrics.render()).toContain('godwit_plugin_service_requests_total{outcome="refused"} 50');
    await clock.advance(1_000);
    expect(await codeOf(used.request("x"))).toBe("fulfilled");
  });
});

describe("channels", () => {
  async function open() {
    const all = rig();
    const { far, service } = channels();
    const provider = all.plugin("service.a");
    provider.services.offer("radio", service);
    const consumer = all.plugin("service.b");
    const near = await consumer.services.use("radio").openChannel("listen", { json: 1 });
    return { ...all, provider, consumer, near, far: far[0]! };
  }

  test("messages go both ways in order, also those sent before either listened", async () => {
    const { near, far } = await open();
    expect([near.peer, far.peer]).toEqual(["service.a", "service.b"]);
    for (let i = 0; i < 5; i++) far.send({ json: i, bytes: new Uint8Array([i]) });
    const one = listen(near);
    const other = listen(far);
    near.send({ json: "up" });
    await settled();
    expect(one.heard.map(({ json, bytes }) => [json, bytes[0]])).toEqual([0, 1, 2, 3, 4].map((i) => [i, i]));
    expect(other.heard.map(({ json }) => json)).toEqual(["up"]);
  });

  test("a reader that takes nothing holds its sender back: so many messages, and one drain when it goes on", async () => {
    const { near, far, clock, metrics } = await open();
    const reader = listen(near);
    const writer = listen(far);
    near.pause(true);
    let taken = 0;
    while (far.send({ json: taken })) taken++;
    expect(far.send({ json: "again" })).toBe(false);
    expect(taken).toBe(SERVICE_LIMITS.windowMessages);
    near.pause(false);
    await settled();
    await clock.advance(1);
    await settled();
    await clock.advance(10);
    await settled();
    await clock.advance(10);
    await settled();
    expect([reader.heard.length, writer.drains]).toEqual([taken, 1]);
    expect(await metrics.render()).toContain('godwit_plugin_service_messages_total{outcome="refused"} 2');
  });

  test("large messages fill the window by bytes, empty ones by their number", async () => {
    const { near, far } = await open();
    near.open({ message() {}, drain() {}, closed() {} });
    near.pause(true);
    const bytes = new Uint8Array(SERVICE_LIMITS.messageBytes - 4);
    let taken = 0;
    while (far.send({ bytes })) taken++;
    expect(taken).toBe(Math.floor(SERVICE_LIMITS.windowBytes / (SERVICE_LIMITS.messageBytes + 64)));
    expect(thrown(() => far.send({ bytes: new Uint8Array(SERVICE_LIMITS.messageBytes) }))).toBe(
      "GODWIT_TOO_BIG",
    );
  });

  test("two that only answer each other leave the event loop its turn", async () => {
    const { near, far } = await open();
    let bounces = 0;
    const bounce = (channel: ServiceChannel) =>
      channel.open({
        message: () => void (bounces++, channel.send({})),
        drain() {},
        closed() {},
      });
    bounce(near);
    bounce(far);
    near.send({});
    // Would never come: the clock of this test stands still, and so does what waits for its turn.
    await settled();
    expect(bounces).toBeLessThan(1_000);
  });

  test("closing says all that was said before, and both hear of it once", async () => {
    const { near, far } = await open();
    const [one, other] = [listen(near), listen(far)];
    far.send({ json: "last" });
    far.close();
    far.close();
    await settled();
    expect([one.heard.map(({ json }) => json), one.ended, other.ended]).toEqual([
      ["last"],
      "closed",
      "closed",
    ]);
    expect([near.send({}), far.send({})]).toEqual([true, true]);
  });

  test.each(["provider", "consumer"] as const)("the %s goes: the other hears why, at once", async (who) => {
    const all = await open();
    const states = [listen(all.near), listen(all.far)];
    await all[who].scope.close();
    await settled();
    expect(states.map(({ ended }) => ended)).toEqual(["GODWIT_SERVICE_GONE", "GODWIT_SERVICE_GONE"]);
    expect(await all.metrics.render()).toContain("godwit_plugin_service_channels 0");
  });

  test("a later life of the same provider takes the place of the earlier, whose channels end", async () => {
    const { plugin, near } = await open();
    const state = listen(near);
    plugin("service.a").services.offer("radio", echo);
    await settled();
    expect(state.ended).toBe("GODWIT_SERVICE_GONE");
  });

  test("a handler that throws ends its channel and nothing else", async () => {
    const { near, far, consumer } = await open();
    near.open({
      message() {
        throw new Error("oops");
      },
      drain() {},
      closed() {},
    });
    const other = listen(far);
    far.send({});
    await settled();
    expect([other.ended, consumer.scope.isClosed]).toEqual(["GODWIT_PLUGIN_FAILED", false]);
  });

  test("refused, and too many", async () => {
    const { plugin, metrics } = rig();
    plugin("service.a").services.offer("radio", {
      channel({ peer: _peer }, { ask }) {
        if (ask === "no") throw godwitError("GODWIT_FORBIDDEN", "not you");
      },
    });
    const used = plugin("service.b").services.use("radio");
    expect(await codeOf(used.openChannel("no"))).toBe("GODWIT_FORBIDDEN");
    expect(await metrics.render()).toContain("godwit_plugin_service_channels 0");
    for (let i = 0; i < SERVICE_LIMITS.channels; i++) await used.openChannel("yes");
    expect(await codeOf(used.openChannel("yes"))).toBe("GODWIT_QUEUE_FULL");
    expect(await codeOf(used.request("x"))).toBe("GODWIT_REQUEST_INVALID");
  });
});
