import { afterAll, afterEach, beforeAll, describe, expect, test } from "bun:test";
import { generateKeyPairSync, sign } from "node:crypto";
import { appendFile, mkdtemp, rename, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { FakeStorage, ManualClock, TestHost } from "@godwit/sdk/testkit";
import plugin from "./index.ts";
import { NameServer } from "./testing.ts";

const cleanups: (() => void | Promise<void>)[] = [];
afterEach(async () => {
  for (const cleanup of cleanups.splice(0).reverse()) await cleanup();
});

async function start(options: unknown, storage = new FakeStorage()): Promise<TestHost> {
  const host = new TestHost(plugin, { storage, clock: new ManualClock(1_800_000_000_000) });
  cleanups.push(() => host.stop());
  await host.start(options);
  return host;
}

/** Real sockets and files, virtual time: each look moves the clock by a little. */
async function until(host: TestHost, what: string, isTrue: () => boolean, stepMs = 0): Promise<void> {
  const endMs = performance.now() + 8_000;
  while (!isTrue()) {
    if (performance.now() > endMs)
      throw new Error(
        `waited for ${what}; hints ${[...host.hints.keys()].join()}, health ${JSON.stringify(host.health.at(-1))}`,
      );
    await new Promise((resolve) => setImmediate(resolve));
    if (stepMs > 0) host.clock.advance(stepMs);
  }
}

const hinted = (host: TestHost) => [...host.hints.keys()].sort();

describe("the DNS", () => {
  async function server(): Promise<NameServer> {
    const names = await new NameServer().listen();
    cleanups.push(() => names.close());
    return names;
  }

  test("host names of peers are asked for again when the answer runs out; a dead DNS changes nothing", async () => {
    const names = await server();
    names.set("A", "a.example.org", 60, "192.0.2.1");
    const host = await start({
      peers: ["tcp://a.example.org:4860"],
      dns_servers: [`127.0.0.1:${names.port}`],
    });
    await until(host, "the first answer", () => host.hints.has("tcp://192.0.2.1:4860"));
    expect(host.hints.get("tcp://a.example.org:4860")).toEqual({
      endpoint: "tcp://a.example.org:4860",
      permanent: true,
    });
    names.set("A", "a.example.org", 60, "192.0.2.2");
    names.set("AAAA", "a.example.org", 60, "2001:db8::2");
    const asked = names.asked.length;
    host.clock.advance(59_000);
    await new Promise((resolve) => setImmediate(resolve));
    expect(names.asked.length).toBe(asked);
    host.clock.advance(1_001);
    await until(host, "the second answer", () => host.hints.has("tcp://192.0.2.2:4860"));
    expect(hinted(host)).toEqual([
      "tcp://192.0.2.2:4860",
      "tcp://[2001:db8::2]:4860",
      "tcp://a.example.org:4860",
    ]);
    names.isSilent = true;
    await until(host, "the trouble", () => host.logs.some(({ event }) => event === "name not resolved"), 500);
    expect(host.hints.has("tcp://192.0.2.2:4860")).toBe(true);
    // The name may stand in a hosts file, where there is no DNS at all.
    expect(host.health).toEqual([]);
  });

  test("names with their final dot are resolved like those without, and an onion name is asked of nobody", async () => {
    const names = await server();
    names.set("TXT", "mesh.example.org", 60, ["tcp://192.0.2.7:4860"]);
    names.set("A", "a.example.org", 60, "192.0.2.8");
    const onion = `tcp://${"a".repeat(56)}.onion.:1`;
    const host = await start({
      dns: ["mesh.example.org."],
      peers: ["tcp://a.example.org.:4860", onion],
      dns_servers: [`127.0.0.1:${names.port}`],
    });
    await until(
      host,
      "both answers",
      () => host.hints.has("tcp://192.0.2.7:4860") && host.hints.has("tcp://192.0.2.8:4860"),
    );
    expect(names.asked.filter((line) => line.includes("onion"))).toEqual([]);
  });

  test("a mesh's name that no server answers for is said, until one does", async () => {
    const names = await server();
    names.set("TXT", "mesh.example.org", 60, ["tcp://192.0.2.7:4860"]);
    const host = await start({ dns: ["mesh.example.org"], dns_servers: [`127.0.0.1:${names.port}`] });
    await until(host, "the answer", () => host.hints.size === 1);
    names.isSilent = true;
    await until(host, "the trouble", () => host.health.at(-1)?.state === "degraded", 500);
    expect(host.hints.size).toBe(1);
    names.isSilent = false;
    await until(host, "the recovery", () => host.health.at(-1)?.state === "running", 500);
  });

  test("a time to live of nothing or of a year is bounded", async () => {
    const names = await server();
    names.set("A", "zero.example.org", 0, "192.0.2.1");
    names.set("A", "year.example.org", 31_536_000, "192.0.2.2");
    const host = await start({
      peers: ["tcp://zero.example.org:1", "tcp://year.example.org:1"],
      dns_servers: [`127.0.0.1:${names.port}`],
    });
    const count = (name: string) => names.asked.filter((line) => line === `A ${name}`).length;
    await until(host, "both", () => host.hints.size === 4);
    host.clock.advance(29_000);
    expect(count("zero.example.org")).toBe(1);
    host.clock.advance(1_001);
    await until(host, "a second question", () => count("zero.example.org") === 2);
    expect(count("year.example.org")).toBe(1);
    host.clock.advance(3_600_000);
    await until(host, "a question for the year", () => count("year.example.org") === 2);
  });

  test("SRV and TXT stand for a mesh; a cut answer is fetched over TCP", async () => {
    const names = await server();
    names.isCutting = true;
    const id = `${"b".repeat(51)}q`;
    names.set("SRV", "_godwit._tcp.example.org", 300, {
      priority: 1,
      weight: 0,
      port: 4861,
      target: "n.example.org",
    });
    names.set("A", "n.example.org", 300, "192.0.2.9");
    names.set("TXT", "_godwit._tcp.example.org", 300, [`tcp://192.0.2.7:4860#${id}`], ["v=spf1 -all"]);
    const host = await start({ dns: ["_godwit._tcp.example.org"], dns_servers: [`127.0.0.1:${names.port}`] });
    await until(host, "both", () => host.hints.size === 2);
    expect(hinted(host)).toEqual(["tcp://192.0.2.7:4860", "tcp://192.0.2.9:4861"]);
    expect(host.hints.get("tcp://192.0.2.7:4860")).toEqual({ endpoint: "tcp://192.0.2.7:4860", nodeId: id });
  });
});

describe("a file", () => {
  async function folder(): Promise<string> {
    const dir = await mkdtemp(join(tmpdir(), "godwit-static-"));
    cleanups.push(() => rm(dir, { recursive: true }));
    return dir;
  }

  test("appears, changes, goes: what it said last stands, comments do not count", async () => {
    const path = join(await folder(), "peers");
    const host = await start({ file: path });
    await until(host, "the trouble", () => host.health.at(-1)?.state === "degraded", 100);
    await writeFile(path, "# ours\ntcp://192.0.2.1:1   # the mast\n\ntcp://192.0.2.2:1\n");
    await until(host, "its content", () => host.hints.size === 2, 100);
    expect(host.hints.get("tcp://192.0.2.1:1")).toEqual({ endpoint: "tcp://192.0.2.1:1", permanent: true });
    await writeFile(`${path}.new`, "tcp://192.0.2.2:1\nnonsense\n");
    await rename(`${path}.new`, path);
    await until(host, "the change", () => host.hints.size === 1, 100);
    expect(host.health.at(-1)?.reason).toContain('line 2: "nonsense"');
    await rm(path);
    await until(host, "the loss", () => host.health.at(-1)?.reason?.includes("ENOENT") === true, 100);
    expect(hinted(host)).toEqual(["tcp://192.0.2.2:1"]);
  });

  test("half a file is not read", async () => {
    const path = join(await folder(), "peers");
    await writeFile(path, "tcp://192.0.2.1:48");
    const host = await start({ file: path });
    // The settling time has not passed when the writer goes on.
    for (let round = 0; round < 200; round++) await new Promise((resolve) => setImmediate(resolve));
    host.clock.advance(400);
    for (let round = 0; round < 200; round++) await new Promise((resolve) => setImmediate(resolve));
    await appendFile(path, "60\n");
    await until(host, "its content", () => host.hints.size > 0, 100);
    expect(host.hintCalls.map(({ endpoint }) => endpoint)).toEqual(["tcp://192.0.2.1:4860"]);
  });
});

test("the environment", async () => {
  process.env["STATIC_TEST_PEERS"] = "tcp://192.0.2.1:1, tcp://192.0.2.2:1 what";
  cleanups.push(() => void delete process.env["STATIC_TEST_PEERS"]);
  const host = await start({ env: "STATIC_TEST_PEERS" });
  expect(hinted(host)).toEqual(["tcp://192.0.2.1:1", "tcp://192.0.2.2:1"]);
  expect(host.health.at(-1)?.reason).toContain('"what" is no endpoint');
});

describe("a signed list over HTTPS", () => {
  const { publicKey, privateKey } = generateKeyPairSync("ed25519");
  const raw = Buffer.from(publicKey.export({ format: "jwk" }).x!, "base64url");
  const key = base32(raw);
  let dir = "";

  beforeAll(async () => {
    dir = await mkdtemp(join(tmpdir(), "godwit-list-"));
    const made = Bun.spawnSync([
      ...["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"],
      ...["-days", "2", "-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"],
      ...["-keyout", join(dir, "key.pem"), "-out", join(dir, "cert.pem")],
    ]);
    expect(made.exitCode).toBe(0);
  });
  afterAll(() => rm(dir, { recursive: true, force: true }));

  function base32(bytes: Uint8Array): string {
    const bits = [...bytes]
      .map((byte) => byte.toString(2).padStart(8, "0"))
      .join("")
      .padEnd(260, "0");
    return bits.replace(/.{5}/g, (five) =>
      "abcdefghijklmnopqrstuvwxyz234567".charAt(Number.parseInt(five, 2)),
    );
  }

  function signed(sequence: number, peers: string[], expiresAtS = 1_900_000_000, by = privateKey): string {
    const payload = Buffer.from(JSON.stringify({ sequence, expires_at: expiresAtS, peers }));
    const signature = sign(null, Buffer.concat([Buffer.from("godwit peer list 1\0"), payload]), by);
    return JSON.stringify({ payload: payload.toString("base64"), signature: signature.toString("base64") });
  }

  function serve(): { url: string; body: string; requests: number; stop(): void } {
    const state = { url: "", body: "", requests: 0, stop: () => void server.stop(true) };
    const server = Bun.serve({
      port: 0,
      hostname: "127.0.0.1",
      tls: { key: Bun.file(join(dir, "key.pem")), cert: Bun.file(join(dir, "cert.pem")) },
      fetch() {
        state.requests++;
        return new Response(state.body);
      },
    });
    state.url = `https://127.0.0.1:${server.port}/peers.json`;
    cleanups.push(() => server.stop(true));
    return state;
  }

  const listOptions = (url: string, more: object = {}) => ({
    list: { url, key, refresh: "1h", ca: join(dir, "cert.pem"), ...more },
  });
  const HOUR_MS = 3_600_001;

  test("is taken, replaced by a newer one, and kept for a start without the network", async () => {
    const server = serve();
    server.body = signed(1, ["tcp://192.0.2.1:1", "nonsense"]);
    const storage = new FakeStorage();
    const host = await start(listOptions(server.url), storage);
    await until(host, "the first", () => host.hints.has("tcp://192.0.2.1:1"));
    server.body = signed(2, ["tcp://192.0.2.2:1"]);
    host.clock.advance(HOUR_MS);
    await until(host, "the second", () => host.hints.has("tcp://192.0.2.2:1"));
    expect(hinted(host)).toEqual(["tcp://192.0.2.2:1"]);
    await until(host, "it to be kept", () => host.health.length > 0 || server.requests === 2);
    await host.stop();
    server.stop();
    const offline = await start(listOptions(server.url), storage);
    await until(offline, "the kept one", () => offline.hints.has("tcp://192.0.2.2:1"));
    await until(offline, "the trouble", () => offline.health.at(-1)?.state === "degraded");
    expect(hinted(offline)).toEqual(["tcp://192.0.2.2:1"]);
  });

  test.each([
    ["an older one", () => signed(4, ["tcp://203.0.113.1:1"]), "older"],
    ["another under the same number", () => signed(5, ["tcp://203.0.113.1:1"]), "differs"],
    ["one that has expired", () => signed(6, ["tcp://203.0.113.1:1"], 1_700_000_000), "expired"],
    [
      "somebody else's",
      () => signed(6, ["tcp://203.0.113.1:1"], 1_900_000_000, generateKeyPairSync("ed25519").privateKey),
      "not signed",
    ],
    ["a page", () => "<html>", "no signed list"],
    ["one that is too long", () => "x".repeat(300_000), "more than"],
  ])("%s changes nothing", async (_, body, reason) => {
    const server = serve();
    server.body = signed(5, ["tcp://192.0.2.5:1"]);
    const host = await start(listOptions(server.url));
    await until(host, "the good one", () => host.hints.has("tcp://192.0.2.5:1"));
    server.body = body();
    // Its sockets are real: a round for each look until the second answer was judged.
    host.clock.advance(HOUR_MS);
    await until(host, "the refusal", () => host.health.at(-1)?.reason?.includes(reason) === true);
    expect(hinted(host)).toEqual(["tcp://192.0.2.5:1"]);
  });

  test("a server that the certificate does not fit is not believed", async () => {
    const server = serve();
    server.body = signed(1, ["tcp://192.0.2.1:1"]);
    const host = await start({ list: { url: server.url, key } });
    await until(host, "the trouble", () => host.health.at(-1)?.state === "degraded");
    expect(server.requests).toBe(0);
    expect(host.hints.size).toBe(0);
  });
});
