import { afterEach, describe, expect, test } from "bun:test";
import { mkdtempSync, readFileSync, rmSync, statSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { configIssues, FakeHostNetwork, TestHost } from "@godwit/sdk/testkit";
import { complaintOf, pathsIn, renderConfig } from "./child.ts";
import type { Dialect } from "./facts.ts";
import plugin from "./index.ts";
import { FakeDaemon } from "./testing.ts";

const cleanups: (() => unknown)[] = [];
afterEach(async () => {
  for (const cleanup of cleanups.splice(0).reverse()) await cleanup();
});

function newFolder(): string {
  const folder = mkdtempSync(join(tmpdir(), "godwit-ygg-"));
  cleanups.push(() => rmSync(folder, { recursive: true, force: true }));
  return folder;
}

async function fake(dialect: Dialect = "0.4"): Promise<FakeDaemon> {
  const daemon = await new FakeDaemon(dialect).start();
  daemon.peers = [{ remote: "tcp://192.0.2.1:9001", address: "200:1::2", up: true }];
  cleanups.push(() => daemon.stop());
  return daemon;
}

/** The overlay's address is on no interface here, so nothing listens: that is the real daemon's suite. */
async function start(daemon: FakeDaemon, config: object = {}, folder = newFolder()): Promise<TestHost> {
  const host = new TestHost(plugin, { folder, network: new FakeHostNetwork() });
  cleanups.push(() => host.stop());
  await host.start({ admin: daemon.admin, ...config });
  return host;
}

async function until(host: TestHost, isTrue: () => boolean, stepMs = 500): Promise<void> {
  const endMs = performance.now() + 5_000;
  while (!isTrue()) {
    if (performance.now() > endMs)
      throw new Error(`not in time; health ${JSON.stringify(host.health.at(-1))}`);
    host.clock.advance(stepMs);
    await Bun.sleep(2);
  }
}
const reason = (host: TestHost) => host.health.at(-1)?.reason ?? "";

for (const dialect of ["0.4", "0.5"] as const)
  describe(dialect === "0.4" ? "0.4" : "0.5, UNVERIFIED fixtures", () => {
    test("address, subnet, interface, sessions and peers are told", async () => {
      const daemon = await fake(dialect);
      daemon.peers.push({ remote: "tls://192.0.2.9:9001", address: "200:3::4", up: false });
      const host = await start(daemon);
      await until(host, () => host.overlay !== undefined);
      expect(host.overlay).toMatchObject({
        address: daemon.address,
        subnet: "300:c0b:e66c:2422::/64",
        mtu: 53_049,
        sessions: 0,
      });
      const { peers } = host.overlay!;
      expect(peers[0]).toMatchObject({ address: "200:1::2", isUp: true, receivedBytes: 692 });
      expect(peers.filter(({ isUp }) => !isUp)).toHaveLength(dialect === "0.5" ? 1 : 0);
      expect(host.gauges.get("neighbours")).toBe(1);
      expect(host.logs.find(({ event }) => event === "overlay daemon")?.fields["api"]).toBe(dialect);
      expect(reason(host)).toContain("is not on this machine");
    });

    test("peers of ours are added once, those of its operator stay", async () => {
      const daemon = await fake(dialect);
      const [theirs, ours] = ["tcp://192.0.2.1:9001", "tls://192.0.2.2:9001?password=x"];
      daemon.configured.add(theirs);
      daemon.peers.push({ remote: "tls://192.0.2.2:9001", address: "200:3::4", up: true });
      const host = await start(daemon, { peers: [theirs, ours] });
      await until(host, () => daemon.configured.size === 2);
      await until(host, () => daemon.requests.filter(({ request }) => request === "getpeers").length > 5);
      expect(daemon.requests.filter(({ request }) => request === "addpeer")).toHaveLength(2);
      await host.stop();
      expect([...daemon.configured]).toEqual([theirs]);
      expect(Bun.inspect(host.logs, { depth: 9 })).not.toContain("password");
    });
  });

describe("peers", () => {
  test("a node that was killed has left one behind: another life takes it away, or keeps it as its own", async () => {
    const daemon = await fake();
    const folder = newFolder();
    const [a, b] = ["tcp://192.0.2.2:9001", "tcp://192.0.2.3:9001"];
    daemon.peers = [a, b].map((remote) => ({ remote, address: "200:1::2", up: true }));
    const first = await start(daemon, { peers: [a, b] }, folder);
    await until(first, () => daemon.configured.size === 2);
    await until(first, () => readFileSync(join(folder, "added-peers"), "utf8").includes(b));
    expect(statSync(join(folder, "added-peers")).mode & 0o777).toBe(0o600);
    // Killed: nobody removes anything, and its file stays.
    const record = readFileSync(join(folder, "added-peers"), "utf8");
    await first.stop();
    for (const uri of [a, b]) daemon.configured.add(uri);
    await Bun.write(join(folder, "added-peers"), record);
    const second = await start(daemon, { peers: [a] }, folder);
    await until(second, () => daemon.configured.size === 1);
    expect([...daemon.configured]).toEqual([a]);
    await second.stop();
    expect([...daemon.configured]).toEqual([]);
    expect(readFileSync(join(folder, "added-peers"), "utf8")).toBe("");
  });

  test("one that is not up is called again, one that is up is left alone", async () => {
    const daemon = await fake();
    const host = await start(daemon, { peers: ["tcp://192.0.2.1:9001", "tcp://192.0.2.2:9001"] });
    const calls = (uri: string) =>
      daemon.requests.filter((one) => one.request === "addpeer" && one.arguments["uri"] === uri).length;
    await until(host, () => calls("tcp://192.0.2.2:9001") >= 3);
    expect(calls("tcp://192.0.2.1:9001")).toBe(1);
    daemon.peers = [];
    await until(host, () => calls("tcp://192.0.2.1:9001") === 2);
    expect(reason(host)).toContain("not on this machine");
  });

  test("of two that call one another, one connection stays, and nobody breaks it", async () => {
    const daemon = await fake();
    daemon.peers = [
      { remote: "tls://192.0.2.2:45018", address: "200:1::2", up: true },
      { remote: "tls://[2001:db8::7]:45018", address: "200:3::4", up: true },
    ];
    const uris = ["tls://192.0.2.2:9001", "tls://[2001:DB8::7]:9001/", "socks://127.0.0.1:9050/192.0.2.9:1"];
    const host = await start(daemon, { peers: uris });
    await until(host, () => daemon.requests.filter(({ request }) => request === "getpeers").length > 50);
    expect(daemon.requests.filter(({ request }) => request === "removepeer")).toEqual([]);
  });

  test("a daemon that was started anew is told of them again", async () => {
    const daemon = await fake();
    const host = await start(daemon, { peers: ["tcp://192.0.2.1:9001"] });
    await until(host, () => daemon.configured.size === 1);
    await daemon.stop();
    daemon.configured.clear();
    await until(host, () => /does not answer/.test(reason(host)));
    expect(host.overlay).toBeUndefined();
    await daemon.start();
    await until(host, () => daemon.configured.size === 1);
  });

  test("what others announce is called when that is wanted, at most so many, and dropped when it was never up", async () => {
    const daemon = await fake();
    const network = new FakeHostNetwork();
    const host = new TestHost(plugin, { folder: newFolder(), network });
    cleanups.push(() => host.stop());
    await host.start({ admin: daemon.admin, peers_from_discovery: true });
    await until(host, () => host.overlay !== undefined);
    const dial = (uri: string) =>
      host
        .driver!.dial(`yggdrasil://[200:1::2]:1?peer=${uri}`, AbortSignal.timeout(50))
        .catch((e: Error) => e);
    const early = host
      .driver!.dial("yggdrasil://[200:1::2]:1", new AbortController().signal)
      .catch((e: Error) => e);
    await until(host, () => host.clock.pendingDelays.some((delayMs) => delayMs > 3_000), 0);
    host.clock.advance(5_000);
    expect(await early).toMatchObject({
      code: "GODWIT_DIAL_FAILED",
      message: expect.stringContaining("is not on this machine"),
    });
    expect(await dial("tcp://192.0.2.50:1")).toMatchObject({ name: "TimeoutError" });
    network.set([
      {
        address: daemon.address,
        family: 6,
        prefixLength: 7,
        interface: "ygg0",
        scope: "global",
        isAdvertisable: true,
      },
    ]);
    for (let n = 11; n <= 30; n++) await dial(`tcp://192.0.2.${n}:1`);
    await until(host, () => daemon.configured.size === 16, 0);
    daemon.peers.push({ remote: "tcp://192.0.2.13:1", address: "200:5::6", up: true });
    await until(host, () => daemon.configured.size === 1, 10_000);
    expect([...daemon.configured]).toEqual(["tcp://192.0.2.13:1"]);
    const shy = await start(daemon);
    await until(shy, () => shy.overlay !== undefined);
    await shy
      .driver!.dial("yggdrasil://[200:1::2]:1?peer=tcp://192.0.2.99:1", AbortSignal.timeout(50))
      .catch(() => {});
    await until(shy, () => daemon.requests.filter(({ request }) => request === "getpeers").length > 20);
    expect(daemon.configured.has("tcp://192.0.2.99:1")).toBe(false);
  });
});

test("of the peerings that another's endpoint names those are called that may be on its word", async () => {
  const daemon = await fake();
  const network = new FakeHostNetwork();
  const host = new TestHost(plugin, { folder: newFolder(), network });
  cleanups.push(() => host.stop());
  await host.start({ admin: daemon.admin, peers_from_discovery: true });
  await until(host, () => host.overlay !== undefined);
  const { address } = daemon;
  network.set([
    { address, family: 6, prefixLength: 7, interface: "ygg0", scope: "global", isAdvertisable: true },
  ]);
  const terms = { refusal: (to: string) => (to === "127.0.0.1" ? "not to be called" : undefined) };
  const peers = "peer=tcp://127.0.0.1:22&peer=tcp://192.0.2.50:1";
  await host
    .driver!.dial(`yggdrasil://[200:1::2]:1?${peers}`, AbortSignal.timeout(50), undefined, terms)
    .catch(() => {});
  await until(host, () => daemon.configured.size > 0);
  expect([...daemon.configured]).toEqual(["tcp://192.0.2.50:1"]);
});

describe("a daemon that is not well", () => {
  test("without an interface, without neighbours, of another age, hostile: degraded, with the reason", async () => {
    const daemon = await fake();
    daemon.hasTun = false;
    const host = await start(daemon);
    await until(host, () => /has no interface/.test(reason(host)));
    daemon.answer = `{"status":"success","response":{"list":[]}}`;
    await until(host, () => /neither 0.4 nor 0.5/.test(reason(host)));
    daemon.answer = "x".repeat(2_000_000);
    await until(host, () => /too long/.test(reason(host)));
    daemon.answer = `{"status":"error","error":"${"no ".repeat(500)}"}`;
    await until(host, () => /no no/.test(reason(host)));
    expect(reason(host).length).toBeLessThan(300);
  });

  test("neighbours of multicast become hints, others do not", async () => {
    const daemon = await fake();
    daemon.peers.push(
      { remote: "tls://[fe80::4078:1ff:fef8:36dc%va]:39017", address: "200:7::8", up: true },
      { remote: "tls://[fe80::90cb:11ff:fe1b:5a45]:44797", address: "200:9::a", up: true },
      { remote: "tls://[2001:db8::1]:1", address: "200:b::c", up: true },
    );
    const host = await start(daemon);
    await until(host, () => host.hints.size > 0);
    expect([...host.hints.keys()]).toEqual(["yggdrasil://[200:7::8]:4862", "yggdrasil://[200:9::a]:4862"]);
    expect([...host.hints.values()].every(({ lifetimeMs = 0 }) => lifetimeMs > 0)).toBe(true);
    const shy = await start(daemon, { multicast_hints: false });
    await until(shy, () => shy.overlay !== undefined);
    expect(shy.hints.size).toBe(0);
  });
});

test("the configuration of a daemon of our own: its key is a pair, and nothing breaks out", () => {
  const paths = pathsIn("/var/lib/godwit/plugin-files/transport.overlay");
  const config = JSON.parse(
    renderConfig(
      {
        listen: ["tls://0.0.0.0:9001"],
        multicast: ["eth.*"],
        allowed_keys: [],
        interface: "auto",
        mtu: 1_280,
      },
      paths,
      Buffer.from("9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60", "hex"),
    ),
  ) as Record<string, unknown>;
  // RFC 8032 section 7.1, test 1.
  expect(config["PublicKey"]).toBe("d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a");
  expect(config["PrivateKey"]).toHaveLength(128);
  expect(config).toMatchObject({
    AdminListen: `unix://${paths.admin}`,
    IfMTU: 1_280,
    NodeInfoPrivacy: true,
    MulticastInterfaces: [{ Regex: "eth.*", Beacon: true, Listen: true }],
  });
  for (const folder of [`/${"x".repeat(100)}`, "/a b", "/a%b"])
    expect(() => pathsIn(folder)).toThrow("state_dir");
  expect(complaintOf(["2026/11/25 19:32:31 panic soon", "panic: x", "goroutine 1"])).toBe("panic: x");
  expect(complaintOf(["2026/11/25 19:32:31 bye", ""])).toBe("bye");
});

test("keys of one mode are refused beside the other", async () => {
  for (const bad of [
    { mode: "supervised", admin: "unix:///a" },
    { listen: ["tls://0.0.0.0:1"] },
    { mtu: 1_280 },
    { key: "derived" },
    { mode: "supervised", interface: "none" },
    { announce: ["tls://name.example:1"] },
    { peers: ["http://a:1"] },
    { mode: "supervised", binary: "yggdrasil -autoconf" },
  ])
    expect((await configIssues(plugin, bad)).issues).toHaveLength(1);
  expect((await configIssues(plugin, { mode: "supervised", multicast: [".*"], key: "derived" })).issues).toBe(
    undefined,
  );
});
