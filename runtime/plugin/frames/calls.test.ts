/** Calls and answers, both ends: what settles, what is given up, and what a far end must not do. */
import { describe, expect, test } from "bun:test";
import { type GodwitError, godwitError } from "../../kernel/errors.ts";
import { ASKED_MAX, RUNNING_MAX } from "./calls.ts";
import { encodeParts, PLUGIN_JSON_BYTES_MAX, PluginFrame } from "./frames.ts";
import { FrameBed } from "./testing.ts";

const ends = [
  ["node", "plugin"],
  ["plugin", "node"],
] as const;
const text = (value: string) => new TextEncoder().encode(value);
const codeOf = (promise: Promise<unknown>): Promise<string> =>
  promise.then(
    () => "fulfilled",
    // A DOMException has a code, too: a number.
    (error: { code?: unknown; name?: string }) =>
      typeof error.code === "string" ? error.code : (error.name ?? "none"),
  );
const nothing = () => {};

describe.each(ends)("the %s asks the %s", (asker, answerer) => {
  test("JSON and bytes go there and back; what is not told is not there", async () => {
    const bed = new FrameBed();
    bed[answerer].calls.add("echo", async (args, bytes) => ({ json: args, bytes: bytes.slice().reverse() }));
    bed[answerer].calls.add("nothing", () => ({}));
    const asking = bed[asker].calls.ask(
      "echo",
      { a: [1, null, "é"] },
      (value, bytes) => [value, new TextDecoder().decode(bytes)],
      { bytes: text("abc") },
    );
    const empty = bed[asker].calls.ask("nothing", {}, (value, bytes) => [value, bytes.length]);
    await bed.settle();
    expect(await asking).toEqual([{ method: "echo", a: [1, null, "é"] }, "cba"]);
    expect(await empty).toEqual([undefined, 0]);
    expect(bed[asker].calls.askedCount).toBe(0);
  });

  test("errors keep their code; a method that nobody has is one", async () => {
    const bed = new FrameBed();
    bed[answerer].calls.add("full", async () => {
      throw godwitError("GODWIT_QUEUE_FULL", "no room");
    });
    const full = codeOf(bed[asker].calls.ask("full", {}, nothing));
    const unknown = codeOf(bed[asker].calls.ask("toString", {}, nothing));
    await bed.settle();
    expect([await full, await unknown]).toEqual(["GODWIT_QUEUE_FULL", "GODWIT_NOT_FOUND"]);
  });

  test("a call that is given up rejects at once, and its method is told", async () => {
    const bed = new FrameBed();
    let told: unknown;
    bed[answerer].calls.add("wait", async (_args, _bytes, signal) => {
      const { promise, resolve } = Promise.withResolvers<void>();
      signal.addEventListener("abort", () => resolve());
      await promise;
      told = (signal.reason as Error).name;
      return { json: "late" };
    });
    const abort = new AbortController();
    const reason = new Error("no longer");
    let settled = 0;
    const asking = bed[asker].calls.ask("wait", {}, () => void settled++, { signal: abort.signal });
    const late = codeOf(bed[asker].calls.ask("wait", {}, () => void settled++, { timeoutMs: 1_000 }));
    await bed.settle();
    abort.abort(reason);
    expect(await asking.catch((error: unknown) => error)).toBe(reason);
    await bed.clock.advance(1_001);
    expect(await late).toBe("GODWIT_PLUGIN_FAILED");
    // It counts until it is answered: who gives up and asks again must not get past the bound.
    expect(bed[asker].calls.askedCount).toBe(2);
    await bed.settle();
    expect([told, settled, bed[asker].calls.askedCount]).toEqual(["AbortError", 0, 0]);
    const before = bed[asker].calls.ask("wait", {}, nothing, { signal: abort.signal });
    expect(await before.catch((error: unknown) => error)).toBe(reason);
  });

  test("a flow that comes with an answer nobody waits for is closed", async () => {
    const bed = new FrameBed();
    const opened = Promise.withResolvers<void>();
    bed[answerer].calls.add("dial", async () => {
      await opened.promise;
      return { json: { flow: 7 } };
    });
    const abort = new AbortController();
    const asking = codeOf(bed[asker].calls.ask("dial", {}, nothing, { signal: abort.signal }));
    abort.abort(new DOMException("given up", "AbortError"));
    const closed: unknown[] = [];
    bed[answerer].flows.add(7, {
      onData() {},
      onCredit() {},
      onProven() {},
      onLeft() {},
      onClose: (isReset) => closed.push(isReset),
      onClosed() {},
      onEnd() {},
      onChange() {},
    });
    opened.resolve();
    await bed.settle();
    expect([await asking, closed]).toEqual(["AbortError", [true]]);
  });

  test("what follows an answer is sent after it; what its handler throws rejects the call", async () => {
    const bed = new FrameBed();
    const order: string[] = [];
    bed[answerer].calls.add("open", () => ({
      json: 1,
      after: () => bed[answerer].port.sendParts(PluginFrame.event, 0, { event: "x" }),
    }));
    bed.onOther = () => order.push("event");
    const asking = bed[asker].calls.ask("open", {}, () => {
      order.push("answer");
      throw godwitError("GODWIT_DECODE", "no such thing");
    });
    const code = codeOf(asking);
    await bed.settle();
    expect(await code).toBe("GODWIT_DECODE");
    expect(order).toEqual(["answer"]);
    expect(bed.errors.map((error) => error?.code)).toContain("GODWIT_DECODE");
  });

  test("more than may run at once are refused, and each is answered", async () => {
    const bed = new FrameBed();
    const gate = Promise.withResolvers<void>();
    bed[answerer].calls.add("wait", async () => (await gate.promise, {}));
    const codes = Promise.all(
      Array.from({ length: RUNNING_MAX + 5 }, () => codeOf(bed[asker].calls.ask("wait", {}, nothing))),
    );
    await bed.settle();
    gate.resolve();
    await bed.settle();
    const counted = Map.groupBy(await codes, (code) => code);
    expect([...counted].map(([code, of]) => [code, of.length])).toEqual([
      ["fulfilled", RUNNING_MAX],
      ["GODWIT_QUEUE_FULL", 5],
    ]);
  });

  test("a far end that never answers is asked no more than so often", async () => {
    const bed = new FrameBed();
    const abort = new AbortController();
    const asked = Array.from({ length: ASKED_MAX }, () =>
      codeOf(bed[asker].calls.ask("x", {}, nothing, { signal: abort.signal })),
    );
    abort.abort(new DOMException("given up", "AbortError"));
    expect(new Set(await Promise.all(asked))).toEqual(new Set(["AbortError"]));
    expect(await codeOf(bed[asker].calls.ask("x", {}, nothing))).toBe("GODWIT_QUEUE_FULL");
  });

  test("when the channel goes, what was asked rejects and what runs is aborted", async () => {
    const bed = new FrameBed();
    let isAborted = false;
    bed[answerer].calls.add("wait", async (_args, _bytes, signal) => {
      signal.addEventListener("abort", () => (isAborted = true));
      return await new Promise<never>(() => {});
    });
    const asking = codeOf(bed[asker].calls.ask("wait", {}, nothing));
    await bed.settle();
    bed[asker].port.close();
    await bed.settle();
    expect([await asking, isAborted]).toEqual(["GODWIT_STOPPED", true]);
    expect(await codeOf(bed[asker].calls.ask("wait", {}, nothing))).toBe("GODWIT_STOPPED");
  });
});

describe("a far end that breaks the rules loses its channel", () => {
  const cases: readonly (readonly [string, (bed: FrameBed) => void])[] = [
    ["an answer to nothing", ({ plugin }) => plugin.port.sendParts(PluginFrame.answer, 9, {})],
    [
      "a second answer",
      ({ node, plugin }) => {
        node.calls.ask("x", {}, nothing).catch(nothing);
        plugin.port.sendParts(PluginFrame.answer, 1, {});
        plugin.port.sendParts(PluginFrame.answer, 1, {});
      },
    ],
    ["a call without a method", ({ plugin }) => plugin.port.sendParts(PluginFrame.call, 1, {})],
    [
      "one number for two calls",
      ({ node, plugin }) => {
        node.calls.add("wait", () => new Promise<never>(() => {}));
        plugin.port.sendParts(PluginFrame.call, 1, { method: "wait" });
        plugin.port.sendParts(PluginFrame.call, 1, { method: "wait" });
      },
    ],
    [
      "JSON beyond its bound",
      ({ plugin }) =>
        plugin.port.sendParts(PluginFrame.call, 1, { method: "x", a: "a".repeat(PLUGIN_JSON_BYTES_MAX) }),
    ],
    [
      "JSON that is none",
      ({ plugin }) => {
        const body = encodeParts({});
        body[4] = 0;
        plugin.port.send(PluginFrame.call, 1, body);
      },
    ],
  ];
  test.each(cases)("%s", async (_name, misbehave) => {
    const bed = new FrameBed();
    misbehave(bed);
    await bed.settle();
    expect(bed.errors.find((error): error is GodwitError => error !== undefined)?.code).toBe("GODWIT_DECODE");
  });
});

describe("the thread that waits for an answer", () => {
  test("gets it before what came earlier is handled, and what the far end threw", async () => {
    const bed = new FrameBed();
    bed.node.calls.add("now", () => ({ json: { n: 1 } }));
    bed.node.calls.add("never", () => {
      throw godwitError("GODWIT_FORBIDDEN", "not granted");
    });
    bed.node.port.sendParts(PluginFrame.event, 0, { event: "earlier" });
    bed.node.port.flush();
    expect(bed.plugin.calls.askNow("now", {})).toEqual({ n: 1 });
    expect(bed.others).toEqual([]);
    expect(() => bed.plugin.calls.askNow("never", {})).toThrow("not granted");
    await bed.settle();
    expect(bed.others).toEqual([`plugin ${PluginFrame.event} 0`]);
  });

  test("goes on when the channel is gone", () => {
    const bed = new FrameBed();
    bed.node.port.close();
    expect(() => bed.plugin.calls.askNow("now", {})).toThrow("the node is gone");
  });
});
