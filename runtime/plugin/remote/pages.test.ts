/** Pages of a plugin outside of the node's thread: the real keeper of pages here, the real context of the plugin there, frames between. */
import { expect, test } from "bun:test";
import { type PageHandler, type PageRequest, PAGES_LIMITS } from "@godwit/sdk";
import { ManualClock } from "../../kernel/clock.ts";
import { type GodwitError, godwitError } from "../../kernel/errors.ts";
import { silentLog } from "../../kernel/log.ts";
import { Metrics } from "../../kernel/metrics.ts";
import { Scope } from "../../kernel/scope.ts";
import { FLOW_WINDOW_BYTES, PluginFrame } from "../frames/frames.ts";
import { FrameBed } from "../frames/testing.ts";
import type { ContextParts } from "../guest/parts.ts";
import { createHttp } from "../guest/pages.ts";
import { type PageAnswer, Pages } from "../pages/pages.ts";
import { addPagesCalls } from "./pages.ts";
import type { RemoteParts } from "./parts.ts";

/** What the far end holds ahead of the client: the window, its own high-water mark, and the piece that passes it. */
const AHEAD_BYTES_MAX = FLOW_WINDOW_BYTES + 262_144 + 65_536;

/** More than anything may hold, and an end for a test that fails. */
const ENDLESS_BYTES = 64 * 2 ** 20;

function rig() {
  const clock = new ManualClock();
  const metrics = new Metrics();
  const pages = new Pages(clock, metrics);
  const scope = new Scope("board");
  const http = pages.door({
    instance: "board",
    reach: "local",
    asked: ["http.pages"],
    scope,
    log: silentLog,
  });
  const bed = new FrameBed(true);
  addPagesCalls({ ...bed.node, ctx: { http } } as unknown as RemoteParts);
  const guestScope = new Scope("guest");
  const guest = createHttp({ ...bed.plugin, scope: guestScope } as unknown as ContextParts);
  const call = (request: Partial<PageRequest> = {}) =>
    pages.call("board", {
      method: "GET",
      path: "/",
      query: "",
      headers: {},
      isAuthorized: true,
      body: piecesOf(),
      signal: new AbortController().signal,
      ...request,
    });
  return { clock, metrics, pages, scope, guestScope, bed, guest, call };
}
async function* piecesOf(...pieces: readonly Uint8Array[]): AsyncGenerator<Uint8Array> {
  yield* pieces;
}
const turns = async (count = 20): Promise<void> => {
  for (let i = 0; i < count; i++) await new Promise<void>((resolve) => setImmediate(resolve));
};
const codeOf = (promise: Promise<unknown>): Promise<string> =>
  promise.then(
    () => "fulfilled",
    (error: GodwitError) => error.code ?? error.message,
  );
const iteratorOf = ({ body }: PageAnswer): AsyncIterator<Uint8Array, undefined> =>
  body as AsyncIterator<Uint8Array, undefined>;
async function textOf(answer: PageAnswer): Promise<string> {
  const pieces: Uint8Array[] = [];
  const body = iteratorOf(answer);
  for (let step = await body.next(); step.done !== true; step = await body.next()) pieces.push(step.value);
  return Buffer.concat(pieces).toString();
}

test("a request crosses with all that it says, both bodies in order, and nothing is left of it", async () => {
  const { guest, call, bed, pages } = rig();
  const echo: PageHandler = async ({ body, signal: _signal, ...rest }) => {
    let text = "";
    for await (const piece of body) text += Buffer.from(piece).toString();
    return { status: 201, headers: { etag: '"1"' }, body: JSON.stringify({ ...rest, text }) };
  };
  guest.pages(echo, { open: ["/a/*"] });
  expect(pages.reachOf("board", "/a/b")).toBe("local");
  const said = { method: "POST", path: "/é", query: "q=1", headers: { accept: "x" } } as const;
  const body = piecesOf(Buffer.from("one "), Buffer.alloc(200_000, "x"), Buffer.from(" two"));
  const answer = await call({ ...said, isAuthorized: false, body });
  expect([answer.status, answer.headers]).toEqual([
    201,
    { "content-type": "text/plain; charset=utf-8", etag: '"1"' },
  ]);
  const text = `one ${"x".repeat(200_000)} two`;
  expect(JSON.parse(await textOf(answer))).toEqual({ ...said, isAuthorized: false, text });
  await turns();
  expect([pages.running, bed.node.flows.size, bed.plugin.flows.size, bed.node.calls.askedCount]).toEqual([
    0, 0, 0, 0,
  ]);
});

test("without the permission it has none, and a second handler is refused, there as here", () => {
  const again = rig();
  const pages = new Pages(new ManualClock(), new Metrics());
  const http = pages.door({
    instance: "x",
    reach: undefined,
    asked: [],
    scope: new Scope("x"),
    log: silentLog,
  });
  const bed = new FrameBed(true);
  addPagesCalls({ ...bed.node, ctx: { http } } as unknown as RemoteParts);
  const guest = createHttp({ ...bed.plugin, scope: new Scope("guest") } as unknown as ContextParts);
  expect(() => guest.pages(() => ({}))).toThrow(
    "was not granted http.pages and cannot be: its manifest does not ask for it; add it to permissions",
  );
  again.guest.pages(() => ({}));
  expect(() => again.guest.pages(() => ({}))).toThrow("one handler");
});

test("nothing of a body is fetched before the plugin reads, and no more than the window while it rests", async () => {
  const { guest, call } = rig();
  const begin = Promise.withResolvers<void>();
  const rest = Promise.withResolvers<void>();
  guest.pages(async ({ body }) => {
    await begin.promise;
    const pieces = body[Symbol.asyncIterator]();
    await pieces.next();
    await rest.promise;
    await pieces.return?.();
    return { body: "enough" };
  });
  let fetched = 0;
  let isOver = false;
  async function* endless() {
    try {
      while (fetched < ENDLESS_BYTES) {
        fetched += 65_536;
        yield new Uint8Array(65_536);
      }
    } finally {
      isOver = true;
    }
  }
  const asking = call({ method: "POST", body: endless() });
  await turns();
  expect(fetched).toBe(0);
  begin.resolve();
  await turns(50);
  expect(fetched).toBeGreaterThan(0);
  expect(fetched).toBeLessThanOrEqual(FLOW_WINDOW_BYTES + 2 * 65_536);
  rest.resolve();
  expect(await textOf(await asking)).toBe("enough");
  await turns();
  expect(isOver).toBe(true);
});

test("a client that takes nothing holds its own stream: the plugin is asked for so much ahead, and goes on with it", async () => {
  const { guest, call, pages } = rig();
  let made = 0;
  let isReturned = false;
  guest.pages(() => ({
    body: (async function* () {
      try {
        while (made < ENDLESS_BYTES) {
          made += 65_536;
          yield new Uint8Array(65_536);
        }
      } finally {
        isReturned = true;
      }
    })(),
  }));
  const body = iteratorOf(await call());
  await turns(100);
  const ahead = made;
  expect(ahead).toBeGreaterThan(0);
  expect(ahead).toBeLessThanOrEqual(AHEAD_BYTES_MAX);
  for (let taken = 0; taken < 2_000_000;) taken += (await body.next()).value!.length;
  await turns(50);
  expect(made).toBeGreaterThanOrEqual(2_000_000);
  expect(made - 2_000_000).toBeLessThanOrEqual(AHEAD_BYTES_MAX + 65_536);
  expect(pages.running).toBe(1);
  await body.return?.();
  await turns();
  expect([isReturned, pages.running]).toEqual([true, 0]);
});

test("a place is free only when the plugin over there is done, however long nobody waits for it", async () => {
  const { guest, call, pages, clock } = rig();
  const gate = Promise.withResolvers<object>();
  const why: unknown[] = [];
  guest.pages(({ signal }) => {
    signal.addEventListener("abort", () => why.push(signal.aborted));
    return gate.promise;
  });
  const asking = codeOf(call());
  await turns();
  await clock.advance(PAGES_LIMITS.answerMs);
  expect(await asking).toBe("GODWIT_TIMEOUT");
  await turns();
  expect([why.length, pages.running]).toEqual([1, 1]);
  for (let i = 1; i < PAGES_LIMITS.concurrent; i++) void codeOf(call());
  await turns();
  expect(await codeOf(call())).toBe("GODWIT_TOO_MANY_REQUESTS");
  let isReturned = false;
  const body = {
    [Symbol.asyncIterator]: () => ({
      next: () => new Promise<never>(() => {}),
      return: async () => ((isReturned = true), { done: true as const, value: undefined }),
    }),
  };
  gate.resolve({ body });
  await turns();
  expect([isReturned, pages.running]).toEqual([true, PAGES_LIMITS.concurrent - 1]);
});

test("what it throws, before its answer or in the midst of it, is its failure and told to nobody", async () => {
  const { guest, call, pages, metrics } = rig();
  guest.pages(({ path }) => {
    if (path === "/throws") throw new Error("swordfish");
    if (path === "/cookie") return { headers: { "set-cookie": "a=b" } };
    if (path === "/number") return { body: [5] as unknown as string };
    return {
      body: (async function* () {
        yield "begun";
        if (path === "/midst") throw new Error("swordfish");
        yield 5 as unknown as string;
      })(),
    };
  });
  for (const path of ["/throws", "/cookie", "/number"])
    expect(await codeOf(call({ path }))).toBe("GODWIT_PLUGIN_FAILED");
  for (const path of ["/midst", "/piece"]) {
    const answer = await call({ path });
    expect(await codeOf(textOf(answer))).toBe("GODWIT_PLUGIN_FAILED");
  }
  await turns();
  expect(pages.running).toBe(0);
  expect(await metrics.render()).toContain('godwit_pages_failed_total{reason="failed"} 5');
});

test("a client that breaks its own body is heard of as such", async () => {
  const { guest, call, pages } = rig();
  const heard: unknown[] = [];
  guest.pages(async ({ body }) => {
    try {
      for await (const _piece of body);
    } catch (error) {
      heard.push((error as GodwitError).code);
      throw error;
    }
    return {};
  });
  const body = (async function* () {
    yield new Uint8Array(5);
    throw godwitError("GODWIT_TOO_BIG", "too much");
  })();
  expect(await codeOf(call({ method: "POST", body }))).toBe("GODWIT_PLUGIN_FAILED");
  await turns();
  expect([heard, pages.running]).toEqual([["GODWIT_TOO_BIG"], 0]);
});

test("a client that leaves is told to the plugin, before the answer and in the midst of it", async () => {
  const { guest, call, pages } = rig();
  let aborted = 0;
  guest.pages(({ signal, path }) => {
    signal.addEventListener("abort", () => aborted++);
    if (path === "/wait")
      return new Promise((resolve) => signal.addEventListener("abort", () => resolve({})));
    return {
      body: (async function* () {
        yield "begun";
        await new Promise<void>((resolve) => signal.addEventListener("abort", () => resolve()));
      })(),
    };
  });
  const gone = new AbortController();
  const waiting = codeOf(call({ path: "/wait", signal: gone.signal }));
  await turns();
  gone.abort(new Error("gone"));
  expect(await waiting).toBe("gone");
  const body = iteratorOf(await call());
  await body.next();
  await body.return?.();
  await turns();
  expect([aborted, pages.running]).toEqual([2, 0]);
});

test.each(["stops", "is gone"])(
  "a plugin that %s in mid-answer: both ends hear of it, and nothing is left",
  async (how) => {
    const { guest, call, pages, scope, guestScope, bed } = rig();
    const never = new Promise<never>(() => {});
    guest.pages(({ path }) =>
      path === "/wait"
        ? never
        : {
            body: (async function* () {
              yield "begun";
              await never;
            })(),
          },
    );
    const waiting = codeOf(call({ path: "/wait" }));
    const body = iteratorOf(await call());
    await body.next();
    const next = codeOf(body.next());
    if (how === "stops") void scope.close();
    else bed.node.port.close();
    if (how === "is gone") bed.node.calls.close(godwitError("GODWIT_PLUGIN_FAILED", "it is gone"));
    if (how === "is gone") bed.node.flows.close(godwitError("GODWIT_PLUGIN_FAILED", "it is gone"));
    const code = how === "stops" ? "GODWIT_STOPPED" : "GODWIT_PLUGIN_FAILED";
    expect(await Promise.all([waiting, next])).toEqual([code, code]);
    if (how === "stops") return void (await guestScope.close());
    await turns();
    expect([pages.running, bed.node.flows.size]).toEqual([0, 0]);
  },
);

test("32 requests at once cross, and a far end that lies about them harms its own requests alone", async () => {
  const { guest, call, pages, bed } = rig();
  guest.pages(({ path }) => ({ body: path }));
  const many = Array.from({ length: PAGES_LIMITS.concurrent }, async (_, i) =>
    textOf(await call({ path: `/${i}` })),
  );
  expect(await Promise.all(many)).toEqual(many.map((_, i) => `/${i}`));
  await turns();
  expect(pages.running).toBe(0);

  // A far end of its own make: it answers what was never asked, ends without a head, and speaks on flows that are not.
  const liar = bed.plugin;
  expect(await codeOf(liar.calls.ask("http.answer", { flow: 998, status: 200, headers: {} }, () => {}))).toBe(
    "fulfilled",
  );
  expect(await codeOf(liar.calls.ask("http.answer", { flow: 998, status: "x", headers: {} }, () => {}))).toBe(
    "GODWIT_DECODE",
  );
  liar.port.send(PluginFrame.data, 998, new Uint8Array(10));
  liar.port.send(PluginFrame.end, 998);
  await turns();
  expect(await textOf(await call({ path: "/still" }))).toBe("/still");
});

test("a far end that is done without having answered, or without an end, failed", async () => {
  for (const hasHead of [false, true]) {
    const pages = new Pages(new ManualClock(), new Metrics());
    const http = pages.door({
      instance: "board",
      reach: "local",
      asked: ["http.pages"],
      scope: new Scope("b"),
      log: silentLog,
    });
    const bed = new FrameBed(true);
    addPagesCalls({ ...bed.node, ctx: { http } } as unknown as RemoteParts);
    bed.plugin.calls.add("http.asked", async (args) => {
      const { flow } = args as { flow: number };
      if (hasHead) await bed.plugin.calls.ask("http.answer", { flow, status: 200, headers: {} }, () => {});
      return {};
    });
    await bed.plugin.calls.ask("http.pages", { open: [] }, () => {});
    const signal = new AbortController().signal;
    const asked: PageRequest = {
      ...{ method: "GET", path: "/", query: "", headers: {}, isAuthorized: true },
      ...{ body: piecesOf(), signal },
    };
    const whole = pages.call("board", asked).then(textOf);
    expect(await codeOf(whole)).toBe("GODWIT_PLUGIN_FAILED");
    await turns();
    expect([pages.running, bed.node.flows.size]).toEqual([0, 0]);
  }
});
