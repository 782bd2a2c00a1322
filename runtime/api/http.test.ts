import { expect, test } from "bun:test";
import { chmodSync, existsSync } from "node:fs";
import { connect, type Socket } from "node:net";
import { join } from "node:path";
import { inspect } from "../init/activation.ts";
import { libc, listenTcp, listenUnix } from "../init/testing.ts";
import { ManualClock, systemClock } from "../kernel/clock.ts";
import { CONNECTIONS_PER_SOURCE_MAX, FRESH_GRACE_MS, HttpServer, newPlaces } from "./http.ts";
import { useServerRig } from "./testing-servers.ts";

const at = useServerRig();

const parts = () => ({ app: at.rig.app, clock: systemClock, places: newPlaces(), refused() {} });

async function startTcp(): Promise<string> {
  const { addresses } = await at.start({ passed: [inspect(libc, listenTcp())] });
  expect(addresses).toHaveLength(1);
  return `http://${addresses[0]}`;
}

/** Everything that comes until the far end closes, or resets because it did not read all that was said. */
const talk = (url: string, text: string, onSocket?: (socket: Socket) => void): Promise<string> =>
  new Promise((resolve) => {
    const socket = connect(Number(new URL(url).port), "127.0.0.1");
    let heard = "";
    socket.on("data", (bytes) => (heard += bytes.toString("latin1")));
    socket.on("close", () => resolve(heard));
    socket.on("error", () => socket.destroy());
    socket.on("connect", () => (socket.write(text), onSocket?.(socket)));
  });

test("a passed TCP listener is the API, by the same rules, and replaces api.listen", async () => {
  const url = await startTcp();
  const status = async (path: string, headers: Record<string, string> = {}) =>
    (await fetch(`${url}${path}`, { headers })).status;
  expect(await status("/health")).toBe(200);
  expect(await status("/mesh/status")).toBe(200);
  expect(await status("/mesh/status", { host: "evil.example" })).toBe(403);
  expect(await status("/tokens")).toBe(401);
  expect(await status("/tokens", { authorization: "Bearer admin-secret" })).toBe(200);
  expect(await status("/nowhere")).toBe(404);
  const problem = await fetch(`${url}/tokens`);
  expect(problem.headers.get("content-type")).toBe("application/problem+json");
});

test("a passed unix socket has the authority of its file, and outlives the node", async () => {
  const path = join(at.folder, "passed.sock");
  const fd = listenUnix(path);
  chmodSync(path, 0o660);
  const { addresses } = await at.start({ passed: [inspect(libc, fd)] });
  // The configured TCP address stays, and so does the node's own socket.
  expect(addresses).toHaveLength(1);
  for (const unix of [path, join(at.folder, "own.sock")])
    expect((await fetch("http://localhost/tokens", { unix })).status).toBe(200);
  await at.scope.close();
  expect(existsSync(path)).toBe(true);
  expect(existsSync(join(at.folder, "own.sock"))).toBe(false);
});

test("an event stream ends with the token that opened it, and others go on", async () => {
  const url = await startTcp();
  const open = async (token: string) => {
    const headers = { authorization: `Bearer ${token}` };
    const response = await fetch(`${url}/events`, { headers });
    expect(response.status).toBe(200);
    const reader = response.body!.getReader();
    await reader.read();
    return reader;
  };
  const [read, admin] = [await open("read-secret"), await open("admin-secret")];
  at.rig.tokens.end("read-secret");
  await expect(read.read()).rejects.toThrow();
  at.rig.node.emit({ family: "peer", type: "peer.up", at: "2026-01-01T00:00:00.000Z", data: {} });
  const { value } = await admin.read();
  expect(Buffer.from(value).toString()).toContain("peer.up");
  await admin.cancel();
  expect((await fetch(`${url}/events`, { headers: { authorization: "Bearer read-secret" } })).status).toBe(
    401,
  );
});

test("what is being answered when its token ends is answered, and the connection ends with it", async () => {
  const url = await startTcp();
  // As one that revokes itself does.
  const { revoke } = at.rig.tokens;
  at.rig.tokens.revoke = async (id) => {
    at.rig.tokens.end("admin-secret");
    return await revoke(id);
  };
  const said = "DELETE /tokens/t1 HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer admin-secret\r\n\r\n";
  const heard = await talk(url, said + said);
  expect(heard.match(/HTTP\/1\.1 \d+/g)).toEqual(["HTTP/1.1 204"]);
});

test("a 16 MiB body arrives whole, in chunks and by length; one byte more is refused", async () => {
  const url = await startTcp();
  const authorization = "Bearer send-secret";
  const full = new Uint8Array(16 * 1024 * 1024).fill(7);
  const post = (body: Uint8Array<ArrayBuffer> | ReadableStream<Uint8Array>) =>
    fetch(`${url}/messages?to=DUN`, { method: "POST", body, headers: { authorization } });
  expect((await post(full)).status).toBe(202);
  const chunked = new Blob([full]).stream() as ReadableStream<Uint8Array>;
  expect((await post(chunked)).status).toBe(202);
  expect(at.rig.node.sent.map((sent) => sent.body.length)).toEqual([full.length, full.length]);
  expect((await post(new Uint8Array(full.length + 1))).status).toBe(413);
});

test("one connection carries many requests, pipelined too; HEAD has no body", async () => {
  const url = await startTcp();
  const one = (method: string, more = "") => `${method} /health HTTP/1.1\r\nHost: localhost\r\n${more}\r\n`;
  const heard = await talk(url, one("GET") + one("HEAD") + one("GET", "Connection: close\r\n"));
  expect(heard.match(/HTTP\/1\.1 200 /g)).toHaveLength(3);
  expect(heard.match(/"checks":/g)).toHaveLength(2);
});

test("a health check in HTTP/1.0 without Host, as load balancers send it, is answered", async () => {
  const url = await startTcp();
  const heard = await talk(url, "GET /health HTTP/1.0\r\n\r\n");
  expect(heard).toStartWith("HTTP/1.1 200 ");
  expect(heard).toContain('"checks":');
});

test("two POSTs in one write are both taken and answered", async () => {
  const url = await startTcp();
  const post = (more = "") =>
    `POST /messages?to=DUN-A HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer send-secret\r\nContent-Length: 2\r\n${more}\r\nhi`;
  const heard = await talk(url, post() + post("Connection: close\r\n"));
  expect(heard.match(/HTTP\/1\.1 202 /g)).toHaveLength(2);
});

test("what is no HTTP, or not for an API, is turned away and harms nobody", async () => {
  const url = await startTcp();
  await talk(url, "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n");
  await talk(url, "GARBAGE\r\n\r\n");
  expect(await talk(url, "GET http://elsewhere/ HTTP/1.1\r\nHost: x\r\n\r\n")).toStartWith("HTTP/1.1 400 ");
  expect(await talk(url, "GET /health HTTP/1.1\r\n\r\n")).toStartWith("HTTP/1.1 400 ");
  await talk(url, `GET / HTTP/1.1\r\nHost: x\r\nX: ${"a".repeat(200_000)}\r\n\r\n`);
  await talk(url, "POST /messages HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\nabc", (socket) =>
    socket.end(),
  );
  expect((await fetch(`${url}/health`)).status).toBe(200);
});

test("events flow, and end when either side does", async () => {
  const url = await startTcp();
  const authorization = "Bearer read-secret";
  const leaving = new AbortController();
  const first = await fetch(`${url}/events`, { headers: { authorization }, signal: leaving.signal });
  const reader = first.body!.getReader();
  expect(new TextDecoder().decode((await reader.read()).value)).toContain(": godwit events");
  expect(at.rig.node.subscribers).toBe(1);
  leaving.abort();
  await until(() => at.rig.node.subscribers === 0);
  const second = await fetch(`${url}/events`, { headers: { authorization } });
  const rest = second.text();
  await until(() => at.rig.node.subscribers === 1);
  await at.scope.close();
  expect(await rest).toContain(": godwit events");
});

test("a silent connection is cut; an idle one does not hold up a stop, a request in progress does, for its time", async () => {
  const listener = inspect(libc, listenTcp());
  if (listener.kind !== "tcp") throw new Error("no TCP");
  const url = `http://127.0.0.1:${listener.port}`;
  const options = { ...parts(), hosts: new Set<string>() };
  const server = new HttpServer(listener, { ...options, idleMs: 100 });
  expect(await talk(url, "")).toBe("");
  // Its answer is there, and it stays connected: idle, not in progress.
  expect((await fetch(`${url}/health`)).status).toBe(200);
  const authorization = "Bearer read-secret";
  const events = await fetch(`${url}/events`, { headers: { authorization } });
  const reader = events.body!.getReader();
  await reader.read();
  const startedMs = performance.now();
  await server.stop(200);
  expect(performance.now() - startedMs).toBeGreaterThanOrEqual(190);
  // Cut, or ended: it does not wait for ever.
  await reader.read().catch(() => {});
  await expect(fetch(`${url}/health`)).rejects.toThrow();
});

test("whoever connected just before a stop is still heard; whoever says nothing does not hold it up", async () => {
  const listener = inspect(libc, listenTcp());
  if (listener.kind !== "tcp") throw new Error("no TCP");
  const options = { ...parts(), hosts: new Set<string>(), idleMs: 60_000 };
  const server = new HttpServer(listener, options);
  const url = `http://127.0.0.1:${listener.port}`;
  let speak = () => {};
  const connected = Promise.withResolvers<void>();
  const late = talk(url, "", (socket) => {
    speak = () => void socket.write("GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n");
    connected.resolve();
  });
  const silent = talk(url, "");
  await connected.promise;
  // Accepted for certain: a later one was answered.
  expect((await fetch(`${url}/health`, { headers: { connection: "close" } })).status).toBe(200);
  const startedMs = performance.now();
  const stopped = server.stop(60_000);
  speak();
  expect(await late).toContain('"checks":');
  expect(await silent).toBe("");
  await stopped;
  expect(performance.now() - startedMs).toBeLessThan(10 * FRESH_GRACE_MS);
});

test("a descriptor that cannot be used is said, and nothing else stays open", async () => {
  const bad = at.start({ passed: [{ fd: 9_999, kind: "tcp", host: "127.0.0.1", port: 1 }] });
  await expect(bad).rejects.toThrow(/descriptor 9999 that the service manager passed/);
  await bad.catch(() => {});
  expect(existsSync(join(at.folder, "own.sock"))).toBe(false);
});

async function until(check: () => boolean): Promise<void> {
  for (const endMs = performance.now() + 5_000; !check(); await Bun.sleep(5))
    if (performance.now() > endMs) throw new Error("it did not come to that");
}

/** Connections that say `text`, or nothing, once the server has accepted them all. */
async function crowd(port: number, count: number, text = ""): Promise<Socket[]> {
  const sockets = await Promise.all(
    Array.from(
      { length: count },
      () =>
        new Promise<Socket>((resolve) => {
          const socket = connect(port, "127.0.0.1", () => resolve(socket));
          socket.on("error", () => socket.destroy());
          if (text !== "") socket.write(text);
        }),
    ),
  );
  return sockets;
}

test("a crowd that says nothing, or half a request, keeps nobody out: its oldest go", async () => {
  const { addresses } = await at.start({ passed: [] });
  const url = `http://${addresses[0]}`;
  const port = Number(new URL(url).port);
  for (const text of ["", "GET /health HTTP/1.1\r\nHost: "]) {
    const silent = await crowd(port, CONNECTIONS_PER_SOURCE_MAX + 50, text);
    expect((await fetch(`${url}/health`, { headers: { connection: "close" } })).status).toBe(200);
    await until(() => silent.filter(({ destroyed }) => destroyed).length >= 50);
    for (const socket of silent) socket.destroy();
  }
});

test("a body behind a request that is being answered is not taken into memory as fast as it comes", async () => {
  const url = new URL(await startTcp());
  const megabyte = Buffer.alloc(2 ** 20, 97);
  const socket = connect(Number(url.port), url.hostname);
  socket.on("error", () => {});
  const answered = new Promise<void>((resolve) => socket.once("data", () => resolve()));
  // A wrong token waits for its answer.
  socket.write("GET /mesh/status HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer wrong\r\n\r\n");
  socket.write(`POST /messages HTTP/1.1\r\nHost: localhost\r\nContent-Length: ${2 ** 40}\r\n\r\n`);
  for (let n = 0; n < 64; n++) socket.write(megabyte);
  await answered;
  // The kernel holds some megabytes.
  expect(socket.writableLength).toBeGreaterThan(32 * 2 ** 20);
  socket.destroy();
});

test("what never ends is sent as it comes, whatever way its path takes there", async () => {
  const app = {
    fetch: (request: Request) => {
      expect(new URL(request.url).pathname).toBe("/x/board/news");
      const pull = (to: ReadableStreamDefaultController<Uint8Array>) =>
        Bun.sleep(10).then(() => to.enqueue(Buffer.from("news")));
      return Promise.resolve(new Response(new ReadableStream({ pull })));
    },
  } as unknown as typeof at.rig.app;
  const server = new HttpServer(
    { kind: "tcp", host: "127.0.0.1", port: 0 },
    { ...parts(), app, idleMs: 5_000, hosts: new Set() },
  );
  await server.opened();
  const paths = ["/x/board/news", "/a/../x/board/news", "/%2e%2e/x/board/news", "/a\\..\\x/board/news"];
  for (const path of paths) {
    const socket = connect(server.port, "127.0.0.1");
    const cut = setTimeout(() => socket.destroy(), 2_000);
    let heard = "";
    socket.on("data", (bytes) => {
      heard += bytes.toString("latin1");
      if (heard.includes("news")) socket.destroy();
    });
    socket.write(`GET ${path} HTTP/1.1\r\nHost: localhost\r\n\r\n`);
    await new Promise((resolve) => socket.once("close", resolve));
    clearTimeout(cut);
    expect([path, heard.includes("news")]).toEqual([path, true]);
  }
  await server.stop(0);
});

test("a crowd that asks for what takes long to make holds up neither health nor timers", async () => {
  const made: string[] = [];
  const app = {
    fetch: (request: Request) => {
      const { pathname } = new URL(request.url);
      made.push(pathname);
      if (pathname === "/slow") for (const endMs = performance.now() + 10; performance.now() < endMs;);
      return Promise.resolve(new Response("x"));
    },
  } as unknown as typeof at.rig.app;
  const server = new HttpServer(
    { kind: "tcp", host: "127.0.0.1", port: 0 },
    { ...parts(), app, idleMs: 5_000, hosts: new Set() },
  );
  await server.opened();
  const open = () =>
    new Promise<Socket>((resolve) => {
      const socket = connect(server.port, "127.0.0.1", () => resolve(socket));
      socket.on("error", () => {});
    });
  const sockets = await Promise.all(Array.from({ length: 100 }, open));
  const other = await open();
  const answered = new Promise<void>((resolve) => other.once("data", () => resolve()));
  for (const socket of sockets) socket.write("GET /slow HTTP/1.1\r\nHost: x\r\n\r\n".repeat(2));
  while (!made.includes("/slow")) await new Promise((resolve) => setImmediate(resolve));
  other.write("GET /health HTTP/1.1\r\nHost: x\r\n\r\n");
  let between = 0;
  for (let last = made.length; !made.includes("/health"); last = made.length) {
    await new Promise((resolve) => setImmediate(resolve));
    between = Math.max(between, made.length - last);
  }
  await answered;
  expect(between).toBeLessThan(5);
  expect(made.indexOf("/health")).toBeLessThan(50);
  for (const socket of [...sockets, other]) socket.destroy();
  await server.stop(0);
});

test("what one connection pipelines waits its turn: others are answered between", async () => {
  const { addresses } = await at.start({ passed: [] });
  const url = `http://${addresses[0]}`;
  const asked = 3_000;
  let answers = 0;
  const [greedy, other] = await crowd(Number(new URL(url).port), 2);
  greedy!.on("data", (bytes) => (answers += bytes.toString("latin1").split("HTTP/1.1 200").length - 1));
  greedy!.write("GET /mesh/status HTTP/1.1\r\nHost: localhost\r\n\r\n".repeat(asked));
  await until(() => answers > 0);
  for (let i = 0; i < 5; i++) {
    const before = answers;
    const answered = new Promise<string>((resolve) =>
      other!.once("data", (bytes) => resolve(bytes.toString("latin1"))),
    );
    other!.write("GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n");
    expect(await answered).toStartWith("HTTP/1.1 200");
    expect(answers - before).toBeLessThan(asked / 10);
  }
  await until(() => answers >= asked);
  for (const socket of [greedy!, other!]) socket.destroy();
});

test("HTTP/1.0 without a Host is answered, and two bodies in one write are two messages", async () => {
  const { addresses } = await at.start({ passed: [] });
  const url = `http://${addresses[0]}`;
  expect(await talk(url, "GET /health HTTP/1.0\r\n\r\n")).toStartWith("HTTP/1.1 200 ");
  const post = (more: string) =>
    `POST /messages?to=DUN HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer send-secret\r\nContent-Length: 2\r\n${more}\r\nhi`;
  const heard = await talk(url, post("") + post("Connection: close\r\n"));
  expect(heard.match(/HTTP\/1\.1 202 /g)).toHaveLength(2);
  expect(at.rig.node.sent).toHaveLength(2);
});

test("who says no more and still listens is answered before the connection goes", async () => {
  const { addresses } = await at.start({ passed: [] });
  const url = `http://${addresses[0]}`;
  const ask =
    "POST /messages?to=DUN HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer send-secret\r\nContent-Length: 2\r\n\r\nhi";
  const heard = await new Promise<string>((resolve) => {
    let all = "";
    const socket = connect({ port: Number(new URL(url).port), host: "127.0.0.1", allowHalfOpen: true });
    socket.on("data", (bytes) => (all += bytes.toString("latin1")));
    socket.on("end", () => (socket.destroy(), resolve(all)));
    socket.on("error", () => resolve(all));
    socket.end(ask + ask);
  });
  expect(heard.match(/HTTP\/1\.1 202 /g)).toHaveLength(2);
});

test("a body is whole however it comes, and one that nobody reads is not taken for the next request", async () => {
  const { addresses } = await at.start({ passed: [] });
  const url = `http://${addresses[0]}`;
  const head = (path: string, length: number, more = "") =>
    `POST ${path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: ${length}\r\n${more}\r\n`;
  const token = "Authorization: Bearer send-secret\r\n";
  const bodies = [0, 1, 1_900, 2_048, 16_384, 16_385, 40_000].map((length, i) =>
    String.fromCharCode(97 + i).repeat(length),
  );
  const all = bodies.map((body) => head("/messages?to=DUN", body.length, token) + body);
  // Nobody may send this, and what is in it must not be heard.
  const refused = head("/messages?to=DUN", all[1]!.length) + all[1]!;
  const text = `${refused}${all.join(refused)}GET /health HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n`;
  const heard = await talk(url, text);
  expect(heard.match(/HTTP\/1\.1 \d+/g)!.map((line) => Number(line.slice(9)))).toEqual([
    ...bodies.flatMap(() => [401, 202]),
    200,
  ]);
  expect(at.rig.node.sent.map(({ body }) => Buffer.from(body).toString())).toEqual(bodies);
  // Head and body in pieces of their own.
  const slow = await talk(url, all[3]!.slice(0, 150), (socket) => {
    setImmediate(() => {
      socket.write(all[3]!.slice(150, 1_000));
      setImmediate(() => socket.end(all[3]!.slice(1_000)));
    });
  });
  expect(slow).toStartWith("HTTP/1.1 202 ");
  expect(Buffer.from(at.rig.node.sent.at(-1)!.body).toString()).toBe(bodies[3]!);
});

const POST_HI = (more: string) =>
  `POST /messages?to=DUN HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2\r\n${more}\r\n`;
const TOKEN = "Authorization: Bearer send-secret\r\n";

test("whoever waits to be told to send a body is told when it is wanted, and not when it is refused", async () => {
  const url = await startTcp();
  const expecting = "Expect: 100-continue\r\n";
  const taken = await talk(url, POST_HI(TOKEN + expecting), (socket) =>
    socket.once("data", (first: Buffer) => {
      expect(first.toString()).toBe("HTTP/1.1 100 Continue\r\n\r\n");
      socket.end("hi");
    }),
  );
  expect(taken.match(/HTTP\/1\.1 \d+/g)).toEqual(["HTTP/1.1 100", "HTTP/1.1 202"]);
  expect(at.rig.node.sent.map(({ body }) => Buffer.from(body).toString())).toEqual(["hi"]);
  // Whether its body comes nobody knows, so that nothing behind it is taken for a request.
  const refused = await talk(url, POST_HI(expecting));
  expect(refused.match(/HTTP\/1\.1 \d+/g)).toEqual(["HTTP/1.1 401"]);
  expect(refused.toLowerCase()).toContain("\r\nconnection: close\r\n");
  // It did not wait.
  const sent = await talk(
    url,
    `${POST_HI(TOKEN + expecting)}hi${POST_HI(`${TOKEN}Connection: close\r\n`)}hi`,
  );
  expect(sent.match(/HTTP\/1\.1 \d+/g)).toEqual(["HTTP/1.1 202", "HTTP/1.1 202"]);
  expect(await talk(url, POST_HI(`${TOKEN}Expect: cake\r\n`))).toStartWith("HTTP/1.1 417 ");
});

test("what was asked before what was no HTTP is answered before that is said", async () => {
  const url = await startTcp();
  const get = "GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n";
  const heard = await talk(url, `${get}${get}GARBAGE\r\n\r\n${get}`);
  expect(heard.match(/HTTP\/1\.1 \d+/g)).toEqual(["HTTP/1.1 200", "HTTP/1.1 200", "HTTP/1.1 400"]);
  expect(await talk(url, "CONNECT localhost:80 HTTP/1.1\r\nHost: localhost\r\n\r\n")).toStartWith(
    "HTTP/1.1 400 ",
  );
});

test("a body that breaks off is one bad request, answered once", async () => {
  const url = await startTcp();
  const post = `POST /messages?to=DUN HTTP/1.1\r\nHost: localhost\r\n${TOKEN}`;
  const heard = await new Promise<string>((resolve) => {
    let all = "";
    const socket = connect({ port: Number(new URL(url).port), host: "127.0.0.1", allowHalfOpen: true });
    socket.on("data", (bytes) => (all += bytes.toString("latin1")));
    socket.on("end", () => (socket.destroy(), resolve(all)));
    socket.on("error", () => resolve(all));
    socket.end(`${post}Content-Length: 100\r\n\r\nabc`);
  });
  expect(heard.match(/HTTP\/1\.1 \d+/g)).toEqual(["HTTP/1.1 400"]);
  expect(heard).toContain("the request body broke off");
  const broken = await talk(url, `${post}Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\nzz\r\n`);
  expect(broken.match(/HTTP\/1\.1 \d+/g)).toEqual(["HTTP/1.1 400"]);
  expect(at.rig.node.sent).toHaveLength(0);
});

test("HTTP/1.0 hears of no chunks: what never ends goes on to the end of the connection", async () => {
  const url = await startTcp();
  const kept = "GET /health HTTP/1.0\r\nConnection: keep-alive\r\n\r\n";
  const heard = await talk(url, `${kept}GET /health HTTP/1.0\r\n\r\n`);
  expect(heard.toLowerCase().match(/\r\nconnection: [a-z-]+/g)).toEqual([
    "\r\nconnection: keep-alive",
    "\r\nconnection: close",
  ]);
  let stream = "";
  const events = `GET /events HTTP/1.0\r\nConnection: keep-alive\r\nAuthorization: Bearer read-secret\r\n\r\n`;
  const ended = talk(url, events, (socket) => socket.on("data", (bytes) => (stream += bytes.toString())));
  await until(() => stream.includes(": godwit events"));
  expect(stream.toLowerCase()).not.toContain("transfer-encoding");
  expect(stream.toLowerCase()).toContain("\r\nconnection: close\r\n");
  await at.scope.close();
  expect(await ended).toContain("\r\n\r\nretry: 2000\n: godwit events");
});

test("HEAD is told what GET is, but for the body, and every answer has its date", async () => {
  const url = await startTcp();
  const ask = (method: string, path: string) =>
    talk(url, `${method} ${path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n`);
  for (const path of ["/health", "/mesh/status", "/nowhere"]) {
    const [get, head] = [await ask("GET", path), await ask("HEAD", path)];
    const linesOf = (answer: string) =>
      answer
        .slice(0, answer.indexOf("\r\n\r\n"))
        .split("\r\n")
        .filter((line) => !/^(?:date|content-length):/.test(line));
    expect(linesOf(head)).toEqual(linesOf(get));
    expect(head).toEndWith("\r\n\r\n");
    expect(get).toMatch(/\r\ndate: \w{3}, \d\d \w{3} \d{4} \d\d:\d\d:\d\d GMT\r\n/);
  }
});

test("how an answer is framed is not for its headers to say", async () => {
  const lies = {
    "content-length": "1",
    "transfer-encoding": "chunked",
    connection: "close",
    "x-kept": "yes",
  };
  const app = {
    fetch: () => Promise.resolve(new Response("whole", { headers: lies })),
  } as unknown as typeof at.rig.app;
  const server = new HttpServer(
    { kind: "tcp", host: "127.0.0.1", port: 0 },
    { ...parts(), app, idleMs: 5_000, hosts: new Set() },
  );
  await server.opened();
  const get = (more: string) => `GET /a HTTP/1.1\r\nHost: x\r\n${more}\r\n`;
  const heard = await talk(`http://127.0.0.1:${server.port}`, get("") + get("Connection: close\r\n"));
  expect(heard.split("\r\n\r\n").map((part) => part.replace(/HTTP[^]*/, ""))).toEqual(["", "whole", "whole"]);
  expect(heard.match(/^[a-z-]+: .*$/gm)!.filter((line) => !line.startsWith("date"))).toEqual([
    ...["x-kept: yes", "content-length: 5", "connection: close", "x-kept: yes", "content-length: 5"],
  ]);
  await server.stop(0);
});

test("whoever was told that the connection ends is not heard any more", async () => {
  const url = await startTcp();
  const refused = `POST /messages?to=DUN HTTP/1.1\r\nHost: localhost\r\n${TOKEN}Expect: cake\r\nContent-Length: 0\r\n\r\n`;
  let heard = "";
  const socket = connect({ port: Number(new URL(url).port), host: "127.0.0.1", allowHalfOpen: true });
  socket.on("data", (bytes) => (heard += bytes.toString("latin1")));
  socket.write(refused);
  await new Promise<void>((resolve) => socket.once("end", resolve));
  await new Promise<void>((resolve) => socket.write(`${POST_HI(TOKEN)}hi`, () => resolve()));
  // What came behind it has come as well.
  for (let n = 0; n < 3; n++)
    expect((await fetch(`${url}/health`, { headers: { connection: "close" } })).status).toBe(200);
  expect(heard.match(/HTTP\/1\.1 \d+/g)).toEqual(["HTTP/1.1 417"]);
  expect(at.rig.node.sent).toHaveLength(0);
  socket.destroy();
});

/** A server whose time the test makes, and whoever is connected to it. */
async function clocked() {
  const clock = new ManualClock();
  const places = newPlaces();
  const app = { fetch: () => new Promise<Response>(() => {}) } as unknown as ConstructorParameters<
    typeof HttpServer
  >[1]["app"];
  const server = new HttpServer(
    { kind: "tcp", host: "127.0.0.1", port: 0 },
    { ...{ app, clock, places }, refused() {}, idleMs: 60_000, hosts: new Set() },
  );
  await server.opened();
  const dial = () => {
    const socket = connect(server.port, "127.0.0.1");
    const seen = { socket, isGone: false };
    socket.on("error", () => {});
    socket.on("close", () => void (seen.isGone = true));
    socket.resume();
    return seen;
  };
  return { clock, places, server, dial };
}

test("a connection that asks for nothing is cut after ten seconds, and leaves its place", async () => {
  const { clock, places, server, dial } = await clocked();
  const silent = dial();
  const half = dial();
  half.socket.write("GET /health HTTP/1.1\r\nHos");
  await until(() => places.count === 2);
  // What was said has come.
  for (let turn = 0; turn < 20; turn++) await new Promise<void>((resolve) => setImmediate(resolve));
  await clock.advance(9_999);
  expect([silent.isGone, half.isGone]).toEqual([false, false]);
  await clock.advance(1);
  await until(() => silent.isGone && half.isGone);
  await until(() => places.count === 0);
  const stopping = server.stop(0);
  await clock.advance(1);
  await stopping;
});

const one = "GET /nothing HTTP/1.1\r\nHost: localhost\r\n\r\n";
const bytes = 2 ** 25;
test.each([
  ["requests", one.repeat(bytes / one.length)],
  [
    "a body",
    `${one}POST /messages HTTP/1.1\r\nHost: localhost\r\nContent-Length: ${bytes}\r\n\r\n${"x".repeat(bytes)}`,
  ],
])(
  "what a connection says behind what is not answered waits in its kernel, beyond a little: %s",
  async (_name, words) => {
    const { clock, server, dial, places } = await clocked();
    const { socket } = dial();
    socket.write(words);
    await until(() => places.count === 1);
    let before = -1;
    for (let idle = 0; idle < 50; idle = socket.writableLength === before ? idle + 1 : 0) {
      before = socket.writableLength;
      await new Promise<void>((resolve) => setTimeout(resolve, 1));
    }
    // The kernel holds some megabytes.
    expect(socket.writableLength).toBeGreaterThan(bytes / 2);
    socket.destroy();
    const stopping = server.stop(0);
    await clock.advance(1);
    await stopping;
  },
);
