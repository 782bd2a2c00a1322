import { describe, expect, test } from "bun:test";
import { AUTH_DELAY_MS, AUTH_WAITING_MAX, decideAccess } from "./access.ts";
import { apiRoutes } from "./app.ts";
import { call, loopback, problemIn, remote, requests, socket } from "./testing-calls.ts";
import { createRig, noPages } from "./testing.ts";

describe("access", () => {
  const scopeOf: Record<string, string> = Object.fromEntries(
    apiRoutes("0.1.0").map((route) => [`${route.method} ${route.path}`, route.access.scope]),
  );

  test("the scopes are those of the contract", () => {
    expect(scopeOf).toMatchInlineSnapshot(`
      {
        "delete /forwards/{id}": "operate",
        "delete /messages/{id}": "operate",
        "delete /tokens/{id}": "admin",
        "get /engines/{engine}/keys/{key}": "operate",
        "get /events": "read",
        "get /forwards": "operate",
        "get /health": "public",
        "get /logs": "operate",
        "get /mesh/discovery": "read",
        "get /mesh/members": "read",
        "get /mesh/names": "read",
        "get /mesh/peers": "read",
        "get /mesh/plugins": "read",
        "get /mesh/revocations": "read",
        "get /mesh/routes": "read",
        "get /mesh/routes/{node}/why": "read",
        "get /mesh/secrets": "read",
        "get /mesh/status": "read",
        "get /messages": "read",
        "get /messages/{id}": "read",
        "get /messages/{id}/body": "read",
        "get /metrics": "read",
        "get /openapi.json": "read",
        "get /profile": "admin",
        "get /tokens": "admin",
        "post /engines/{engine}/keys/{key}": "operate",
        "post /forwards": "operate",
        "post /heal/{action}": "operate",
        "post /mesh/invites": "admin",
        "post /mesh/join": "admin",
        "post /mesh/names/adopt": "operate",
        "post /mesh/names/{name}/forget": "operate",
        "post /mesh/names/{name}/resolve": "operate",
        "post /mesh/peers/{id}/trust": "operate",
        "post /mesh/revocations": "operate",
        "post /mesh/secrets/retire": "admin",
        "post /mesh/secrets/rotate": "admin",
        "post /mesh/trace/{node}": "operate",
        "post /messages": "send",
        "post /plugins/{plugin}/requests": "admin",
        "post /reload": "admin",
        "post /tokens": "admin",
      }
    `);
  });

  const origins = [
    { name: "unix socket", connection: socket, host: "localhost" },
    { name: "loopback", connection: loopback, host: "127.0.0.1:8000" },
    { name: "loopback, foreign Host", connection: loopback, host: "evil.example:8000" },
    { name: "remote", connection: remote, host: "192.0.2.7:8000" },
    { name: "unknown", connection: undefined, host: "localhost" },
  ];
  const secrets = ["", "read-secret", "send-secret", "operate-secret", "admin-secret"];

  for (const [key, scope] of Object.entries(scopeOf))
    test(`matrix of ${key}`, async () => {
      const [method, pattern] = key.split(" ") as [string, string];
      const { path = pattern, init } = requests[key]!;
      for (const { name, connection, host } of origins)
        for (const secret of secrets) {
          const headers = new Headers(init?.headers);
          headers.set("host", host);
          if (secret !== "") headers.set("authorization", `Bearer ${secret}`);
          const request = { ...init, method: method.toUpperCase(), headers };
          const response = await createRig().app.request(path, request, connection && { connection });
          const isFreeRead =
            method === "get" && (pattern.startsWith("/mesh/") || pattern === "/metrics") && secret === "";
          const expected =
            scope === "public" ||
            name === "unix socket" ||
            [`${scope}-secret`, "admin-secret"].includes(secret)
              ? "allowed"
              : secret !== ""
                ? 403
                : isFreeRead && name === "loopback"
                  ? "allowed"
                  : isFreeRead && name === "loopback, foreign Host"
                    ? 403
                    : 401;
          const got = response.status < 400 ? "allowed" : response.status;
          expect(`${name}, ${secret}: ${got}`).toBe(`${name}, ${secret}: ${expected}`);
          await response.body?.cancel();
        }
    });

  test("with public_read the reads that are free on loopback are free by an address, and nothing else is", async () => {
    const rig = createRig({ isReadPublic: true, pages: { ...noPages, reachOf: () => "local" } });
    for (const [key, scope] of Object.entries(scopeOf)) {
      const [method, pattern] = key.split(" ") as [string, string];
      const { path = pattern, init } = requests[key]!;
      const isFreeRead = method === "get" && (pattern.startsWith("/mesh/") || pattern === "/metrics");
      for (const host of ["198.51.100.1:8000", "localhost:8000", "node.example:8000", undefined]) {
        const headers = new Headers(init?.headers);
        if (host !== undefined) headers.set("host", host);
        const request = { ...init, method: method.toUpperCase(), headers };
        const response = await rig.app.request(path, request, { connection: remote });
        const isForeign = host === "node.example:8000";
        const expected = scope === "public" || (isFreeRead && !isForeign) ? 200 : isFreeRead ? 403 : 401;
        expect(`${key} as ${host}: ${response.status}`).toBe(`${key} as ${host}: ${expected}`);
        await response.body?.cancel();
      }
    }
    // A token that is none is refused all the same, and pages that are open on this machine stay its own.
    const wrong = { headers: { authorization: "Bearer nonsense", host: "127.0.0.1" } };
    const refused = rig.app.request("/metrics", wrong, { connection: remote });
    await rig.clock.advance(AUTH_DELAY_MS);
    expect((await refused).status).toBe(401);
    expect((await call(rig, "GET", "/x/web/", { headers: { host: "127.0.0.1" } }, remote)).status).toBe(401);
  });

  test("a health check in HTTP/1.0, which has no Host, reads what is open on loopback, and from elsewhere nothing more", async () => {
    const ask = (path: string, connection: typeof loopback) =>
      createRig().app.request(path, { headers: new Headers() }, { connection });
    for (const path of ["/health", "/metrics", "/mesh/status"])
      expect((await ask(path, loopback)).status).toBe(200);
    expect((await ask("/metrics", remote)).status).toBe(401);
    expect((await ask("/tokens", loopback)).status).toBe(401);
  });

  test.each([
    "localhost",
    "localhost.",
    "LOCALHOST.:80",
    "LOCALHOST:1",
    "127.0.0.1",
    "[::1]:8000",
    "192.0.2.7:8000",
  ])("host %s is ours", async (host) => {
    for (const peer of ["127.0.0.1", "127.8.9.1", "::1", "::ffff:127.0.0.1"]) {
      const response = await call(
        createRig(),
        "GET",
        "/mesh/status",
        { headers: { host } },
        { ...loopback, peer },
      );
      expect(response.status).toBe(200);
    }
  });

  test.each([
    "localhost.evil.example",
    "127.0.0.1.evil.example",
    "::1",
    "evil@localhost",
    "",
    "localhost:80:80",
    "localhost..",
    ".",
  ])("host %p is foreign", async (host) => {
    const response = await call(createRig(), "GET", "/mesh/status", { headers: { host } }, loopback);
    expect((await problemIn(response)).code).toBe("GODWIT_FORBIDDEN");
  });

  test("401 and 403 say how to get in", async () => {
    const rig = createRig();
    const missing = await call(rig, "GET", "/messages", {}, remote);
    expect(missing.headers.get("www-authenticate")).toBe('Bearer realm="godwit"');
    expect((await problemIn(missing)).code).toBe("GODWIT_UNAUTHORIZED");
    const headers = { authorization: "Bearer read-secret" };
    const weak = await call(rig, "POST", "/messages", { headers }, remote);
    expect(weak.headers.get("www-authenticate")).toContain('error="insufficient_scope", scope="send"');
    expect((await problemIn(weak)).detail).toContain("send");
  });

  test("a wrong token waits, and a flood of them is turned away while a good one still enters", async () => {
    const rig = createRig();
    const knock = (token: string) =>
      call(rig, "GET", "/messages", { headers: { authorization: token } }, remote);
    const waiting = Array.from({ length: AUTH_WAITING_MAX }, (_, i) => knock(`Bearer guess-${i}`));
    expect((await problemIn(await knock("Bearer one-too-many"))).code).toBe("GODWIT_TOO_MANY_REQUESTS");
    expect((await knock("bearer  read-secret")).status).toBe(200);
    const first = await Promise.race([waiting[0], Promise.resolve("still waiting")]);
    expect(first).toBe("still waiting");
    await rig.clock.advance(AUTH_DELAY_MS);
    for (const response of await Promise.all(waiting)) expect(response.status).toBe(401);
    const basic = knock("Basic cmVhZA==");
    await rig.clock.advance(AUTH_DELAY_MS);
    expect((await basic).headers.get("www-authenticate")).toContain("invalid_token");
    expect(await rig.metrics.render()).toContain('godwit_http_refused_total{reason="invalid"} 66');
  });

  test("a body is not read before the caller may send it", async () => {
    const response = await createRig().app.request(
      "/messages",
      { method: "POST", body: new ReadableStream({ pull: () => new Promise(() => {}) }) },
      { connection: remote },
    );
    expect(response.status).toBe(401);
  });
});

test("a right that is exact is in no other: a page sees no token of an administrator", () => {
  const exact = { scope: "pages:board", isExact: true } as const;
  const verdict = (scopes: readonly ("admin" | "operate" | "pages:board" | "pages:other")[]) =>
    decideAccess(exact, remote, "192.0.2.7", scopes);
  for (const scopes of [["admin"], ["admin", "operate"], ["pages:other"], []] as const)
    expect(verdict(scopes)).toEqual({ allowed: false, why: "scope" });
  expect(verdict(["pages:board"])).toEqual({ allowed: true });
  // And where it is not, an administrator may all.
  expect(decideAccess({ scope: "pages:board" }, remote, "192.0.2.7", ["admin"])).toEqual({ allowed: true });
});
