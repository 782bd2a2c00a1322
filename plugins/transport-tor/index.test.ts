import { existsSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { connect, type Socket } from "node:net";
import { afterEach, describe, expect, test } from "bun:test";
import { FakeStorage, ManualClock, seededRandom, TestHost } from "@godwit/sdk/testkit";
import plugin, { STRANGERS_MAX } from "./index.ts";
import { openSocks } from "./socks.ts";
import { FakeTor, type FakeTorOptions } from "./testing.ts";

const hosts: TestHost[] = [];
const tors: FakeTor[] = [];
afterEach(async () => {
  for (const host of hosts.splice(0)) await host.stop();
  for (const tor of tors.splice(0)) await tor.dispose();
});

async function fakeTor(options?: FakeTorOptions): Promise<FakeTor> {
  const tor = await new FakeTor(options).start();
  tors.push(tor);
  return tor;
}

async function start(
  config: Record<string, unknown>,
  options: ConstructorParameters<typeof TestHost>[1] = {},
) {
  const host = new TestHost(plugin, options);
  hosts.push(host);
  await host.start(config);
  return host;
}

async function until(host: TestHost, isTrue: () => boolean, stepMs = 0): Promise<void> {
  const endMs = performance.now() + 3_000;
  while (!isTrue()) {
    if (performance.now() > endMs)
      throw new Error(`not in time; health ${JSON.stringify(host.health.at(-1))}`);
    if (stepMs > 0) host.clock.advance(stepMs);
    await new Promise((resolve) => setImmediate(resolve));
  }
}
const published = (host: TestHost, stepMs = 0) => until(host, () => host.endpoints.length > 0, stepMs);
const healthOf = (host: TestHost) => host.health.at(-1)!;
const never = () => new AbortController().signal;

describe("the control port", () => {
  test("an impostor that does not know the cookie learns nothing more, and no address is published", async () => {
    const tor = await fakeTor({ isImpostor: true });
    const host = await start(tor.config);
    await until(host, () => /does not know the cookie/.test(healthOf(host)?.reason ?? ""));
    expect(healthOf(host).state).toBe("degraded");
    expect(tor.commands.map((line) => line.split(" ")[0])).toEqual(["PROTOCOLINFO", "AUTHCHALLENGE"]);
  });

  test("a cookie in a folder whose name is not ASCII is found where tor says it is", async () => {
    const tor = await fakeTor({ cookieFolder: "t\u00f6r \u{1f9c5}" });
    await published(await start(tor.config));
  });

  test("a stale cookie beside a good password does not keep the node from tor, nor a good one from being wanted", async () => {
    process.env["GODWIT_TEST_TOR_PASSWORD"] = "the right password";
    try {
      const tor = await fakeTor({ password: "the right password", takesBoth: true });
      const stale = join(tor.folder, "stale");
      writeFileSync(stale, crypto.getRandomValues(new Uint8Array(32)));
      const config = { ...tor.config, cookie_file: stale };
      await published(await start({ ...config, control_password: "env:GODWIT_TEST_TOR_PASSWORD" }));
      const host = await start(config);
      await until(host, () => /does not know the cookie/.test(healthOf(host)?.reason ?? ""));
      process.env["GODWIT_TEST_TOR_PASSWORD"] = "a wrong password";
      const wrong = await start({ ...config, control_password: "env:GODWIT_TEST_TOR_PASSWORD" });
      await until(wrong, () => /nor does the password help/.test(healthOf(wrong)?.reason ?? ""));
      expect(JSON.stringify(wrong.health)).not.toContain("a wrong password");
    } finally {
      delete process.env["GODWIT_TEST_TOR_PASSWORD"];
    }
  });

  test("a password with quotes in it opens it, a missing one is asked for", async () => {
    process.env["GODWIT_TEST_TOR_PASSWORD"] = 'a "b\\ c';
    try {
      const tor = await fakeTor({ password: 'a \\"b\\\\ c' });
      const host = await start({ ...tor.config, control_password: "env:GODWIT_TEST_TOR_PASSWORD" });
      await published(host);
      const other = await start(tor.config);
      await until(other, () => /set control_password/.test(healthOf(other)?.reason ?? ""));
    } finally {
      delete process.env["GODWIT_TEST_TOR_PASSWORD"];
    }
  });

  test("lost and back: streams live on, the address is published again and was never withdrawn", async () => {
    const tor = await fakeTor();
    const host = await start(tor.config);
    await published(host);
    const [endpoint] = host.endpoints;
    const pipe = await host.driver!.dial(endpoint!, never());
    await until(host, () => host.accepted.length === 1);
    let closes = 0;
    pipe.open({ data() {}, drain() {}, closed: () => closes++ });
    tor.dropControl();
    await until(host, () => healthOf(host).state === "degraded");
    await until(host, () => tor.commands.filter((line) => line.startsWith("ADD_ONION")).length === 2, 50);
    await until(host, () => healthOf(host).state === "running");
    expect([host.endpoints, closes]).toEqual([[endpoint!], 0]);
    pipe.close();
  });

  test("a tor that stays away: the address is withdrawn after two minutes and comes back with tor", async () => {
    const tor = await fakeTor();
    const host = await start(tor.config);
    await published(host);
    const [endpoint] = host.endpoints;
    await tor.stop();
    await until(host, () => healthOf(host).state === "degraded");
    await until(host, () => host.endpoints.length === 0, 1_000);
    await tor.start();
    await published(host, 1_000);
    expect(host.endpoints).toEqual([endpoint!]);
  });

  test("a tor that is stopped and answers nothing is noticed", async () => {
    const silent = Bun.listen({ hostname: "127.0.0.1", port: 0, socket: { data() {} } });
    const host = await start({ control: `127.0.0.1:${silent.port}` });
    await until(host, () => /no answer to PROTOCOLINFO/.test(healthOf(host).reason ?? ""), 1_000);
    silent.stop(true);
  });

  test("events become health: bootstrap, liveness, circuits, skew", async () => {
    const tor = await fakeTor();
    const host = await start(tor.config);
    await published(host);
    const cases: [string, RegExp | undefined][] = [
      [
        'STATUS_CLIENT WARN BOOTSTRAP PROGRESS=10 SUMMARY="Conn" WARNING="No route to host"',
        /10 %.*No route/,
      ],
      ["STATUS_CLIENT NOTICE BOOTSTRAP PROGRESS=100 TAG=done", undefined],
      ["NETWORK_LIVENESS DOWN", /hears nothing/],
      ["NETWORK_LIVENESS UP", undefined],
      ["STATUS_CLIENT NOTICE CIRCUIT_NOT_ESTABLISHED REASON=CLOCK_JUMPED", /no circuit/],
      ["STATUS_CLIENT NOTICE CIRCUIT_ESTABLISHED", undefined],
      ['STATUS_GENERAL WARN CLOCK_SKEW SKEW=-7200 SOURCE="DIRSERV:x"', /7200 s off/],
      ["STATUS_CLIENT NOTICE CIRCUIT_ESTABLISHED", undefined],
    ];
    for (const [event, reason] of cases) {
      tor.tell(event);
      await until(host, () =>
        reason === undefined ? healthOf(host).state === "running" : reason.test(healthOf(host).reason ?? ""),
      );
    }
  });
});

describe("the onion address", () => {
  test("stored or derived, it is the same after a restart, and another for another instance", async () => {
    const tor = await fakeTor();
    const life = async (options: ConstructorParameters<typeof TestHost>[1], key: string) => {
      const host = await start({ ...tor.config, key }, options);
      await published(host);
      const [endpoint] = host.endpoints;
      await host.stop();
      return endpoint!;
    };
    const storage = new FakeStorage();
    const stored = [
      await life({ storage }, "stored"),
      await life({ storage, random: seededRandom(9) }, "stored"),
    ];
    expect(stored[1]).toBe(stored[0]);
    const derived = [await life({}, "derived"), await life({ random: seededRandom(9) }, "derived")];
    expect(derived[1]).toBe(derived[0]);
    expect(new Set([...stored, ...derived, await life({ instance: "other" }, "derived")]).size).toBe(3);
  });

  test("is published only after HS_DESC UPLOADED of itself", async () => {
    const tor = await fakeTor({ uploads: false });
    const host = await start(tor.config);
    await until(host, () => /not published yet/.test(healthOf(host).reason ?? ""));
    tor.tell(`HS_DESC UPLOADED ${"b".repeat(56)} UNKNOWN $AA`);
    const name = [...tor.routes.keys()][0]!.split(".")[0]!;
    tor.tell(`HS_DESC FAILED ${name} UNKNOWN $AA REASON=UPLOAD_REJECTED`);
    await until(host, () => /UPLOAD_REJECTED/.test(healthOf(host).reason ?? ""));
    expect(host.endpoints).toEqual([]);
    tor.tell(`HS_DESC UPLOADED ${name} UNKNOWN $AA`);
    await published(host);
  });

  test("stopped, its streams end: tor would keep them", async () => {
    const tor = await fakeTor();
    const [host, other] = [await start(tor.config), await start({ ...tor.config, listen: [] })];
    await published(host);
    const pipe = await other.driver!.dial(host.endpoints[0]!, never());
    await until(host, () => host.accepted.length === 1);
    let closes = 0;
    pipe.open({ data() {}, drain() {}, closed: () => closes++ });
    await host.stop();
    await until(other, () => closes === 1);
  });

  test("behind a unix socket: tor is told the path, what a killed node left is replaced, nothing stays", async () => {
    const tor = await fakeTor();
    const path = join(tor.folder, "node.sock");
    // As a killed node leaves it: a file that nobody listens at.
    const killed = Bun.spawnSync([
      process.execPath,
      "-e",
      `require("node:net").createServer().listen(${JSON.stringify(path)}, () => process.kill(process.pid, "SIGKILL"))`,
    ]);
    expect([killed.signalCode, existsSync(path)]).toEqual(["SIGKILL", true]);
    const host = await start({ ...tor.config, listen: [`unix:${path}`] });
    await published(host);
    expect(tor.commands.find((line) => line.startsWith("ADD_ONION"))).toContain(`Port=4860,unix:${path}`);
    const other = await start({ ...tor.config, listen: [] });
    const pipe = await other.driver!.dial(host.endpoints[0]!, never());
    await until(host, () => host.accepted.length === 1);
    pipe.close();
    // Of a node that lives it is not taken away.
    const second = new TestHost(plugin, {});
    hosts.push(second);
    await expect(second.start({ ...tor.config, listen: [`unix:${path}`] })).rejects.toThrow(/EADDRINUSE/);
    expect(existsSync(path)).toBe(true);
    await host.stop();
    expect(existsSync(path)).toBe(false);
  });

  test("clients are told to tor, and our own client key goes before the dial", async () => {
    const tor = await fakeTor();
    const client = "a".repeat(52);
    const host = await start({ ...tor.config, clients: [client], client_key: true });
    await published(host);
    expect(tor.commands.find((line) => line.startsWith("ADD_ONION"))).toMatch(
      new RegExp(`Flags=MaxStreamsCloseCircuit,V3Auth .*ClientAuthV3=${client.toUpperCase()}$`),
    );
    (await host.driver!.dial(host.endpoints[0]!, never())).close();
    expect(tor.commands.at(-1)).toMatch(/^ONION_CLIENT_AUTH_ADD [a-z2-7]{56} x25519:/);
    const { fields } = host.logs.find(({ event }) => event === "onion client key")!;
    expect(fields["public_key"]).toMatch(/^[A-Z2-7]{52}$/);
  });
});

describe("a dial", () => {
  test("names and addresses go to tor as they are, and each peer has circuits of its own", async () => {
    const tor = await fakeTor();
    const host = await start({ socks: tor.config.socks });
    expect(healthOf(host)).toEqual({ state: "running" });
    for (const endpoint of ["tor://peer.example:1", "tor://192.0.2.1:1", "tor://peer.example:1"])
      await host.driver!.dial(endpoint, never()).catch(() => {});
    const [first, second, third] = tor.streams;
    expect(tor.streams.map(({ host: to }) => to)).toEqual(["peer.example", "type 1", "peer.example"]);
    expect(first!.user).not.toBe(second!.user);
    expect(first!.password).not.toBe(second!.password);
    // The first try failed, so the next has fresh circuits.
    expect(third!.user).not.toBe(first!.user);
  });

  test("tor's own words for a refusal, extended ones too", async () => {
    const tor = await fakeTor();
    const host = await start({ socks: tor.config.socks });
    for (const [code, words] of [
      [0x05, "refused"],
      [0xf4, "set client_key"],
    ] as const) {
      tor.refusal = code;
      const error = await host.driver!.dial("tor://peer.example:1", never()).catch((e: Error) => e);
      expect(error).toMatchObject({ code: "GODWIT_DIAL_FAILED", kind: "transport" });
      expect((error as Error).message).toContain(words);
      expect((error as Error).cause).toBeUndefined();
    }
  });

  test("one that hangs gets company on other circuits, which later dials keep", async () => {
    const tor = await fakeTor();
    const host = await start(tor.config);
    await published(host);
    tor.hanging = 1;
    const dialling = host.driver!.dial(host.endpoints[0]!, never());
    await until(host, () => tor.streams.length === 1);
    host.clock.advance(12_000);
    (await dialling).close();
    (await host.driver!.dial(host.endpoints[0]!, never())).close();
    const users = tor.streams.map(({ user }) => user);
    expect(users[1]).not.toBe(users[0]!);
    expect(users[2]).toBe(users[1]);
  });

  test("waits while tor bootstraps, and says how far it has come when that takes long", async () => {
    const tor = await fakeTor({ progress: 45, uploads: false });
    const host = await start(tor.config);
    await until(host, () => /45 %/.test(healthOf(host).reason ?? ""));
    const dialling = host.driver!.dial("tor://peer.example:1", never()).catch((e: Error) => e);
    await until(host, () => host.clock.pendingDelays.includes(15_000));
    host.clock.advance(15_000);
    expect(((await dialling) as Error).message).toContain("45 %");
    expect(tor.streams).toEqual([]);
  });

  test("waits for the clock: in 1970 nothing is asked of tor, and once it is set all goes on", async () => {
    const tor = await fakeTor();
    const clock = new ManualClock(1_000);
    const host = await start(tor.config, { clock });
    expect(healthOf(host)).toMatchObject({
      state: "degraded",
      reason: expect.stringContaining("1970-01-01"),
    });
    const refused = await Promise.all(
      Array.from({ length: 9 }, () =>
        host.driver!.dial("tor://peer.example:1", AbortSignal.timeout(200)).catch((e: Error) => e),
      ),
    );
    expect(refused.some((error) => error instanceof Error && error.message.includes("1970"))).toBe(true);
    expect([tor.commands, tor.streams]).toEqual([[], []]);
    clock.advance(Date.UTC(2027, 0, 1));
    await published(host, 100);
    expect(healthOf(host).state).toBe("running");
  });

  test("a proxy on another machine has a clock of its own: nothing is held for ours, which is not set", async () => {
    const clock = new ManualClock(1_000);
    const reasonOf = async (socks: string) =>
      JSON.stringify((await start({ socks }, { clock })).health.at(-1) ?? "fine");
    expect(await reasonOf("192.0.2.1:9050")).not.toContain("1970");
    for (const here of ["127.0.0.2:1", "[::1]:1", "localhost:1", "unix:/nonexistent/socks"])
      expect(await reasonOf(here)).toContain("the clock says 1970-01-01: Tor is held");
  });

  test("a tor of our own is not started before the clock is set", async () => {
    const folder = mkdtempSync(join(tmpdir(), "godwit-tor-"));
    const binary = join(folder, "tor");
    writeFileSync(binary, "#!/bin/sh\necho started > started\nexec sleep 1000\n", { mode: 0o755 });
    try {
      const clock = new ManualClock(1_000);
      const host = await start({ mode: "supervised", binary }, { clock, folder });
      // Both wait for the clock: who asks tor, and who would start it.
      const areHeld = () => clock.pendingDelays.filter((delayMs) => delayMs === 5_000).length === 2;
      await until(host, areHeld);
      clock.advance(20_000);
      await until(host, areHeld);
      expect([healthOf(host).reason?.includes("1970"), existsSync(join(folder, "started"))]).toEqual([
        true,
        false,
      ]);
      clock.advance(Date.UTC(2027, 0, 1));
      await until(host, () => existsSync(join(folder, "started")), 100);
      await host.stop();
    } finally {
      rmSync(folder, { recursive: true, force: true });
    }
  });

  test("whatever a SOCKS port answers, it ends, and nothing hangs on", async () => {
    const random = seededRandom(5);
    const target = { host: "peer.example", port: 1 };
    const isolation = { user: "u", password: "p" };
    const oneRound = async (round: number) => {
      const pieces = Array.from({ length: 1 + random.below(4) }, (_, i) =>
        i === 0 && round % 3 > 0 ? Uint8Array.of(5, round % 3 === 1 ? 2 : 0) : random.bytes(random.below(24)),
      );
      const server = Bun.listen({
        hostname: "127.0.0.1",
        port: 0,
        socket: { data: (socket) => void (pieces.length > 0 ? socket.write(pieces.shift()!) : socket.end()) },
      });
      const door = { host: "127.0.0.1", port: server.port };
      const end = await openSocks(door, target, isolation, AbortSignal.timeout(100)).then(
        (socket) => socket.destroy(),
        (error: Error) => error,
      );
      if (end instanceof Error && "code" in end && end.name === "GodwitError")
        expect(end).toMatchObject({ code: "GODWIT_DIAL_FAILED" });
      server.stop(true);
    };
    // Most answers end nothing, and then the deadline does: side by side these are one wait.
    for (let round = 0; round < 300; round += 50)
      await Promise.all(Array.from({ length: 50 }, (_, i) => oneRound(round + i)));
  }, 60_000);
});

test("a refused ADD_ONION is told in tor's words, without the key", async () => {
  const tor = await fakeTor({ refusesOnions: true });
  const host = await start(tor.config);
  await until(host, () => /ADD_ONION with 512 Invalid/.test(healthOf(host).reason ?? ""));
  const key = /ED25519-V3:(\S+)/.exec(tor.commands.find((line) => line.startsWith("ADD_ONION"))!)![1]!;
  expect(Bun.inspect({ logs: host.logs, health: host.health }, { depth: 20 })).not.toContain(key);
});

test("keys, cookies and passwords reach tor and nobody else", async () => {
  const tor = await fakeTor();
  const host = await start({ ...tor.config, client_key: true });
  await published(host);
  tor.refusal = 1;
  const errors = [await host.driver!.dial("tor://peer.example:1", never()).catch((e: Error) => e)];
  tor.dropControl();
  await until(host, () => healthOf(host).state === "degraded");
  const words = (pattern: RegExp) => tor.commands.flatMap((line) => pattern.exec(line)?.[1] ?? []);
  const secrets = [
    Buffer.from(tor.cookie).toString("hex"),
    ...words(/ED25519-V3:(\S+)/),
    ...words(/x25519:(\S+)/),
    ...words(/^AUTHENTICATE (\S+)/),
    ...tor.streams.flatMap(({ user, password }) => [user, password]),
  ];
  expect(secrets.length).toBeGreaterThanOrEqual(5);
  const said = Bun.inspect(
    { logs: host.logs, health: host.health, counters: host.counters, errors },
    { depth: 20 },
  );
  for (const secret of secrets) expect(said).not.toContain(secret);
});

test("silent streams to the onion address keep nobody out: the oldest goes, a link makes room", async () => {
  const tor = await fakeTor();
  const host = await start(tor.config);
  await published(host);
  const [, port] = /Port=\d+,127\.0\.0\.1:(\d+)/.exec(
    tor.commands.find((line) => line.startsWith("ADD_ONION"))!,
  )!;
  const silent: Socket[] = [];
  let gone = 0;
  const come = () =>
    new Promise<void>((resolve) => {
      const socket = connect(Number(port), "127.0.0.1", resolve);
      socket.on("error", () => {});
      socket.on("close", () => gone++);
      silent.push(socket);
    });
  for (let i = 0; i < STRANGERS_MAX; i++) await come();
  await until(host, () => host.accepted.length === STRANGERS_MAX);
  await come();
  await until(host, () => host.accepted.length === STRANGERS_MAX + 1 && gone === 1);
  host.accepted.at(-1)!.proven!();
  await come();
  await until(host, () => host.accepted.length === STRANGERS_MAX + 2);
  expect(gone).toBe(1);
  for (const socket of silent) socket.destroy();
});
