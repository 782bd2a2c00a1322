import { describe, expect, test } from "bun:test";
import type { z } from "zod";
import { GodwitError, godwitError } from "../kernel/errors.ts";
import { apiRoutes, REQUESTS_MAX } from "./app.ts";
import { call, json, problemIn, remote, requests, socket, loopback } from "./testing-calls.ts";
import { createRig, messageId1, nodeC, sampleMessage } from "./testing.ts";

test("a crowd that asks for pages gets one after the other, in order: the answers of the store may all come at once", async () => {
  const rig = createRig();
  const answers: (() => void)[] = [];
  let isBroken = true;
  rig.node.messages = async () => {
    await new Promise<void>((resolve) => answers.push(resolve));
    if (isBroken) throw godwitError("GODWIT_STORE_FAILED", "no page");
    return { messages: [], next: null };
  };
  const turn = () => new Promise((resolve) => setImmediate(resolve));
  const asked = Array.from({ length: 20 }, () => call(rig, "GET", "/messages"));
  for (let n = 1; n <= asked.length; n++) {
    for (let turns = 0; turns < 5; turns++) await turn();
    expect(answers.length).toBe(n);
    answers[n - 1]!();
    expect((await asked[n - 1]!).status).toBe(isBroken ? 507 : 200);
    isBroken = false;
  }
});

describe("every route", () => {
  for (const route of apiRoutes("0.1.0")) {
    const key = `${route.method} ${route.path}`;
    test(`${key} answers as its schema says`, async () => {
      const { path = route.path, init } = requests[key]!;
      const response = await call(createRig(), route.method.toUpperCase(), path, init);
      const answer = route.answers.find(({ status }) => status === response.status);
      expect(answer).toBeDefined();
      if (answer?.schema !== undefined) {
        expect(response.headers.get("content-type")).toBe("application/json");
        const schema = (await answer.schema()) as z.ZodObject;
        expect(schema.safeParse(await response.json()).error).toBeUndefined();
      } else if (answer?.media !== undefined && answer.media !== "*/*")
        expect(response.headers.get("content-type")).toStartWith(answer.media);
      if (!response.bodyUsed) await response.body?.cancel();
    });
  }

  test("stands in the OpenAPI document, and nothing else does", async () => {
    const rig = createRig();
    const document = (await (await call(rig, "GET", "/openapi.json")).json()) as {
      openapi: string;
      paths: Record<string, Record<string, { operationId: string; responses: object }>>;
    };
    expect(document.openapi).toBe("3.1.0");
    const documented = Object.entries(document.paths).flatMap(([path, methods]) =>
      Object.keys(methods).map((method) => `${method} ${path}`),
    );
    const served = rig.app.routes
      .filter(({ method }) => method !== "ALL")
      .map(({ method, path }) => `${method.toLowerCase()} ${path.replace(/:(\w+)/g, "{$1}")}`);
    expect(documented.sort()).toEqual([...new Set(served)].sort());
    expect(documented.sort()).toEqual(Object.keys(requests).sort());
    const operations = Object.values(document.paths).flatMap((methods) =>
      Object.values(methods).map(({ operationId }) => operationId),
    );
    expect(new Set(operations).size).toBe(operations.length);
    for (const ref of JSON.stringify(document).matchAll(/"\$ref":"#\/([^"]+)"/g)) {
      let at: unknown = document;
      for (const part of ref[1]!.split("/")) at = (at as Record<string, unknown>)[part];
      expect(at).toBeDefined();
    }
  });
});

describe("errors", () => {
  test("404 for an unknown path, 405 with Allow for a wrong method, in problem documents", async () => {
    const rig = createRig();
    for (const path of ["/", "/mesh", "/health/", "/messages/a/b", "/mesh/routes/x"])
      expect((await problemIn(await call(rig, "GET", path))).code).toBe("GODWIT_NOT_FOUND");
    const wrong = await call(rig, "PUT", "/messages");
    expect(wrong.headers.get("allow")).toBe("POST, GET, HEAD");
    expect((await problemIn(wrong)).code).toBe("GODWIT_METHOD_NOT_ALLOWED");
    expect((await call(rig, "OPTIONS", "/health")).headers.get("access-control-allow-origin")).toBeNull();
  });

  test("an error of the node keeps its code, status and advice", async () => {
    const rig = createRig();
    const unknown = await problemIn(await call(rig, "GET", "/mesh/routes/NOBODY/why"));
    expect(unknown).toMatchObject({ status: 404, code: "GODWIT_NAME_UNKNOWN", retry: "later" });
    rig.node.failure = godwitError("GODWIT_STORE_FAILED", "disk full");
    const full = await problemIn(await call(rig, "POST", "/messages", json({ to: "DUN", body: "x" })));
    expect(full).toMatchObject({
      status: 507,
      detail: "disk full",
      type: "urn:godwit:error:GODWIT_STORE_FAILED",
    });
    rig.node.failure = new GodwitError("ACME_ODD", "plugin trouble", { kind: "plugin" });
    expect(await problemIn(await call(rig, "GET", "/mesh/names"))).toMatchObject({
      status: 500,
      code: "ACME_ODD",
    });
  });

  test("a bug tells nothing of our insides", async () => {
    const rig = createRig();
    rig.node.failure = new TypeError("undefined is not /secret/path");
    const body = await problemIn(await call(rig, "GET", "/mesh/peers"));
    expect(body).toMatchObject({ status: 500, code: "GODWIT_BUG" });
    expect(JSON.stringify(body)).not.toContain("secret");
  });

  test("whoever asks for health over the network is not told whom the node writes to", async () => {
    const rig = createRig();
    for (const connection of [socket, loopback, remote]) await call(rig, "GET", "/health", {}, connection);
    expect(rig.node.healthAskedBy).toEqual(["operator", "anybody", "anybody"]);
  });

  test("health is 503 when down, with its body", async () => {
    const rig = createRig();
    rig.node.healthNow = { status: "down", checks: [{ name: "store", status: "down", reason: "disk full" }] };
    const response = await call(rig, "GET", "/health", {}, remote);
    expect(response.status).toBe(503);
    expect(await response.json()).toEqual(rig.node.healthNow as never);
    rig.node.healthNow = { status: "degraded", checks: [] };
    expect((await call(rig, "GET", "/health", {}, remote)).status).toBe(200);
  });

  test("fields that do not fit are named", async () => {
    const rig = createRig();
    const send = async (value: unknown) => problemIn(await call(rig, "POST", "/messages", json(value)));
    expect((await send({ to: "DUN", body: "x", ttl: 5 })).errors?.[0]?.message).toContain("ttl");
    expect((await send({ to: "DUN", body: "x", priority: 4 })).errors?.[0]?.path).toBe("priority");
    expect((await send({ to: "DUN", body: "x", ttl_seconds: 0 })).errors?.[0]?.path).toBe("ttl_seconds");
    expect((await send({ to: "DUN" })).detail).toContain("exactly one of body and body_base64");
    expect((await send({ to: "DUN", body: "x", body_base64: "eA==" })).code).toBe("GODWIT_REQUEST_INVALID");
    expect((await send({ to: "DUN", body_base64: "e" })).errors?.[0]?.path).toBe("body_base64");
    expect((await send({ to: "DUN", body: "\ud800" })).errors?.[0]?.path).toBe("body");
    expect((await send([])).code).toBe("GODWIT_REQUEST_INVALID");
    for (const query of ["box=attic", "limit=0", "limit=501", "limit=x", "limit=1&limit=2", "page=2"])
      expect((await problemIn(await call(rig, "GET", `/messages?${query}`))).code).toBe(
        "GODWIT_REQUEST_INVALID",
      );
    expect(rig.node.sent).toEqual([]);
  });
});

describe("messages", () => {
  test("JSON goes to the node as it was meant", async () => {
    const rig = createRig();
    const text = await call(rig, "POST", "/messages", json({ to: " dun-a ", body: "grüß" }));
    expect(text.status).toBe(202);
    expect(text.headers.get("location")).toBe(`/messages/${messageId1}`);
    expect(await text.json()).toEqual({ id: messageId1 });
    const all = {
      to: nodeC,
      subject: "s",
      content_type: "image/png",
      priority: 0,
      ttl_seconds: 60,
      failover: true,
      transient: false,
      idempotency_key: "k",
    };
    await call(rig, "POST", "/messages", json({ ...all, body_base64: "AP8=" }));
    expect(rig.node.sent).toEqual([
      { to: "dun-a", body: new TextEncoder().encode("grüß"), contentType: "text/plain; charset=utf-8" },
      {
        to: nodeC,
        subject: "s",
        contentType: "image/png",
        priority: 0,
        ttlSeconds: 60,
        failover: true,
        transient: false,
        idempotencyKey: "k",
        body: new Uint8Array([0, 255]),
      },
    ]);
  });

  test("the header Idempotency-Key is the field, quoted or not; two keys, none at all and one for many are refused", async () => {
    const rig = createRig();
    const withKey = (key: string, body: object) => ({
      ...json(body),
      headers: { "content-type": "application/json", "idempotency-key": key },
    });
    const message = { to: "DUN", body: "x" };
    const bytesOf = (key: string) => Buffer.from(key).toString("latin1");
    for (const key of ["k-1", '"k-1"', '"a \\" b"', bytesOf('"ключ"'), "\u00e9"])
      expect((await call(rig, "POST", "/messages", withKey(key, message))).status).toBe(202);
    const same = withKey("k-1", { ...message, idempotency_key: "k-1" });
    expect((await call(rig, "POST", "/messages", same)).status).toBe(202);
    const raw = { body: "x", headers: { "idempotency-key": "k-2" } };
    expect((await call(rig, "POST", "/messages?to=DUN", raw)).status).toBe(202);
    expect(rig.node.sent.map(({ idempotencyKey }) => idempotencyKey)).toEqual([
      ...["k-1", "k-1", 'a " b', "ключ", "\u00e9", "k-1", "k-2"],
    ]);
    const refused = [
      withKey("k-1", { ...message, idempotency_key: "k-2" }),
      withKey('""', message),
      withKey("k".repeat(201), message),
      withKey("k-1", [message]),
    ];
    for (const init of refused) {
      const problem = await problemIn(await call(rig, "POST", "/messages", init));
      expect(problem).toMatchObject({ status: 400, errors: [{ path: "Idempotency-Key" }] });
    }
    expect(rig.node.sent).toHaveLength(7);
  });

  test("with `to` in the query the body travels as it is, even when it is JSON", async () => {
    const rig = createRig();
    const headers = { "content-type": "application/json" };
    const path =
      "/messages?to=DUN&subject=a%20b&priority=1&ttl_seconds=9&failover=false&transient=true&idempotency_key=k";
    expect((await call(rig, "POST", path, { body: "[1]", headers })).status).toBe(202);
    expect((await call(rig, "POST", "/messages?to=DUN", { body: new Uint8Array([255]) })).status).toBe(202);
    expect(rig.node.sent).toEqual([
      {
        to: "DUN",
        subject: "a b",
        priority: 1,
        ttlSeconds: 9,
        failover: false,
        transient: true,
        idempotencyKey: "k",
        contentType: "application/json",
        body: new TextEncoder().encode("[1]"),
      },
      { to: "DUN", contentType: "application/octet-stream", body: new Uint8Array([255]) },
    ]);
  });

  test("a form, a foreign media type and stray query fields are refused", async () => {
    const rig = createRig();
    const post = async (path: string, init: RequestInit) => problemIn(await call(rig, "POST", path, init));
    const text = {
      body: JSON.stringify({ to: "DUN", body: "x" }),
      headers: { "content-type": "text/plain" },
    };
    expect((await post("/messages", text)).errors?.[0]?.path).toBe("content-type");
    expect((await post("/messages?priority=1", json({ to: "DUN", body: "x" }))).errors?.[0]?.path).toBe("to");
    const odd = { body: "x", headers: { "content-type": "nonsense" } };
    expect((await post("/messages?to=DUN", odd)).errors?.[0]?.path).toBe("content-type");
  });

  test("a small body is told inline: text as text, the rest in base64, nothing when large or sealed", async () => {
    const rig = createRig();
    const get = async () => (await (await call(rig, "GET", `/messages/${messageId1}`)).json()) as never;
    expect(await get()).toEqual({ ...sampleMessage, body: "hello" } as never);
    const box = (view: object, body: Uint8Array) =>
      rig.node.boxed.set(messageId1, { view: { ...sampleMessage, ...view }, body });
    box({ content_type: "image/png" }, new Uint8Array([0, 255]));
    expect(await get()).toMatchObject({ body_base64: "AP8=" });
    box({}, new Uint8Array([0xff, 0xfe]));
    expect(await get()).toMatchObject({ body_base64: "//4=" });
    box({ content_type: "application/json" }, new TextEncoder().encode("{}"));
    expect(await get()).toMatchObject({ body: "{}" });
    box({ size: 65_537 }, new Uint8Array(65_537));
    expect(await get()).not.toHaveProperty("body_base64");
  });

  test("the raw body keeps its type and can never run in a browser", async () => {
    const rig = createRig();
    const get = () => call(rig, "GET", `/messages/${messageId1.toUpperCase()}/body`);
    const response = await get();
    expect(await response.text()).toBe("hello");
    expect(response.headers.get("content-type")).toBe("text/plain; charset=utf-8");
    expect(response.headers.get("x-content-type-options")).toBe("nosniff");
    expect(response.headers.get("content-disposition")).toBe("attachment");
    rig.node.boxed.get(messageId1)!.contentType = "text/html\r\nset-cookie: a=b";
    expect((await get()).headers.get("content-type")).toBe("application/octet-stream");
  });

  test("what cannot be an id is an unknown message; DELETE reaches the node", async () => {
    const rig = createRig();
    for (const id of ["zz", "0".repeat(31), "..%2f..", "0".repeat(4000)])
      expect((await problemIn(await call(rig, "GET", `/messages/${id}`))).code).toBe(
        "GODWIT_MESSAGE_UNKNOWN",
      );
    expect((await call(rig, "DELETE", `/messages/${messageId1}`)).status).toBe(204);
    expect(rig.node.deleted).toEqual([messageId1]);
  });

  test("pages: limit and after reach the node", async () => {
    const rig = createRig();
    const second = "f".repeat(32);
    rig.node.boxed.set(second, { view: { ...sampleMessage, id: second }, body: new Uint8Array(0) });
    const page = async (query: string) =>
      (await (await call(rig, "GET", `/messages?${query}`)).json()) as {
        messages: { id: string }[];
        next: string;
      };
    expect(await page("limit=1")).toMatchObject({ messages: [{ id: messageId1 }], next: messageId1 });
    expect(await page(`box=outbox&limit=1&after=${messageId1}`)).toMatchObject({
      messages: [{ id: second }],
      next: null,
    });
  });
});

describe("changes", () => {
  test("trust, names and tokens reach their owners", async () => {
    const rig = createRig();
    const trust = await call(
      rig,
      "POST",
      "/mesh/peers/LON-B/trust",
      json({ level: "blocked", reason: "lies" }),
    );
    expect(await trust.json()).toEqual({ peer: "LON-B", level: "blocked", reason: "lies" });
    expect(rig.node.trusts).toEqual([{ node: "LON-B", level: "blocked", reason: "lies" }]);
    await call(rig, "POST", "/mesh/names/NYC-C/resolve", json({ node: nodeC }));
    expect(rig.node.resolved).toEqual([{ name: "NYC-C", node: nodeC }]);
    expect((await problemIn(await call(rig, "DELETE", "/tokens/t9"))).code).toBe("GODWIT_NOT_FOUND");
    const without = await call(rig, "POST", "/mesh/peers/LON-B/trust", json({ level: "blocked" }));
    expect((await problemIn(without)).errors?.[0]?.path).toBe("reason");
  });

  test("a trace that never answers ends after its deadline, and with the API", async () => {
    const hanging = (signal: AbortSignal) =>
      new Promise<void>((_, reject) =>
        signal.addEventListener("abort", () => reject(signal.reason as Error), { once: true }),
      );
    const rig = createRig();
    rig.node.onTrace = hanging;
    const trace = call(rig, "POST", "/mesh/trace/NYC-C");
    await rig.clock.advance(30_000);
    expect((await problemIn(await trace)).code).toBe("GODWIT_TIMEOUT");
    const second = call(rig, "POST", "/mesh/trace/NYC-C");
    await rig.clock.advance(1);
    rig.stop.abort(godwitError("GODWIT_STOPPED", "the node is stopping"));
    expect((await problemIn(await second)).code).toBe("GODWIT_STOPPED");
  });
});

test("requests are counted by pattern, never by path", async () => {
  const rig = createRig();
  await call(rig, "GET", `/messages/${messageId1}`);
  await call(rig, "GET", `/messages/${"f".repeat(32)}`);
  await call(rig, "GET", "/some/strange/path");
  await call(rig, "PUT", "/health");
  const text = await rig.metrics.render();
  expect(text).toContain('godwit_http_requests_total{method="GET",route="/messages/{id}",status="200"} 1');
  expect(text).toContain('godwit_http_requests_total{method="GET",route="/messages/{id}",status="404"} 1');
  expect(text).toContain('godwit_http_requests_total{method="GET",route="unmatched",status="404"} 1');
  expect(text).toContain('godwit_http_requests_total{method="PUT",route="/health",status="405"} 1');
  expect(text).toContain('godwit_http_request_duration_seconds_count{method="GET",route="/messages/{id}"} 2');
  expect(text).not.toContain(messageId1);
});

test("requests in progress are bounded: beyond them one is turned away at once, and those go on", async () => {
  const rig = createRig();
  rig.node.onTrace = (signal) =>
    new Promise<void>((_, reject) =>
      signal.addEventListener("abort", () => reject(signal.reason as Error), { once: true }),
    );
  const under = Array.from({ length: REQUESTS_MAX }, () => call(rig, "POST", "/mesh/trace/NYC-C"));
  await rig.clock.advance(1);
  const more = await call(rig, "POST", "/mesh/trace/NYC-C");
  expect([more.status, (await problemIn(more)).code]).toEqual([429, "GODWIT_TOO_MANY_REQUESTS"]);
  await rig.clock.advance(30_000);
  expect(new Set((await Promise.all(under)).map(({ status }) => status))).toEqual(new Set([504]));
  const after = call(rig, "GET", "/mesh/status");
  expect((await after).status).toBe(200);
});
