/** Settings that a reload changes in running nodes of the compiled binary: each is seen from outside, and links stay. */
import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { existsSync } from "node:fs";
import { writeFile } from "node:fs/promises";
import { connect, createServer, type Server, type Socket } from "node:net";
import type { AddressInfo } from "node:net";
import { join } from "node:path";
import type { SecretsView } from "../../runtime/view/contract/closed.ts";
import type {
  ForwardView,
  HealthView,
  NameView,
  PeerView,
  ReloadView,
  StatusView,
} from "../../runtime/view/contract/node.ts";
import { buildGodwit } from "../../scripts/build.ts";
import { binaryPath, freePort, Lab, type LabNode } from "../../scripts/lab.ts";

const WAIT_MS = 20_000;
let lab: Lab;

beforeAll(async () => {
  if (!existsSync(binaryPath)) await buildGodwit(undefined, binaryPath);
  lab = await Lab.create();
});
afterAll(async () => {
  await lab?.close();
});

const reload = (node: LabNode) => node.json<ReloadView>("/reload", { method: "POST" });
const statusOf = (node: LabNode) => node.json<StatusView>("/mesh/status");
const connectedOf = async (node: LabNode) => (await statusOf(node)).peers.connected;
const peersOf = async (node: LabNode) =>
  (await node.json<{ peers: PeerView[] }>("/mesh/peers?all=true")).peers;
/** Of links that are up. */
const sinceOf = async (node: LabNode) =>
  (await peersOf(node)).flatMap(({ links }) => links.map(({ up_seconds }) => up_seconds));

async function changed(node: LabNode, change: Parameters<LabNode["reconfigure"]>[0]): Promise<ReloadView> {
  await node.reconfigure(change);
  return await reload(node);
}

/** Two linked nodes; the second is told nothing of the first but its endpoint. */
async function pair(name: string, options: { extra?: string; nodeExtra?: string } = {}) {
  const a = await lab.add({ callsign: `${name}-A`, network: name, ...options });
  const b = await lab.add({ callsign: `${name}-B`, network: name, peers: [a.endpoint], ...options });
  await Promise.all([a.start(), b.start()]);
  await a.until("the link", async () => (await connectedOf(a)) === 1, WAIT_MS);
  const idOf = async (node: LabNode) => (await statusOf(node)).node.id;
  return { a, b, aId: await idOf(a), bId: await idOf(b) };
}

describe("log", () => {
  test("a level and a form are those of the lines that follow, by SIGHUP and by the API", async () => {
    const node = await lab.add({ callsign: "LOG-A", network: "log" });
    await node.start();
    const linesAfter = async (work: () => Promise<unknown>) => {
      const before = node.logLines.length;
      await work();
      await node.api("/health");
      return node.logLines.slice(before);
    };
    expect((await changed(node, { nodeExtra: 'log_level = "error"' })).applied).toEqual(["node.log_level"]);
    expect(await linesAfter(() => reload(node))).toEqual([]);
    await node.reconfigure({ nodeExtra: 'log_level = "info"' });
    node.signal("SIGHUP");
    await node.until(
      "a line of level info",
      async () => node.logTail.split("\n").at(-1)!.includes("configuration reloaded"),
      WAIT_MS,
    );
    // The lab writes log_format = "json" by itself.
    await writeFile(
      node.configPath,
      (await Bun.file(node.configPath).text()).replace('log_format = "json"', 'log_format = "text"'),
    );
    expect((await reload(node)).applied).toEqual(["node.log_format"]);
    await node.until(
      "a line of text",
      async () => /^[\d:.]+ info {2}configuration reloaded/.test(node.logLines.at(-1)!),
      WAIT_MS,
    );
    await node.kill("SIGTERM");
  }, 60_000);
});

describe("tokens", () => {
  const table = (name: string, scopes = '["read"]') =>
    `[[api.tokens]]\nsecret = "env:TOKEN_${name}"\nscopes = ${scopes}\nlabel = "${name}"\n`;
  const env = { TOKEN_STAYS: "stays-0123456789abcdef", TOKEN_GOES: "goes-0123456789abcdef" };

  test("one that is not listed any more is refused at once, and its event stream ends; others go on", async () => {
    const node = await lab.add({
      callsign: "TOK-A",
      network: "tok",
      env,
      extra: table("STAYS") + table("GOES"),
    });
    await node.start();
    const events = async (token: string) => {
      const headers = { authorization: `Bearer ${token}` };
      return await fetch(`${node.apiUrl}/events`, { headers, signal: AbortSignal.timeout(WAIT_MS) });
    };
    const [stays, goes] = await Promise.all([events(env.TOKEN_STAYS), events(env.TOKEN_GOES)]);
    const [staying, going] = [stays.body!.getReader(), goes.body!.getReader()];
    await Promise.all([staying.read(), going.read()]);
    expect((await changed(node, { extra: table("STAYS") })).applied).toEqual(["api.tokens"]);
    const end = await going.read().catch(() => ({ done: true }));
    expect(end.done).toBe(true);
    expect((await events(env.TOKEN_GOES)).status).toBe(401);
    // A heartbeat at the latest.
    expect((await staying.read()).done).toBe(false);
    await staying.cancel();
    // Narrowed, it is another right: what it may not any more it may not at once.
    await changed(node, { extra: table("STAYS", '["send"]') });
    expect((await events(env.TOKEN_STAYS)).status).toBe(403);
    await node.kill("SIGTERM");
  }, 60_000);

  test("a token that godwit token revoke ended ends its event stream as well", async () => {
    const node = await lab.add({ callsign: "TOK-B", network: "tok" });
    await node.start();
    const made = await node.json<{ id: string; secret: string }>("/tokens", {
      method: "POST",
      headers: { "content-type": "application/json" },
      body: '{"scopes":["read"],"label":"x"}',
    });
    const headers = { authorization: `Bearer ${made.secret}` };
    const reader = (await fetch(`${node.apiUrl}/events`, { headers })).body!.getReader();
    await reader.read();
    expect((await node.api(`/tokens/${made.id}`, { method: "DELETE" })).status).toBe(204);
    expect((await reader.read().catch(() => ({ done: true }))).done).toBe(true);
    await node.kill("SIGTERM");
  }, 60_000);
});

/** Answers what it hears, and knows who is there. */
async function echo(): Promise<{ readonly port: number; readonly sockets: Set<Socket>; close(): void }> {
  const sockets = new Set<Socket>();
  const server: Server = createServer((socket) => {
    sockets.add(socket);
    socket.on("close", () => sockets.delete(socket));
    socket.on("error", () => {});
    socket.pipe(socket);
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  return {
    port: (server.address() as AddressInfo).port,
    sockets,
    close() {
      server.close();
      for (const socket of sockets) socket.destroy();
    },
  };
}

/** A connection that has heard its own words, so that it runs through. */
async function talking(node: LabNode, port: number) {
  const open = () =>
    new Promise<Socket>((resolve, reject) => {
      const socket = connect(port, "127.0.0.1");
      socket.once("data", () => resolve(socket));
      socket.once("error", reject);
      socket.once("close", () => reject(new Error("closed")));
      socket.write("hello");
    });
  let socket: Socket | undefined;
  await node.until(
    "an answer through the forward",
    async () => (socket = await open()) !== undefined,
    WAIT_MS,
  );
  const state = { isClosed: false };
  socket!.on("error", () => {});
  socket!.once("close", () => (state.isClosed = true));
  const says = (text: string) =>
    new Promise<string>((resolve) => {
      socket!.once("data", (bytes) => resolve(bytes.toString()));
      socket!.write(text);
    });
  return { socket: socket!, state, says };
}

describe("forwards", () => {
  const forward = (port: number, to: string, target: number) =>
    `[[forwards]]\nlisten = "127.0.0.1:${port}"\nto = "${to}"\ntarget = "127.0.0.1:${target}"\n`;
  const allow = (from: string, target: number) =>
    `[[forward_allow]]\nfrom = ["${from}"]\ntargets = ["127.0.0.1:${target}"]\n`;

  test("what is not allowed any more ends, what still is goes on, and new ones are refused", async () => {
    const { a, b, aId } = await pair("FWD");
    const [first, second] = [await echo(), await echo()];
    try {
      const [one, two] = [freePort(), freePort()];
      const both = allow(aId, first.port) + allow(aId, second.port);
      expect((await changed(b, { extra: both })).applied).toEqual(["forward_allow"]);
      const forwards = forward(one, "FWD-B", first.port) + forward(two, "FWD-B", second.port);
      expect((await changed(a, { extra: forwards })).applied).toEqual(["forwards"]);
      const [goes, stays] = [await talking(a, one), await talking(a, two)];
      await changed(b, { extra: allow(aId, second.port) });
      await a.until("the end of the connection", async () => goes.state.isClosed, WAIT_MS);
      await b.until("its end at the target", async () => first.sockets.size === 0, WAIT_MS);
      expect(await stays.says("still here")).toBe("still here");
      await expect(talkingOnce(one)).rejects.toThrow();
      const rows = (await a.json<{ forwards: ForwardView[] }>("/forwards")).forwards;
      expect(rows.find(({ listen }) => listen.endsWith(`:${one}`))?.last_error).toContain("does not allow");

      // The near side: one goes, one stays with its connection, one comes.
      const three = freePort();
      await changed(a, { extra: forward(two, "FWD-B", second.port) + forward(three, "FWD-B", second.port) });
      await expect(talkingOnce(one)).rejects.toThrow();
      expect(await stays.says("here as before")).toBe("here as before");
      const new_ = await talking(a, three);
      new_.socket.destroy();

      // A right that hangs on trust goes with it.
      const trusted = `[trust]\ntrusted = ["${aId}"]\n${allow("trusted", second.port)}`;
      await changed(b, { extra: trusted });
      expect(await stays.says("by trust")).toBe("by trust");
      const report = await changed(b, { extra: allow("trusted", second.port) });
      expect(report.applied).toEqual(["trust.trusted"]);
      await a.until("the end of the right", async () => stays.state.isClosed, WAIT_MS);
      expect([await connectedOf(a), await connectedOf(b)]).toEqual([1, 1]);
    } finally {
      first.close();
      second.close();
    }
    await Promise.all([a.kill("SIGTERM"), b.kill("SIGTERM")]);
  }, 120_000);
});

const talkingOnce = (port: number): Promise<string> =>
  new Promise((resolve, reject) => {
    const socket = connect(port, "127.0.0.1");
    socket.once("data", (bytes) => resolve(bytes.toString()));
    socket.once("error", reject);
    socket.once("close", () => reject(new Error("closed")));
    socket.write("hello");
  });

describe("who is who", () => {
  test("a blocked node loses its link and comes back when it is not blocked any more; a rule does the same", async () => {
    const { a, b, bId } = await pair("TRU");
    const gone = () => a.until("the link to end", async () => (await connectedOf(a)) === 0, WAIT_MS);
    const back = () => a.until("the link to come back", async () => (await connectedOf(a)) === 1, 60_000);
    expect((await changed(a, { extra: `[trust]\nblocked = ["${bId}"]` })).applied).toEqual(["trust.blocked"]);
    await gone();
    expect((await peersOf(a)).find(({ id }) => id === bId)?.state).toBe("blocked");
    await changed(a, { extra: "" });
    await back();
    const rule = '[[trust.rules]]\nlevel = "blocked"\nnetworks = ["127.0.0.0/8"]\n';
    expect((await changed(a, { extra: rule })).applied).toEqual(["trust.rules"]);
    await gone();
    await changed(a, { extra: "" });
    await back();
    await Promise.all([a.kill("SIGTERM"), b.kill("SIGTERM")]);
  }, 180_000);

  test("a name is whose the configuration says, and free again afterwards", async () => {
    const { a, b, aId, bId } = await pair("NAM");
    const nameOf = async () =>
      (await a.json<{ names: NameView[] }>("/mesh/names")).names.find(({ name }) => name === "NAM-B");
    await a.until("the pin", async () => (await nameOf())?.source === "pinned", WAIT_MS);
    expect((await changed(a, { extra: `[names]\n"NAM-B" = "${aId}"` })).applied).toEqual(["names"]);
    expect(await nameOf()).toMatchObject({ node: aId, source: "configured", conflict: bId });
    await changed(a, { extra: "" });
    expect(await nameOf()).toMatchObject({ node: bId, source: "pinned", conflict: null });
    await Promise.all([a.kill("SIGTERM"), b.kill("SIGTERM")]);
  }, 60_000);
});

test("limits are those of what comes: a full outbox takes more, and a smaller one keeps what it has", async () => {
  const node = await lab.add({
    callsign: "LIM-A",
    network: "lim",
    extra: "[delivery]\noutbox_messages_max = 1",
  });
  await node.start();
  const send = async () => {
    const body = JSON.stringify({ to: "LIM-Z", body: "x" });
    const init = { method: "POST", headers: { "content-type": "application/json" }, body };
    return (await node.api("/messages", init)).ok;
  };
  expect([await send(), await send()]).toEqual([true, false]);
  const report = await changed(node, { extra: "[delivery]\noutbox_messages_max = 2" });
  expect(report).toEqual({
    changed: [],
    applied: ["delivery.outbox_messages_max"],
    restart_needed: [],
    restart_because: {},
  });
  expect([await send(), await send()]).toEqual([true, false]);
  await changed(node, { extra: "[delivery]\noutbox_messages_max = 1" });
  expect((await node.box("outbox")).length).toBe(2);
  await node.kill("SIGTERM");
}, 60_000);

describe("network secret", () => {
  test("another one is a rotation: links stay and move over, the old one lets others in for its time", async () => {
    const [old, fresh] = [join(lab.dir, "old.key"), join(lab.dir, "fresh.key")];
    for (const path of [old, fresh])
      await writeFile(path, Buffer.from(crypto.getRandomValues(new Uint8Array(32))).toString("hex"), {
        mode: 0o600,
      });
    const secret = (path: string) => `network_secret = "file:${path}"`;
    const overlap = '[network]\nsecret_overlap = "20s"\n';
    const { a, b } = await pair("SEC", { nodeExtra: secret(old), extra: overlap });
    const secretsOf = (node: LabNode) => node.json<SecretsView>("/mesh/secrets");
    const oldEpoch = (await secretsOf(a)).epochs[0]!.epoch;
    let cuts = 0;
    const watching = { isOver: false };
    const watch = (async () => {
      while (!watching.isOver) {
        if ((await connectedOf(a)) === 0 || (await connectedOf(b)) === 0) cuts++;
        await Bun.sleep(20);
      }
    })();
    expect((await changed(a, { nodeExtra: secret(fresh) })).applied).toEqual(["node.network_secret"]);
    const [current, former] = (await secretsOf(a)).epochs;
    expect(current).toMatchObject({ state: "current", source: "configured", retires_in_seconds: null });
    expect(former).toMatchObject({ epoch: oldEpoch, state: "old", links: 1 });
    expect(former!.retires_in_seconds).toBeGreaterThan(10);
    // Another node that has not heard of the change yet.
    const c = await lab.add({
      callsign: "SEC-C",
      network: "SEC",
      peers: [a.endpoint],
      nodeExtra: secret(old),
      extra: overlap,
    });
    await c.start();
    await a.until("the late one", async () => (await connectedOf(a)) === 2, WAIT_MS);
    await changed(b, { nodeExtra: secret(fresh) });
    const linksOf = async (node: LabNode, epoch: string) =>
      (await secretsOf(node)).epochs.find((one) => one.epoch === epoch)?.links ?? 0;
    await a.until(
      "the link to be under the new one",
      async () => (await linksOf(a, current!.epoch)) === 1,
      30_000,
    );
    watching.isOver = true;
    await watch;
    expect(cuts).toBe(0);
    await a.until("the end of the old one", async () => (await secretsOf(a)).epochs.length === 1, 60_000);
    await a.until("its links to end", async () => (await connectedOf(a)) === 1, WAIT_MS);
    expect(await linksOf(a, current!.epoch)).toBe(1);
    await Promise.all([a, b, c].map((node) => node.kill("SIGTERM")));
  }, 180_000);
});

describe("what waits for a start", () => {
  test("is said with its reason by the answer, the log, health and status, until the file is as before", async () => {
    const node = await lab.add({ callsign: "RST-A", network: "rst" });
    await node.start();
    const extra = '[machine]\nrescue = true\n[network]\nauthority = "' + "a".repeat(52) + '"\n';
    const report = await changed(node, { extra });
    expect(report).toMatchObject({ changed: [], applied: [] });
    expect(report.restart_needed).toEqual(["network.authority", "machine"]);
    const because = report.restart_because["machine"]!;
    expect(because).toBe("PID 1 reads it when the machine boots");
    expect(node.logTail).toContain("setting counts from the next start");
    expect(await statusOf(node)).toMatchObject({
      restart_needed: report.restart_needed,
      restart_because: report.restart_because,
    });
    const told = async () =>
      (await node.json<HealthView>("/health")).checks.filter(({ name }) => name === "configuration");
    expect((await told()).map(({ status, reason }) => `${status} ${reason}`)).toContain(
      `ok machine counts from the next start, because ${because}`,
    );
    const cli = async (command: string) => {
      const child = Bun.spawn([binaryPath, command, "--socket", node.socketPath], { stdout: "pipe" });
      return await new Response(child.stdout).text();
    };
    for (const command of ["status", "reload"])
      expect(await cli(command)).toContain(`machine counts from the next start, because ${because}`);
    // A secret closes the mesh, which no reload does.
    await node.reconfigure({ nodeExtra: 'network_secret = "env:KEY"' });
    expect(await (await node.api("/reload", { method: "POST" })).text()).toContain("node.network_secret");
    expect((await told()).length).toBe(2);
    await changed(node, { extra: "", nodeExtra: "" });
    expect([(await told()).length, (await statusOf(node)).restart_needed]).toEqual([0, []]);
    await node.kill("SIGTERM");
  }, 60_000);
});

test("a wrong file changes nothing at all, and says what is wrong and where", async () => {
  const { a, b, bId } = await pair("BAD");
  const links = await sinceOf(a);
  await a.reconfigure({
    nodeExtra: 'log_level = "debug"',
    extra: `[trust]\nblocked = ["${bId}"]\n[delivery]\noutbox_messages_max = 0\n`,
  });
  const answer = await a.api("/reload", { method: "POST" });
  expect(answer.status).toBeGreaterThanOrEqual(400);
  expect(await answer.text()).toContain("delivery.outbox_messages_max");
  a.signal("SIGHUP");
  await a.until("the refusal", async () => a.logTail.includes("configuration not reloaded"), WAIT_MS);
  expect(a.logTail).toContain("delivery.outbox_messages_max");
  expect(await connectedOf(a)).toBe(1);
  expect((await sinceOf(a)).every((up, i) => up >= links[i]!)).toBe(true);
  expect(a.logLines.some((line) => line.includes('"level":"debug"'))).toBe(false);
  expect((await statusOf(a)).restart_needed).toEqual([]);
  await Promise.all([a.kill("SIGTERM"), b.kill("SIGTERM")]);
}, 60_000);
