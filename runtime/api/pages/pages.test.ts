/** What passes between a browser and a plugin's pages, over the real door, the real keeper of pages and a plugin of the test. */
import { beforeEach, describe, expect, test } from "bun:test";
import {
  GodwitError,
  type PageHandler,
  type PageRequest,
  type PageResponse,
  PAGES_LIMITS,
} from "@godwit/sdk";
import { ManualClock } from "../../kernel/clock.ts";
import { silentLog } from "../../kernel/log.ts";
import { Metrics } from "../../kernel/metrics.ts";
import { Scope } from "../../kernel/scope.ts";
import {
  OPEN_PAGES_AT_ONCE_MAX,
  Pages,
  PAGES_AT_ONCE_MAX,
  type PagesReach,
} from "../../plugin/pages/pages.ts";
import type { TokenScope } from "../../view/contract/node.ts";
import { AUTH_DELAY_MS, type Connection } from "../access.ts";
import { createRig } from "../testing.ts";
import { problemIn } from "../testing-calls.ts";
import { folderSource, parseTarget } from "./folder.ts";

const HOST = "127.0.0.1:8000";
const BOARD = "board-secret";
const scopes: Readonly<Record<string, readonly TokenScope[]>> = {
  [BOARD]: ["pages:board"],
  "other-secret": ["pages:other"],
};
const local: Connection = { authority: "tcp", peer: "127.0.0.1", hosts: new Set() };
const stranger: Connection = { authority: "tcp", peer: "192.0.2.9", hosts: new Set() };
const socket: Connection = { authority: "socket", peer: undefined, hosts: new Set() };

type RequestBody = string | Uint8Array<ArrayBuffer> | ReadableStream<Uint8Array>;

interface Init {
  readonly method?: string;
  readonly token?: string;
  readonly headers?: Record<string, string>;
  readonly connection?: Connection;
  readonly body?: RequestBody;
  readonly signal?: AbortSignal;
}

function rig(
  handler: PageHandler,
  {
    reach = "local",
    open = ["/", "/assets/*"],
    name = "board",
  }: { reach?: PagesReach; open?: readonly string[]; name?: string } = {},
) {
  const clock = new ManualClock();
  const metrics = new Metrics();
  const pages = new Pages(clock, metrics);
  const add = (instance: string, answering = handler) => {
    const scope = new Scope(instance);
    pages.door({ instance, reach, asked: ["http.pages"], scope, log: silentLog }).pages(answering, { open });
    return scope;
  };
  const scope = add(name);
  const api = createRig({ clock, pages });
  const { scopesOf } = api.tokens;
  api.tokens.scopesOf = (secret) => scopes[secret] ?? scopesOf(secret);
  const call = async (path: string, init: Init = {}): Promise<Response> => {
    const { method = "GET", token, headers = {}, connection = local, body, signal } = init;
    return await api.app.fetch(
      new Request(`http://${HOST}${path}`, {
        method,
        headers: {
          host: HOST,
          ...(token === undefined ? {} : { authorization: `Bearer ${token}` }),
          ...headers,
        },
        ...(body === undefined ? {} : { body }),
        ...(signal === undefined ? {} : { signal }),
      }),
      { connection },
    );
  };
  const counted = async (metric: string, reason: string): Promise<number> =>
    Number(
      new RegExp(`${metric}\\{reason="${reason}"\\} (\\d+)`).exec(
        (await metrics.render()) + (await api.metrics.render()),
      )?.[1] ?? 0,
    );
  return { ...api, clock, pages, add, scope, call, counted };
}

const code = async (response: Response): Promise<string> =>
  `${response.status} ${(await problemIn(response)).code}`;
const endOf = (promise: Promise<unknown>): Promise<string> =>
  promise.then(
    () => "nothing",
    (error: unknown) => (error === undefined ? "cut" : `${error as Error}`),
  );
const turns = async (count = 20): Promise<void> => {
  for (let i = 0; i < count; i++) await Promise.resolve();
};

describe("the folder", () => {
  test.each([
    ["/x/board/", "/"],
    ["/x/board/a/b.js", "/a/b.js"],
    ["/x/board/a/", "/a/"],
    ["/x/board/a%20b/%C3%A9", "/a b/é"],
    ["/x/board/%252e%252e/", "/%2e%2e/"],
    ["/x/board/..a/a..", "/..a/a.."],
    ["/x/board/;..", "/;.."],
  ])("%s is %s", (url, path) => {
    expect(parseTarget(`http://h${url}?q=1#f`)).toEqual({ instance: "board", path, query: "q=1" });
    expect(parseTarget(`${url}?q=1`)?.path).toBe(path);
  });

  test.each([
    "/x/board/../messages",
    "/x/board/%2e%2e/messages",
    "/x/board/.%2E/messages",
    "/x/board/a/%2e",
    "/x/board//messages",
    "/x/board/a//b",
    "/x/board/a%2fb",
    "/x/board/..%2fmessages",
    "/x/board/a\\b",
    "/x/board/..%5cmessages",
    "/x/board/a%00b",
    "/x/board/a%0d%0ab",
    "/x/board/%zz",
    "/x/board/%c3",
    `/x/board/${"a".repeat(1_025)}`,
    `/x/board/?${"a".repeat(4_097)}`,
  ])("%s is no path in it", (url) => {
    expect(parseTarget(`http://h${url}`)).toMatchObject({ instance: "board", path: undefined });
  });

  test.each([
    "/x",
    "/x/",
    "/x/board",
    "/x//",
    "/x/Board/",
    "/x/a%2e/",
    "/%78/board/",
    "/y/board/",
    "/x/../x",
    "",
    "x",
  ])("%s is no folder", (url) => expect(parseTarget(`http://h${url}`)).toBeUndefined());

  test("stands in a policy by the name that the browser used, or not at all", () => {
    expect(folderSource("127.0.0.1:8000", "a")).toBe("127.0.0.1:8000/x/a/");
    expect(folderSource("Node.Example", "a")).toBe("node.example/x/a/");
    for (const host of [null, "[::1]:8000", "a; script-src *", "a b", "a/x", "", "*", "a:123456", "-a"])
      expect(folderSource(host, "a")).toBe("'none'");
  });
});

describe("who comes in", () => {
  const seen: PageRequest[] = [];
  beforeEach(() => void (seen.length = 0));
  const noting: PageHandler = (request) => {
    seen.push(request);
    return { body: "in" };
  };

  test("only a token of this instance, and over the socket everybody", async () => {
    const { call } = rig(noting);
    expect(await code(await call("/x/board/data"))).toBe("401 GODWIT_UNAUTHORIZED");
    for (const token of ["read-secret", "operate-secret", "admin-secret", "other-secret"])
      expect(await code(await call("/x/board/data", { token }))).toBe("403 GODWIT_FORBIDDEN");
    expect((await call("/x/board/data", { token: BOARD })).status).toBe(200);
    expect((await call("/x/board/data", { token: BOARD, connection: stranger })).status).toBe(200);
    expect((await call("/x/board/data", { connection: socket })).status).toBe(200);
    expect(seen.every(({ isAuthorized }) => isAuthorized)).toBe(true);
  });

  test("a token for pages is made like any other, for a name that a table may have", async () => {
    const { call } = rig(noting);
    const make = async (scopes_: readonly string[]) => {
      const body = JSON.stringify({ scopes: scopes_, label: "board" });
      const headers = { "content-type": "application/json" };
      return (await call("/tokens", { method: "POST", token: "admin-secret", body, headers })).status;
    };
    expect(await make(["pages:board", "read"])).toBe(201);
    for (const wrong of [
      "pages",
      "pages:",
      "pages:Board",
      "pages:a b",
      "pages:../x",
      `pages:${"a".repeat(33)}`,
    ])
      expect([wrong, await make([wrong])]).toEqual([wrong, 400]);
  });

  test("a token for pages opens nothing else", async () => {
    const { call } = rig(noting);
    for (const path of [
      "/messages",
      "/mesh/status",
      "/metrics",
      "/events",
      "/openapi.json",
      "/tokens",
      "/x/other/",
    ])
      expect(await code(await call(path, { token: BOARD }))).toBe("403 GODWIT_FORBIDDEN");
  });

  test("the token stays here, and with it all that is not of the page", async () => {
    const { call } = rig(noting);
    await call("/x/board/a?b=c", {
      method: "POST",
      token: BOARD,
      body: "x",
      headers: {
        cookie: "a=b",
        origin: "null",
        referer: "http://elsewhere/",
        forwarded: "for=1",
        "proxy-authorization": "Basic eA==",
        "x-forwarded-for": "1",
        "sec-fetch-site": "cross-site",
        "user-agent": "me",
        accept: "text/html",
        "content-type": "text/plain",
        "if-none-match": '"1"',
        "accept-language": "x".repeat(1_025),
      },
    });
    const { headers, method, path, query } = seen[0]!;
    expect(headers).toEqual({ accept: "text/html", "content-type": "text/plain", "if-none-match": '"1"' });
    expect({ method, path, query }).toEqual({ method: "POST", path: "/a", query: "b=c" });
    expect(JSON.stringify(seen[0])).not.toContain(BOARD);
  });

  test("open paths are read from this machine, under its own name", async () => {
    const { call } = rig(noting);
    expect((await call("/x/board/")).status).toBe(200);
    expect((await call("/x/board/assets/a.js", { method: "HEAD" })).status).toBe(200);
    expect(seen.map(({ isAuthorized }) => isAuthorized)).toEqual([false, false]);
    expect(await code(await call("/x/board/", { method: "POST" }))).toBe("401 GODWIT_UNAUTHORIZED");
    expect(await code(await call("/x/board/assets"))).toBe("401 GODWIT_UNAUTHORIZED");
    expect(await code(await call("/x/board/", { connection: stranger }))).toBe("401 GODWIT_UNAUTHORIZED");
    expect(await code(await call("/x/board/", { headers: { host: "evil.example" } }))).toBe(
      "403 GODWIT_FORBIDDEN",
    );
    expect(await code(await call("/x/board/", { token: "other-secret" }))).toBe("403 GODWIT_FORBIDDEN");
    expect(seen).toHaveLength(2);
  });

  test("granted to the public they are read from anywhere, but under no foreign name", async () => {
    const { call } = rig(noting, { reach: "public" });
    for (const host of ["192.0.2.1:8000", "[2001:db8::1]:8000", "localhost"])
      expect((await call("/x/board/", { connection: stranger, headers: { host } })).status).toBe(200);
    for (const host of ["evil.example", "192.0.2.1.evil.example", "1.2.3.4x"])
      expect((await call("/x/board/", { connection: stranger, headers: { host } })).status).toBe(403);
    expect((await call("/x/board/data", { connection: stranger })).status).toBe(401);
  });

  test("nobody without a token learns which instances there are", async () => {
    const { call } = rig(noting);
    const [here, nowhere] = await Promise.all([call("/x/board/data"), call("/x/nobody/data")]);
    expect(nowhere.status).toBe(here.status);
    expect((await nowhere.text()).replaceAll("nobody", "board")).toBe(await here.text());
    expect(await code(await call("/x/other/", { token: "other-secret" }))).toBe("404 GODWIT_NOT_FOUND");
  });

  test("no worker, no other method, no path outside, and none of them reaches the plugin", async () => {
    const { call, counted } = rig(noting);
    const token = BOARD;
    expect((await call("/x/board/sw.js", { token, headers: { "service-worker": "script" } })).status).toBe(
      403,
    );
    for (const what of ["serviceworker", "sharedworker"])
      expect((await call("/x/board/sw.js", { token, headers: { "sec-fetch-dest": what } })).status).toBe(403);
    const wrong = await call("/x/board/", { token, method: "PROPFIND" });
    expect(wrong.status).toBe(405);
    expect(wrong.headers.get("allow")).toContain("PATCH");
    for (const path of ["/x/board/a%2f..%2f..", "/x/board//a", "/x/board/a%5c"])
      expect(await code(await call(path, { token }))).toBe("400 GODWIT_REQUEST_INVALID");
    // The URL parser of whoever calls resolves these; what is left is judged as what it then is.
    expect(await code(await call("/x/board/../../messages"))).toBe("401 GODWIT_UNAUTHORIZED");
    expect(await code(await call("/x/board"))).toBe("404 GODWIT_NOT_FOUND");
    expect(await code(await call("/%78/board/"))).toBe("404 GODWIT_NOT_FOUND");
    expect(seen).toHaveLength(0);
    expect(await counted("godwit_pages_cut_total", "worker")).toBe(3);
    expect(await counted("godwit_pages_cut_total", "path")).toBe(3);
  });
});

describe("what a browser is told", () => {
  const page: PageHandler = () => ({ headers: { "content-type": "text/html" }, body: "<p>" });

  test("every answer has an origin of its own, refusals too", async () => {
    const { call } = rig(page);
    for (const [path, init] of [
      ["/x/board/", {}],
      ["/x/board/", { token: BOARD }],
      ["/x/board/data", {}],
      ["/x/board", {}],
      ["/x/board/a%2f", {}],
      ["/x/board/", { method: "OPTIONS" }],
      ["/x/board/", { method: "PROPFIND" }],
      ["/x/board/sw.js", { headers: { "service-worker": "script" } }],
    ] as const) {
      const { headers } = await call(path, init);
      const policy = headers.get("content-security-policy")!;
      expect(policy).toStartWith("sandbox allow-scripts; default-src 'none'; ");
      expect(policy).not.toContain("allow-same-origin");
      expect(policy).toContain("frame-ancestors 'none'");
      expect(policy).toContain("form-action 'none'");
      expect(headers.get("x-content-type-options")).toBe("nosniff");
      expect(headers.get("referrer-policy")).toBe("no-referrer");
      expect(headers.get("cache-control")).toBe("no-store");
      expect(headers.get("vary")).toBe("authorization, origin");
    }
    const own = (await call("/x/board/", { token: BOARD })).headers.get("content-security-policy");
    expect(own).toContain(
      `script-src ${HOST}/x/board/; style-src ${HOST}/x/board/; connect-src ${HOST}/x/board/;`,
    );
  });

  test("an opaque origin reads what it has a token for, and nobody reads anything without", async () => {
    const { call, clock } = rig(page);
    const shared = async (path: string, init: Init) =>
      (await call(path, init)).headers.get("access-control-allow-origin");
    expect(await shared("/x/board/", { token: BOARD, headers: { origin: "null" } })).toBe("null");
    for (const [path, token, origin] of [
      ["/x/board/", undefined, "null"],
      ["/x/board/data", undefined, "null"],
      ["/x/board/", "other-secret", "null"],
      ["/x/board/", "wrong-secret-1", "null"],
      ["/x/board/", BOARD, "http://evil.example"],
      ["/x/board/", BOARD, `http://${HOST}`],
      ["/x/other/", BOARD, "null"],
      ["/messages", BOARD, "null"],
      ["/mesh/status", undefined, "null"],
    ] as const) {
      const answer = shared(path, { ...(token === undefined ? {} : { token }), headers: { origin } });
      await turns();
      await clock.advance(AUTH_DELAY_MS);
      expect(await answer).toBeNull();
    }
    const { headers } = await call("/x/board/", { token: BOARD, headers: { origin: "null" } });
    expect(headers.has("access-control-allow-credentials")).toBe(false);
  });

  test("a preflight never goes in, and says the same of instances that are not there", async () => {
    let asked = 0;
    const { call } = rig(() => (asked++, {}));
    const preflight = (path: string, origin = "null") =>
      call(path, { method: "OPTIONS", headers: { origin, "access-control-request-method": "POST" } });
    const [here, nowhere] = [await preflight("/x/board/a"), await preflight("/x/nobody/a")];
    expect(here.status).toBe(204);
    expect(here.headers.get("access-control-allow-origin")).toBe("null");
    expect(here.headers.get("access-control-allow-headers")).toStartWith("authorization, accept");
    const plain = (response: Response) => JSON.stringify([...response.headers]).replaceAll("nobody", "board");
    expect(plain(nowhere)).toBe(plain(here));
    const foreign = await preflight("/x/board/a", "http://evil.example");
    expect(foreign.headers.has("access-control-allow-origin")).toBe(false);
    expect(asked).toBe(0);
  });

  test("the rest of the API answers as ever: no policy, no sharing", async () => {
    const { call } = rig(page);
    for (const path of ["/messages", "/mesh/status", "/health"]) {
      const { headers } = await call(path, { token: "read-secret", headers: { origin: "null" } });
      for (const name of [...headers.keys()]) expect(name).not.toMatch(/^access-control|content-security/);
      expect((await call(path, { method: "OPTIONS", headers: { origin: "null" } })).status).toBe(405);
    }
  });

  test("what a plugin may keep in caches it may say, and the folder alone may embed what has a token", async () => {
    const { call } = rig(() => ({ headers: { "cache-control": "max-age=60", etag: '"1"' }, body: "x" }));
    const open = await call("/x/board/");
    expect(open.headers.get("cache-control")).toBe("max-age=60");
    expect(open.headers.get("etag")).toBe('"1"');
    expect(open.headers.get("content-type")).toBe("text/plain; charset=utf-8");
    expect(open.headers.get("cross-origin-resource-policy")).toBe("cross-origin");
    const closed = await call("/x/board/", { token: BOARD });
    expect(closed.headers.get("cross-origin-resource-policy")).toBe("same-origin");
  });
});

describe("what a plugin may not answer", () => {
  const refused: readonly (readonly [string, PageResponse])[] = [
    ["a cookie", { headers: { "set-cookie": "a=b" } }],
    ["a policy", { headers: { "content-security-policy": "" } }],
    ["sharing", { headers: { "access-control-allow-origin": "*" } }],
    ["a worker's scope", { headers: { "service-worker-allowed": "/" } }],
    ["a way elsewhere", { status: 302, headers: { location: "/messages" } }],
    ["a header for it", { headers: { location: "/messages" } }],
    ["a refresh", { headers: { refresh: "0;url=/messages" } }],
    ["a login", { status: 401 }],
    ["a login in words", { headers: { "www-authenticate": "Basic" } }],
    ["a preload", { headers: { link: "</messages>; rel=preload" } }],
    ["a name in capitals", { headers: { "Set-Cookie": "a=b" } }],
    ["a line break", { headers: { etag: "a\r\nset-cookie: b=c" } }],
    ["an early status", { status: 101 }],
    ["no number", { status: Number.NaN }],
    ["nothing", undefined as unknown as PageResponse],
    ["a body of another kind", { body: {} as unknown as string }],
  ];
  test.each(refused.map(([what]) => what))("%s", async (what) => {
    const { call, counted } = rig(() => refused.find(([name]) => name === what)![1]);
    const response = await call("/x/board/", { token: BOARD });
    for (const name of [
      "set-cookie",
      "location",
      "refresh",
      "link",
      "www-authenticate",
      "service-worker-allowed",
    ])
      expect(response.headers.has(name)).toBe(false);
    expect(response.headers.get("content-security-policy")).toStartWith("sandbox allow-scripts;");
    expect(await code(response)).toBe("500 GODWIT_PLUGIN_FAILED");
    expect(await counted("godwit_pages_failed_total", "answer")).toBe(1);
  });

  test("and what it throws nobody outside hears", async () => {
    const { call, counted } = rig(() => {
      throw new Error("the password is swordfish");
    });
    const response = await call("/x/board/", { token: BOARD });
    expect(await response.text()).not.toContain("swordfish");
    expect(await counted("godwit_pages_failed_total", "failed")).toBe(1);
  });

  test("an error of Godwit's kind that it throws is its failure too, not the node's word", async () => {
    const { call } = rig(() => {
      throw new GodwitError("GODWIT_UNAUTHORIZED", "the password is swordfish", { kind: "permission" });
    });
    const response = await call("/x/board/", { token: BOARD });
    expect(response.status).toBe(500);
    expect(await response.text()).not.toContain("swordfish");
  });
});

describe("bodies of requests", () => {
  const reading: PageHandler = async ({ body }) => {
    let bytes = 0;
    for await (const piece of body) bytes += piece.length;
    return { body: String(bytes) };
  };

  test("come whole, and a byte more than allowed does not", async () => {
    const { call, counted, pages } = rig(reading);
    const post = (body: RequestBody, headers = {}) =>
      call("/x/board/up", { method: "POST", token: BOARD, body, headers });
    expect(await (await post(new Uint8Array(PAGES_LIMITS.requestBytes))).text()).toBe(
      String(PAGES_LIMITS.requestBytes),
    );
    const said = { "content-length": String(PAGES_LIMITS.requestBytes + 1) };
    expect(await code(await post("x", said))).toBe("413 GODWIT_TOO_BIG");
    let pieces = 0;
    const endless = new ReadableStream({
      pull: (to) => (pieces++ < 64 ? to.enqueue(new Uint8Array(1 << 20)) : to.close()),
    });
    expect(await code(await post(endless))).toBe("413 GODWIT_TOO_BIG");
    expect(await counted("godwit_pages_cut_total", "big")).toBe(2);
    await turns();
    expect(pages.running).toBe(0);
  });

  test("a client that stops sending is given up", async () => {
    const { call, clock, counted, pages } = rig(reading);
    const stuck = new ReadableStream({ pull: () => new Promise(() => {}) });
    const answer = call("/x/board/up", { method: "POST", token: BOARD, body: stuck });
    await turns();
    await clock.advance(20_000);
    expect(await code(await answer)).toBe("408 GODWIT_REQUEST_TIMEOUT");
    expect(await counted("godwit_pages_cut_total", "slow")).toBe(1);
    await turns();
    expect(pages.running).toBe(0);
  });

  test("are fetched only as the plugin asks, and dropped where it does not", async () => {
    let pulled = 0;
    let isCancelled = false;
    const body = () =>
      new ReadableStream(
        { pull: (to) => (pulled++, to.enqueue(new Uint8Array(10))), cancel: () => void (isCancelled = true) },
        { highWaterMark: 0 },
      );
    const gate = Promise.withResolvers<void>();
    const { call } = rig(async (request) => {
      const pieces = request.body[Symbol.asyncIterator]();
      await pieces.next();
      await gate.promise;
      return { body: "enough" };
    });
    const answer = call("/x/board/up", { method: "POST", token: BOARD, body: body() });
    await turns(50);
    expect(pulled).toBeLessThanOrEqual(2);
    gate.resolve();
    expect(await (await answer).text()).toBe("enough");
    await turns();
    expect(isCancelled).toBe(true);
  });
});

describe("floods and plugins that do not answer", () => {
  const never = () => new Promise<never>(() => {});

  test("no answer within 30 s is 504; its place is free only when the plugin is done", async () => {
    const gate = Promise.withResolvers<PageResponse>();
    let aborted = 0;
    const { call, clock, pages, counted } = rig(({ signal }) => {
      signal.addEventListener("abort", () => aborted++);
      return gate.promise;
    });
    const answer = call("/x/board/", { token: BOARD });
    await turns();
    await clock.advance(PAGES_LIMITS.answerMs);
    expect(await code(await answer)).toBe("504 GODWIT_TIMEOUT");
    expect([aborted, pages.running]).toEqual([1, 1]);
    let isReturned = false;
    gate.resolve({
      body: {
        [Symbol.asyncIterator]: () => ({
          next: never,
          return: async () => ((isReturned = true), { done: true, value: undefined }),
        }),
      },
    });
    await turns();
    expect([isReturned, pages.running]).toEqual([true, 0]);
    expect(await counted("godwit_pages_failed_total", "late")).toBe(1);
  });

  test("an upload may take its time: the plugin's 30 s begin when it has all that came", async () => {
    let feed!: ReadableStreamDefaultController<Uint8Array>;
    const body = new ReadableStream<Uint8Array>({ start: (controller) => void (feed = controller) });
    const { call, clock, counted } = rig(async (request) => {
      let bytes = 0;
      for await (const piece of request.body) bytes += piece.length;
      return { body: String(bytes) };
    });
    const answer = call("/x/board/up", { method: "POST", token: BOARD, body });
    for (let second = 0; second < 90; second += 10) {
      feed.enqueue(new Uint8Array(100_000));
      await turns(50);
      await clock.advance(10_000);
    }
    feed.close();
    await turns(50);
    expect(await (await answer).text()).toBe("900000");
    await turns();
    expect(clock.nextAtMs()).toBeUndefined(); // nothing runs on for an answer that is out
    expect(await counted("godwit_pages_failed_total", "late")).toBe(0);
  });

  test("an answer that has begun is not late, however long it goes on behind the request", async () => {
    let feed!: ReadableStreamDefaultController<Uint8Array>;
    const body = new ReadableStream<Uint8Array>({ start: (controller) => void (feed = controller) });
    const gate = Promise.withResolvers<void>();
    const { call, clock } = rig(({ body: pieces }) => ({
      body: (async function* () {
        yield* pieces;
        await gate.promise;
        yield "the end";
      })(),
    }));
    const answer = await call("/x/board/echo", { method: "POST", token: BOARD, body });
    const text = answer.text();
    feed.enqueue(new TextEncoder().encode("a piece, "));
    feed.close();
    await turns(60);
    await clock.advance(PAGES_LIMITS.idleMs - 1_000);
    gate.resolve();
    expect(await text).toBe("a piece, the end");
  });

  test("large bodies of bytes or text keep their places until they are taken", async () => {
    const { call, pages } = rig(({ path }) => ({
      body: path === "/text" ? "x".repeat(300_000) : new Uint8Array(300_000),
    }));
    const answers: Response[] = [];
    for (let i = 0; i < PAGES_LIMITS.concurrent; i++)
      answers.push(await call(i % 2 === 0 ? "/x/board/text" : "/x/board/bytes", { token: BOARD }));
    expect(pages.running).toBe(PAGES_LIMITS.concurrent);
    expect((await call("/x/board/bytes", { token: BOARD })).status).toBe(429);
    expect((await answers[0]!.bytes()).length).toBe(300_000);
    expect((await answers[1]!.bytes()).length).toBe(300_000);
    expect(pages.running).toBe(PAGES_LIMITS.concurrent - 2);
    for (const one of answers.slice(2)) await one.body!.cancel();
    await turns();
    expect(pages.running).toBe(0);
  });

  test("a body whose end throws at once gives back its place", async () => {
    const { call, pages } = rig(() => ({
      body: {
        [Symbol.asyncIterator]: () => ({
          next: async () => ({ done: false as const, value: "piece" }),
          return: () => {
            throw new Error("at once");
          },
        }),
      },
    }));
    const response = await call("/x/board/", { token: BOARD });
    const reader = response.body!.getReader();
    await reader.read();
    await reader.cancel();
    await turns();
    expect(pages.running).toBe(0);
  });

  test("32 at a time an instance; without a token never the last places, and other instances have theirs", async () => {
    const { call, add, pages, counted } = rig(never);
    add("other", () => ({ body: "other" }));
    for (let i = 0; i < PAGES_LIMITS.concurrentOpen; i++) void call("/x/board/");
    await turns();
    expect(pages.running).toBe(PAGES_LIMITS.concurrentOpen);
    const open = await call("/x/board/");
    expect(open.headers.get("retry-after")).toBe("5");
    expect(await code(open)).toBe("429 GODWIT_TOO_MANY_REQUESTS");
    while (pages.running < PAGES_LIMITS.concurrent) {
      void call("/x/board/", { token: BOARD });
      await turns();
    }
    expect(await code(await call("/x/board/", { token: BOARD }))).toBe("429 GODWIT_TOO_MANY_REQUESTS");
    expect(await (await call("/x/other/", { token: "other-secret" })).text()).toBe("other");
    expect((await call("/messages", { token: "read-secret" })).status).toBe(200);
    expect(await counted("godwit_pages_failed_total", "busy")).toBe(2);
  });

  test("all instances together have fewer places than the API, which answers beside them", async () => {
    const { call, add, pages } = rig(never, { name: "p0" });
    for (let i = 1; i < 9; i++) add(`p${i}`);
    for (let i = 0; i < 9; i++) for (let n = 0; n < 32; n++) void call(`/x/p${i}/`);
    await turns();
    expect(pages.running).toBe(OPEN_PAGES_AT_ONCE_MAX);
    for (let i = 0; i < 9; i++) for (let n = 0; n < 32; n++) void call(`/x/p${i}/`, { connection: socket });
    await turns();
    expect(pages.running).toBe(PAGES_AT_ONCE_MAX);
    expect((await call("/messages", { token: "read-secret" })).status).toBe(200);
  });

  test("a client that leaves before the answer is told to the plugin", async () => {
    const told = Promise.withResolvers<void>();
    const { call } = rig(({ signal }) => {
      signal.addEventListener("abort", () => told.resolve());
      return never();
    });
    const gone = new AbortController();
    void call("/x/board/", { token: BOARD, signal: gone.signal });
    await turns();
    gone.abort();
    await told.promise;
  });

  test("a plugin that stops in the midst: 503 before the answer, a cut after it, and nothing is left", async () => {
    const { call, scope, pages, counted } = rig(({ path }) => (path === "/" ? never() : { body: begun() }));
    const waiting = call("/x/board/", { token: BOARD });
    const reader = (await call("/x/board/stream", { token: BOARD })).body!.getReader();
    await reader.read();
    const broken = endOf(reader.read());
    await turns();
    void scope.close();
    expect(await code(await waiting)).toBe("503 GODWIT_STOPPED");
    expect(await broken).toBe("cut");
    expect(await code(await call("/x/board/", { token: BOARD }))).toBe("404 GODWIT_NOT_FOUND");
    expect(await counted("godwit_pages_failed_total", "stopped")).toBe(2);
    await turns();
    // The one that never settles has no place any more: its plugin is gone.
    expect(pages.running).toBe(0);
  });
});

async function* begun(): AsyncGenerator<string> {
  yield "begun";
  await new Promise(() => {});
}

describe("bodies that stream", () => {
  /** Its pieces come when the test says so. */
  function source() {
    let give: ((piece: string | undefined) => void) | undefined;
    const state = { asked: 0, isReturned: false, isAborted: false };
    const body: AsyncIterable<string> = {
      [Symbol.asyncIterator]: () => ({
        next: () => {
          state.asked++;
          return new Promise<IteratorResult<string>>((resolve) => {
            give = (piece) =>
              resolve(piece === undefined ? { done: true, value: undefined } : { done: false, value: piece });
          });
        },
        return: async () => ((state.isReturned = true), { done: true, value: undefined }),
      }),
    };
    const handler: PageHandler = ({ signal }) => {
      signal.addEventListener("abort", () => void (state.isAborted = true));
      return { headers: { "content-type": "text/event-stream" }, body };
    };
    return { state, handler, give: (piece?: string) => give?.(piece) };
  }

  test("go out piece by piece as they are taken, and end", async () => {
    const { state, handler, give } = source();
    const { call, pages } = rig(handler);
    const response = await call("/x/board/", { token: BOARD });
    expect(response.headers.get("content-type")).toBe("text/event-stream");
    await turns();
    expect(state.asked).toBe(0);
    const reader = response.body!.getReader();
    const first = reader.read();
    await turns();
    give("one");
    expect(new TextDecoder().decode((await first).value)).toBe("one");
    await turns();
    expect(state.asked).toBe(1);
    expect(pages.running).toBe(1);
    const last = reader.read();
    await turns();
    give();
    expect((await last).done).toBe(true);
    await turns();
    expect([pages.running, state.isReturned]).toEqual([0, false]);
  });

  test("are cut when the plugin says nothing for 45 s", async () => {
    const { state, handler } = source();
    const { call, clock, counted, pages } = rig(handler);
    const reader = (await call("/x/board/", { token: BOARD })).body!.getReader();
    const broken = endOf(reader.read());
    await turns();
    await clock.advance(PAGES_LIMITS.idleMs);
    expect(await broken).toBe("cut");
    expect(await counted("godwit_pages_cut_total", "idle")).toBe(1);
    expect([state.isReturned, state.isAborted, pages.running]).toEqual([true, true, 0]);
  });

  test("are cut when the client takes nothing for 30 s, before the first piece too", async () => {
    for (const pieces of [0, 1]) {
      const { state, handler, give } = source();
      const { call, clock, counted, pages } = rig(handler);
      const response = await call("/x/board/", { token: BOARD });
      const reader = response.body!.getReader();
      if (pieces === 1) {
        const read = reader.read();
        await turns();
        give("one");
        await read;
        await turns();
      }
      await clock.advance(PAGES_LIMITS.stallMs);
      await turns();
      expect(await counted("godwit_pages_cut_total", "stalled")).toBe(1);
      expect([state.isReturned, pages.running]).toEqual([true, 0]);
    }
  });

  test("end with their client, whether it reads, has read or never will", async () => {
    for (const how of ["cancels", "aborts"] as const) {
      const { state, handler } = source();
      const { call, counted, pages } = rig(handler);
      const gone = new AbortController();
      const response = await call("/x/board/", { token: BOARD, signal: gone.signal });
      if (how === "cancels") await response.body!.cancel();
      else gone.abort();
      await turns();
      expect([state.isReturned, state.isAborted, pages.running]).toEqual([true, true, 0]);
      expect(await counted("godwit_pages_cut_total", "gone")).toBe(1);
    }
  });

  test("HEAD has the headers of GET and no body, and the stream is not begun", async () => {
    const { state, handler } = source();
    const { call, pages } = rig(handler);
    const response = await call("/x/board/", { token: BOARD, method: "HEAD" });
    expect([response.status, response.headers.get("content-type"), response.body]).toEqual([
      200,
      "text/event-stream",
      null,
    ]);
    await turns();
    expect([state.asked, state.isReturned, pages.running]).toEqual([0, true, 0]);
  });

  test("a piece that is none cuts it, and a plugin that throws in the midst does", async () => {
    for (const wrong of [5 as unknown as string, "throw"]) {
      async function* body() {
        yield "one";
        if (wrong === "throw") throw new Error("broke");
        yield wrong;
      }
      const { call, pages } = rig(() => ({ body: body() }));
      const response = await call("/x/board/", { token: BOARD });
      expect(await endOf(response.text())).toBe("cut");
      await turns();
      expect(pages.running).toBe(0);
    }
  });
});
