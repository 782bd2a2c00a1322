import { expect, test } from "bun:test";
import { existsSync, mkdirSync, readFileSync, rmSync, statSync, symlinkSync, writeFileSync } from "node:fs";
import { connect, type Socket } from "node:net";
import { join } from "node:path";
import { ManualClock } from "../kernel/clock.ts";
import { Scope } from "../kernel/scope.ts";
import { SOCKET_LOOK_MS } from "./control-socket.ts";
import { STOP_GRACE_MS } from "./server.ts";
import { useServerRig } from "./testing-servers.ts";

const at = useServerRig();

const over = (unix: string, path: string, init: RequestInit = {}) =>
  fetch(`http://localhost${path}`, { unix, ...init } as RequestInit);

test("the unix socket is 0600 and has full authority, TCP asks for a token", async () => {
  const umask = process.umask();
  const { socketPath, addresses } = await at.start();
  expect(process.umask()).toBe(umask);
  expect(statSync(socketPath).mode & 0o777).toBe(0o600);
  expect((await over(socketPath, "/tokens")).status).toBe(200);
  expect(addresses[0]).toMatch(/^127\.0\.0\.1:[1-9]\d+$/);
  const url = `http://${addresses[0]}`;
  expect((await fetch(`${url}/health`)).status).toBe(200);
  expect((await fetch(`${url}/mesh/status`)).status).toBe(200);
  expect((await fetch(`${url}/mesh/status`, { headers: { host: "evil.example" } })).status).toBe(403);
  expect((await fetch(`${url}/tokens`)).status).toBe(401);
  const admin = { headers: { authorization: "Bearer admin-secret" } };
  expect((await fetch(`${url}/tokens`, admin)).status).toBe(200);
});

test("several addresses, IPv6 among them, are all reported as they are", async () => {
  const { addresses } = await at.start({
    listen: [
      { host: "127.0.0.1", port: 0 },
      { host: "::1", port: 0 },
    ],
  });
  expect(addresses[1]).toMatch(/^\[::1\]:\d+$/);
  for (const address of addresses) expect((await fetch(`http://${address}/mesh/peers`)).status).toBe(200);
});

test("a 16 MiB body passes raw and as JSON; one byte more is a problem document", async () => {
  const { addresses } = await at.start();
  const url = `http://${addresses[0]}/messages`;
  const authorization = "Bearer send-secret";
  const full = new Uint8Array(16 * 1024 * 1024).fill(7);
  const raw = await fetch(`${url}?to=DUN`, { method: "POST", body: full, headers: { authorization } });
  expect(raw.status).toBe(202);
  const body = JSON.stringify({ to: "DUN", body_base64: Buffer.from(full).toString("base64") });
  const headers = { authorization, "content-type": "application/json" };
  expect((await fetch(url, { method: "POST", body, headers })).status).toBe(202);
  expect(at.rig.node.sent.map((sent) => sent.body.length)).toEqual([full.length, full.length]);
  const big = new Uint8Array(full.length + 1);
  const refused = await fetch(`${url}?to=DUN`, { method: "POST", body: big, headers: { authorization } });
  expect(refused.status).toBe(413);
  expect(((await refused.json()) as { code: string }).code).toBe("GODWIT_TOO_BIG");
});

test("a stale socket is replaced, a living node's is not, a plain file is left alone", async () => {
  const path = join(at.folder, "godwit.sock");
  const dead = Bun.spawnSync([
    process.execPath,
    "-e",
    `Bun.serve({unix: ${JSON.stringify(path)}, fetch: () => new Response()}); process.kill(process.pid, "SIGKILL")`,
  ]);
  expect(dead.signalCode).toBe("SIGKILL");
  expect(existsSync(path)).toBe(true);
  await at.start({ socketPath: path });
  expect((await over(path, "/health")).status).toBe(200);
  const second = new Scope("second");
  await expect(at.start({ socketPath: path, listen: [] }, second)).rejects.toThrow("another node runs here");
  await second.close();
  expect((await over(path, "/health")).status).toBe(200);
  const file = join(at.folder, "file");
  writeFileSync(file, "precious");
  await expect(at.start({ socketPath: file })).rejects.toThrow("is no socket");
  const link = join(at.folder, "link");
  symlinkSync(file, link);
  await expect(at.start({ socketPath: link })).rejects.toThrow("is no socket");
});

test("a control socket that a cleaner deleted is made anew; streams of before go on, and another's file is left alone", async () => {
  const clock = new ManualClock();
  const socketPath = join(at.folder, "godwit.sock");
  const servers = await at.start({ clock, listen: [], socketPath });
  const events = (await over(socketPath, "/events")).body!.getReader();
  await events.read();
  rmSync(socketPath);
  await clock.advance(SOCKET_LOOK_MS);
  expect(statSync(socketPath).mode & 0o777).toBe(0o600);
  expect((await over(socketPath, "/tokens")).status).toBe(200);
  let isOver = false;
  void events.read().then(({ done }) => (isOver = done));
  await over(socketPath, "/health");
  expect(isOver).toBe(false);
  rmSync(socketPath);
  writeFileSync(socketPath, "somebody's");
  await clock.advance(SOCKET_LOOK_MS);
  expect(readFileSync(socketPath, "utf8")).toBe("somebody's");
  expect(servers.waiting.join()).toContain("not this node's socket");
  rmSync(socketPath);
  await clock.advance(SOCKET_LOOK_MS);
  expect((await over(socketPath, "/health")).status).toBe(200);
});

test("a control socket whose folder is gone is said for as long as it is", async () => {
  const clock = new ManualClock();
  mkdirSync(join(at.folder, "run"));
  const socketPath = join(at.folder, "run/godwit.sock");
  const servers = await at.start({ clock, listen: [], socketPath });
  rmSync(join(at.folder, "run"), { recursive: true });
  await clock.advance(SOCKET_LOOK_MS);
  expect(servers.waiting.join()).toContain("control socket");
  mkdirSync(join(at.folder, "run"));
  await clock.advance(SOCKET_LOOK_MS);
  expect(servers.waiting).toEqual([]);
  expect((await over(socketPath, "/health")).status).toBe(200);
});

test("a path too long for a socket names the key that mends it", async () => {
  await expect(at.start({ socketPath: join(at.folder, "x".repeat(108)) })).rejects.toThrow("api.socket");
});

test("addresses come and go while it runs: those that stay keep who came by them, and whoever is being answered is", async () => {
  const stays = { host: "127.0.0.1", port: 0 };
  const servers = await at.start({ listen: [stays, { host: "127.0.0.2", port: 0 }] });
  const [kept, gone] = servers.addresses as [string, string];
  const headers = { authorization: "Bearer read-secret" };
  const open = async (address: string) => {
    const reader = (await fetch(`http://${address}/events`, { headers })).body!.getReader();
    await reader.read();
    return reader;
  };
  const [staying, going] = [await open(kept), await open(gone)];
  servers.listenOn([{ host: "127.0.0.3", port: 0 }, stays]);
  expect(servers.addresses).toEqual([expect.stringMatching(/^127\.0\.0\.3:\d+$/), kept]);
  expect((await fetch(`http://${servers.addresses[0]!}/health`)).status).toBe(200);
  await expect(fetch(`http://${gone}/health`)).rejects.toThrow();
  at.rig.node.emit({ family: "peer", type: "peer.up", at: "2026-01-01T00:00:00.000Z", data: {} });
  expect(Buffer.from((await staying.read()).value).toString()).toContain("peer.up");
  // A stream ends with the grace that every address gets which goes.
  for (let isOver = false; !isOver;) isOver = (await going.read().catch(() => ({ done: true }))).done;
  await staying.cancel();
  servers.listenOn([]);
  expect([servers.addresses, servers.waiting]).toEqual([[], []]);
  await expect(fetch(`http://${kept}/health`)).rejects.toThrow();
  expect((await over(servers.socketPath, "/tokens")).status).toBe(200);
}, 20_000);

test("an address that is taken or not there yet keeps nobody: it is explained, and opened once it can be", async () => {
  const one = new Scope("one");
  const { addresses } = await at.start({ socketPath: join(at.folder, "one.sock") }, one);
  const port = Number(addresses[0]!.split(":")[1]);
  const clock = new ManualClock();
  const path = join(at.folder, "two.sock");
  const listen = [
    { host: "127.0.0.1", port },
    { host: "192.0.2.77", port: 0 },
    { host: "127.0.0.1", port: 0 },
  ];
  const two = await at.start({ clock, listen, socketPath: path });
  expect((await over(path, "/tokens")).status).toBe(200);
  expect(two.addresses).toHaveLength(1);
  expect(two.waiting[0]).toContain(
    `port ${port} of 127.0.0.1 is taken by this node itself (PID ${process.pid}): end that, or choose another port, like `,
  );
  expect(two.waiting[1]).toContain("192.0.2.77");
  await one.close();
  await clock.advance(2_000);
  expect(two.addresses).toEqual([`127.0.0.1:${port}`, expect.stringMatching(/^127\.0\.0\.1:\d+$/)]);
  expect(two.waiting).toHaveLength(1);
  expect((await fetch(`http://127.0.0.1:${port}/health`)).status).toBe(200);
  // Its own clock: nobody is left to wait for.
  void at.scope.close();
  await clock.advance(STOP_GRACE_MS);
  await at.scope.close();
});

test("stopping ends event streams and idle connections, and removes the socket", async () => {
  const { socketPath, addresses } = await at.start();
  const events = await over(socketPath, "/events");
  const reader = events.body!.getReader();
  await reader.read();
  const idle: Socket = connect(Number(addresses[0]!.split(":")[1]), "127.0.0.1");
  idle.on("error", () => {});
  const closed = new Promise<void>((resolve) => idle.on("close", () => resolve()));
  idle.write("GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n");
  await new Promise((resolve) => idle.once("data", resolve));
  const startedMs = performance.now();
  await at.scope.close();
  expect(performance.now() - startedMs).toBeLessThan(STOP_GRACE_MS);
  await closed;
  const end = await reader.read().catch(() => ({ done: true }));
  expect(end.done).toBe(true);
  expect(existsSync(socketPath)).toBe(false);
  await expect(fetch(`http://${addresses[0]}/health`)).rejects.toThrow();
});

test("a request in progress is answered before the server goes", async () => {
  let answer = () => {};
  const entered = new Promise<void>((resolve) => {
    at.rig.node.onTrace = () =>
      new Promise((done) => {
        answer = done;
        resolve();
      });
  });
  const { socketPath } = await at.start();
  const trace = over(socketPath, "/mesh/trace/NYC-C", { method: "POST" });
  await entered;
  const closing = at.scope.close();
  answer();
  expect((await trace).status).toBe(200);
  await closing;
});

test("a client that leaves ends its event stream", async () => {
  const { socketPath } = await at.start();
  const controller = new AbortController();
  const events = await over(socketPath, "/events", { signal: controller.signal });
  await events.body!.getReader().read();
  expect(at.rig.node.subscribers).toBe(1);
  controller.abort();
  while (at.rig.node.subscribers > 0) await new Promise((resolve) => setImmediate(resolve));
});
