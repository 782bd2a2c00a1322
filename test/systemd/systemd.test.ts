/**
 * The unit as systemd runs it: ready when the API answers, a status line, a watchdog that only a healthy node feeds,
 * restarts, secrets as credentials, sockets that systemd opened, and an installation that goes away without a trace.
 * One machine for all tests; each begins with nothing installed.
 */
import { afterAll, beforeAll, beforeEach, describe, expect, test } from "bun:test";
import { existsSync, readFileSync, rmSync } from "node:fs";
import { join } from "node:path";
import { binaryPath } from "../../scripts/lab.ts";
import { root as project, run } from "../../scripts/lib.ts";
import { blockOf, readPage } from "../../scripts/pages.ts";
import { Machine, missing } from "./machine.ts";

const SECURITY_MAX = 2.0;
const SLOW_MS = 120_000;

let machine: Machine;

describe.skipIf(missing !== undefined)(
  `under systemd${missing === undefined ? "" : ` [skipped: ${missing}]`}`,
  () => {
    beforeAll(async () => {
      machine = await Machine.boot();
    }, 400_000);
    afterAll(() => machine?.close(), SLOW_MS);
    beforeEach(clean, SLOW_MS);

    test("ready, status, dynamic user, no capability, score", readyAndHardened, SLOW_MS);
    test("what docs/systemd.md says to type does what it says", asThePageSays, SLOW_MS);
    test("a hung node is killed by the watchdog and comes back", hungNode, SLOW_MS);
    test("a node whose health is down starves the watchdog", downNode, SLOW_MS);
    test("a killed node is restarted with its identity; a stopped one stays stopped", killAndStop, SLOW_MS);
    test("a wrong configuration ends with 78 and is not tried again", wrongConfig, SLOW_MS);
    test("a reload keeps the process and its readiness", reload, SLOW_MS);
    test("a secret comes as a credential, and its absence is said", credentials, SLOW_MS);
    test("sockets of systemd start the node and lose no call over a restart", socketActivation, SLOW_MS);
    test("a control socket that everybody may open is refused", openSocket, SLOW_MS);
    test("with the drop-in for interfaces it has that capability and no other", linksDropIn, SLOW_MS);
    test("a node that waits for a member to let it in is not given up", joining, SLOW_MS);
    test("a tree that it was installed into comes up with it, sockets too", bakedTree, SLOW_MS);
    test("the undo leaves what was there before, and with --purge nothing at all", undoExactly, SLOW_MS);
  },
);

async function clean(): Promise<void> {
  await machine.call("systemctl", "stop", "godwit.socket", "godwit.service");
  await machine.call("/root/godwit", "install", "--systemd", "--undo", "--purge");
  for (const path of [
    "/etc/godwit",
    "/etc/systemd/system/godwit.service.d",
    "/etc/systemd/system/godwit.socket.d",
  ])
    rmSync(machine.path(path), { recursive: true, force: true });
  await machine.must("systemctl", "daemon-reload");
  await machine.call("systemctl", "reset-failed");
  await machine.must("journalctl", "--rotate", "--vacuum-time=1s");
}

const install = (...more: string[]) => machine.must("/root/godwit", "install", "--systemd", ...more);

async function dropIn(unit: string, text: string): Promise<void> {
  machine.write(`/etc/systemd/system/${unit}.d/test.conf`, text);
  await machine.must("systemctl", "daemon-reload");
}

const pid = async () => Number((await machine.show("godwit.service", "MainPID"))["MainPID"]);

const kill = (signal: string) =>
  machine.must("systemctl", "kill", "--kill-whom=main", `--signal=${signal}`, "godwit.service");

async function readyAndHardened(): Promise<void> {
  await install();
  // Returns when READY=1 came, and not before the API answers.
  await machine.must("systemctl", "start", "godwit.service");
  expect(await machine.must("godwit", "health")).toStartWith("ok");
  const shown = await machine.show(
    "godwit.service",
    "ActiveState",
    "SubState",
    "StatusText",
    "NRestarts",
    "UnitFileState",
  );
  expect(shown).toEqual({
    ActiveState: "active",
    SubState: "running",
    StatusText: "0 peers linked, 1 nodes alive, 0 messages queued",
    NRestarts: "0",
    UnitFileState: "enabled",
  });
  // The line follows the node.
  await machine.must("godwit", "send", "LON-B", "HELLO");
  await machine.until("a status line that counts the message", async () =>
    (await machine.show("godwit.service", "StatusText"))["StatusText"]!.includes("1 messages queued"),
  );
  const status = await machine.must("cat", `/proc/${await pid()}/status`);
  const uid = Number(/^Uid:\t(\d+)/m.exec(status)![1]);
  // The range of dynamic users.
  expect(uid).toBeGreaterThanOrEqual(61_184);
  expect(uid).toBeLessThanOrEqual(65_519);
  for (const set of ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"])
    expect(status).toContain(`${set}:\t0000000000000000`);
  expect(status).toContain("NoNewPrivs:\t1");
  const state = await machine.must("stat", "-c", "%a %u", "/var/lib/private/godwit/identity.key");
  expect(state.trim()).toBe(`600 ${uid}`);
  const other = await machine.call("setpriv", "--reuid=65534", "--clear-groups", "godwit", "status");
  expect([other.code, other.err]).toEqual([
    1,
    expect.stringContaining(
      "this user may not open /run/godwit/godwit.sock, which is of a user that systemd made up for it; run: sudo godwit status",
    ),
  ]);
  // What the journal knows of each line, besides the line.
  const warnings = await machine.must(
    "journalctl",
    "-u",
    "godwit",
    "-p",
    "warning",
    "-o",
    "cat",
    "--no-pager",
  );
  expect(warnings).toMatch(/^warn  open mesh network=/m);
  expect(warnings).not.toMatch(/^info /m);
  const all = await machine.must("journalctl", "-u", "godwit", "-o", "cat", "--no-pager");
  // For people: no JSON, and no time beside that of the journal.
  expect(all).toMatch(/^info  node started id=/m);
  expect(all).not.toMatch(/^(?:<\d>|\{|\d\d:\d\d)/m);
  expect(await score()).toBeLessThanOrEqual(SECURITY_MAX);
}

async function score(): Promise<number> {
  const said = await machine.must("systemd-analyze", "security", "godwit.service", "--no-pager");
  const found = Number(/Overall exposure level for godwit\.service: ([\d.]+)/.exec(said)![1]);
  console.log(`systemd-analyze security: ${found}`);
  return found;
}

async function asThePageSays(): Promise<void> {
  const prelude = `set -e
mkdir -p /root/clone/dist
cp /root/godwit /root/clone/dist
cd /root/clone
sudo() { "$@"; }
editor() { sed -i 's/^# callsign = .*/callsign = "DUN-A"/' "$1"; }
`;
  const said = await machine.must(
    "bash",
    "-c",
    prelude + blockOf(readPage("docs/systemd.md"), "sudo dist/godwit"),
  );
  expect(said).toMatch(/Status: "\d+ peers linked, \d+ nodes alive, \d+ messages queued"/);
  expect(said).toContain("DUN-A");
}

async function linksDropIn(): Promise<void> {
  await install();
  await dropIn("godwit.service", readFileSync(join(project, "images/systemd/links.conf"), "utf8"));
  await machine.must("systemctl", "start", "godwit.service");
  const status = await machine.must("cat", `/proc/${await pid()}/status`);
  // CAP_NET_ADMIN is 12.
  for (const set of ["CapEff", "CapBnd", "CapAmb"]) expect(status).toContain(`${set}:\t0000000000001000`);
  expect(await score()).toBeLessThanOrEqual(SECURITY_MAX);
}

/** The first start of an image that has nothing but a token, and nobody to let it in yet. */
async function joining(): Promise<void> {
  await install();
  machine.write(
    "/etc/godwit/godwit.toml",
    '[transports.lan]\ntype = "tcp"\nlisten = ["[::]:4860"]\nadvertise = ["tcp://10.9.9.9:4860"]\n[api]\nsocket = "/run/godwit/godwit.sock"\n',
  );
  await machine.must("systemctl", "start", "godwit.service");
  // As soon as its own record has its address.
  const { token } = await machine.until("a token", async () => {
    const { code, out } = await machine.call("godwit", "invite", "--json");
    return code === 0 && (JSON.parse(out) as { token: string });
  });
  await machine.must("systemctl", "stop", "godwit.service");
  await dropIn(
    "godwit.service",
    `[Service]\nTimeoutStartSec=3s\nEnvironment=GODWIT_JOIN=${token} GODWIT_CONFIG=/var/lib/godwit/godwit.toml\n`,
  );
  await machine.must("systemctl", "start", "--no-block", "godwit.service");
  const since = async () => {
    const shown = await machine.show(
      "godwit.service",
      "ActiveState",
      "SubState",
      "NRestarts",
      "StatusText",
      "InactiveExitTimestampMonotonic",
    );
    // A start that was given up and is tried again is "activating" too.
    expect([shown["ActiveState"], shown["SubState"], shown["NRestarts"]]).toEqual([
      "activating",
      "start",
      "0",
    ]);
    return shown;
  };
  const begun = await machine.until("its word that it joins", async () => {
    const shown = await since();
    return shown["StatusText"] === "joining by invitation" && Number(shown["InactiveExitTimestampMonotonic"]);
  });
  // Twice the time that a start may take without asking for more.
  await machine.until("six seconds", async () => {
    await since();
    const [uptime] = (await machine.must("cat", "/proc/uptime")).split(" ");
    return Number(uptime) * 1e6 > begun + 6e6;
  });
  await machine.must("systemctl", "stop", "godwit.service");
}

async function hungNode(): Promise<void> {
  await install();
  await dropIn("godwit.service", "[Service]\nWatchdogSec=2s\n");
  await machine.must("systemctl", "start", "godwit.service");
  const fed = async () =>
    Number(
      (await machine.show("godwit.service", "WatchdogTimestampMonotonic"))["WatchdogTimestampMonotonic"],
    );
  const first = await fed();
  // Three intervals long it lives because it feeds.
  await machine.until("six seconds of feeding", async () => (await fed()) > first + 6_000_000);
  const before = await pid();
  expect((await machine.show("godwit.service", "NRestarts"))["NRestarts"]).toBe("0");
  await kill("STOP");
  await machine.until("the watchdog to kill and restart it", async () => {
    const { ActiveState, NRestarts } = await machine.show("godwit.service", "ActiveState", "NRestarts");
    return ActiveState === "active" && NRestarts === "1";
  });
  expect(await pid()).not.toBe(before);
  const journal = await machine.must("journalctl", "-u", "godwit", "-o", "cat", "--no-pager");
  expect(journal).toContain("Watchdog timeout (limit 2s)!");
  expect(journal).toContain("Failed with result 'watchdog'");
}

async function downNode(): Promise<void> {
  await install();
  // Its only transport fails, and does so again at each try.
  machine.write(
    "/etc/godwit/godwit.toml",
    '[transports.lan]\ntype = "broken"\ntrust = "trusted"\n[api]\nsocket = "/run/godwit/godwit.sock"\n',
  );
  const manifest = {
    id: "broken",
    namespace: "transport",
    version: "1.0.0",
    sdk: "^0.1.0",
    permissions: [],
    config: {},
  };
  machine.write("/root/broken/godwit-plugin.json", JSON.stringify({ ...manifest, entry: "index.ts" }));
  machine.write(
    "/root/broken/index.ts",
    `import { definePlugin } from "@godwit/sdk";
     export default definePlugin({ ...${JSON.stringify(manifest)}, start() { throw new Error("no such radio"); } });`,
  );
  const key = "/root/broken.key";
  const packed = await machine.must(
    ...[
      "godwit",
      "plugin",
      "pack",
      "/root/broken",
      "--unchecked",
      "--key",
      key,
      "--out",
      "/root/broken.gwp",
      "--json",
    ],
  );
  await machine.must("godwit", "plugin", "trust", (JSON.parse(packed) as { publisher: string }).publisher);
  await machine.must("godwit", "plugin", "add", "/root/broken.gwp");
  await dropIn("godwit.service", "[Service]\nWatchdogSec=2s\n");
  await machine.must("systemctl", "start", "godwit.service");
  expect((await machine.call("godwit", "health")).out).toStartWith("down");
  await machine.until(
    "a restart by the watchdog",
    async () => Number((await machine.show("godwit.service", "NRestarts"))["NRestarts"]) >= 1,
  );
  const journal = await machine.must("journalctl", "-u", "godwit", "-p", "err", "-o", "cat", "--no-pager");
  expect(journal).toMatch(/^error watchdog starved /m);
}

async function killAndStop(): Promise<void> {
  await install();
  await machine.must("systemctl", "start", "godwit.service");
  const id = (await machine.must("godwit", "id")).trim();
  const first = await pid();
  await kill("KILL");
  await machine.until("the restart", async () => {
    const { ActiveState, MainPID } = await machine.show("godwit.service", "ActiveState", "MainPID");
    return ActiveState === "active" && Number(MainPID) !== first;
  });
  expect(await machine.must("godwit", "status", "--json")).toContain(`"id":"${id}"`);
  await machine.must("systemctl", "stop", "godwit.service");
  const { ActiveState, Result, ExecMainStatus } = await machine.show(
    "godwit.service",
    ...["ActiveState", "Result", "ExecMainStatus"],
  );
  expect({ ActiveState, Result, ExecMainStatus }).toEqual({
    ActiveState: "inactive",
    Result: "success",
    ExecMainStatus: "0",
  });
  const journal = await machine.must("journalctl", "-u", "godwit", "-o", "cat", "--no-pager");
  expect(journal).toContain("godwit.service: Deactivated successfully.");
  expect((await machine.call("test", "-e", "/run/godwit")).code).toBe(1);
  expect((await machine.must("godwit", "id")).trim()).toBe(id);
}

async function wrongConfig(): Promise<void> {
  await install();
  machine.write("/etc/godwit/godwit.toml", '[node]\ncallsing = "DUN-A"\n');
  expect((await machine.call("systemctl", "start", "godwit.service")).code).not.toBe(0);
  const shown = await machine.show("godwit.service", "ActiveState", "ExecMainStatus", "NRestarts");
  expect(shown).toEqual({ ActiveState: "failed", ExecMainStatus: "78", NRestarts: "0" });
  const journal = await machine.must("journalctl", "-u", "godwit", "-p", "err", "-o", "cat", "--no-pager");
  expect(journal).toContain("node.callsing");
}

async function reload(): Promise<void> {
  await install();
  await machine.must("systemctl", "start", "godwit.service");
  const before = await pid();
  const config = await machine.must("cat", "/etc/godwit/godwit.toml");
  machine.write(
    "/etc/godwit/godwit.toml",
    `${config}\n[services.telex]\ntype = "telex"\nlisten = "127.0.0.1:8023"\n`,
  );
  await machine.must("systemctl", "reload", "godwit.service");
  await machine.until("the new service", async () =>
    (await machine.must("journalctl", "-u", "godwit", "-o", "cat")).includes("name=telex"),
  );
  await machine.until(
    "readiness",
    async () => (await machine.show("godwit.service", "SubState"))["SubState"] === "running",
  );
  expect(await pid()).toBe(before);
}

async function credentials(): Promise<void> {
  await install();
  machine.write("/etc/godwit/godwit.toml", '[node]\nnetwork_secret = "credential:network_key"\n');
  expect((await machine.call("systemctl", "start", "godwit.service")).code).not.toBe(0);
  const said = await machine.must("journalctl", "-u", "godwit", "-o", "cat", "--no-pager");
  expect(said).toContain("credential:network_key");
  expect(said).toContain("LoadCredential=network_key:/path");
  // Root's alone: the node's user could not read it where it lies.
  machine.write("/etc/godwit/network.key", "Vt0c8Jq2nXe5Lr7bYk1Hs9Gd4Mw6Zf3Pa-QuTxRoNiB\n", 0o600);
  await dropIn("godwit.service", "[Service]\nLoadCredential=network_key:/etc/godwit/network.key\n");
  await machine.must("systemctl", "reset-failed", "godwit.service");
  await machine.must("systemctl", "start", "godwit.service");
  expect(await machine.must("godwit", "status", "--json")).toContain('"open":false');
  const environment = await machine.must("cat", `/proc/${await pid()}/environ`);
  expect(environment).not.toContain("sixteen");
}

async function socketActivation(): Promise<void> {
  await install("--api");
  await machine.must("systemctl", "start", "godwit.socket");
  expect((await machine.show("godwit.service", "ActiveState"))["ActiveState"]).toBe("inactive");
  // The first call starts the node, and is answered by it.
  const first = await machine.fromItsNetwork(
    `const r = await fetch("http://127.0.0.1:8000/health"); console.log(r.status, (await r.json()).status);`,
  );
  expect(first.trim()).toBe("200 ok");
  expect((await machine.show("godwit.service", "ActiveState"))["ActiveState"]).toBe("active");
  // The unix socket has the authority of its file mode; TCP asks for a token.
  expect((await machine.must("stat", "-c", "%a", "/run/godwit.sock")).trim()).toBe("660");
  const token = (
    await machine.must("godwit", "token", "new", "--scope", "read", "--socket", "/run/godwit.sock")
  ).trim();
  const calls = await machine.fromItsNetwork(`
    const url = "http://127.0.0.1:8000";
    const status = async (path, init) => (await fetch(url + path, init)).status;
    console.log(await status("/tokens"), await status("/mesh/status"),
      await status("/mesh/status", { headers: { host: "evil.example" } }),
      await status("/messages", { headers: { authorization: "Bearer ${token}" } }));
  `);
  expect(calls.trim()).toBe("401 200 403 200");
  const restarting = machine.must("systemctl", "restart", "godwit.service");
  const during = await machine.fromItsNetwork(`
    let fine = 0;
    for (let i = 0; i < 30; i++) {
      const response = await fetch("http://127.0.0.1:8000/health", { headers: { connection: "close" } });
      if (response.status === 200) fine++;
      await Bun.sleep(20);
    }
    console.log(fine);
  `);
  await restarting;
  expect(during.trim()).toBe("30");
  expect(await machine.must("godwit", "health", "--socket", "/run/godwit.sock")).toStartWith("ok");
  expect((await machine.show("godwit.service", "NRestarts", "Result"))["Result"]).toBe("success");
}

async function openSocket(): Promise<void> {
  await install("--api");
  await dropIn("godwit.socket", "[Socket]\nSocketMode=0666\n");
  await dropIn("godwit.service", "[Service]\nRestart=no\n");
  await machine.must("systemctl", "start", "godwit.socket");
  expect((await machine.call("systemctl", "start", "godwit.service")).code).not.toBe(0);
  const said = await machine.must("journalctl", "-u", "godwit", "-o", "cat", "--no-pager");
  expect(said).toContain("everybody may open /run/godwit.sock; set SocketMode=0660");
}

async function bakedTree(): Promise<void> {
  const baked = await Machine.boot(async ({ root }) => {
    const done = await run([binaryPath, "install", "--systemd", "--api", "--root", root]);
    expect({ code: done.code, output: done.code === 0 ? "" : done.output }).toEqual({ code: 0, output: "" });
  });
  try {
    await baked.until("the node", async () => {
      const { ActiveState, StatusText } = await baked.show("godwit.service", "ActiveState", "StatusText");
      return ActiveState === "active" && StatusText!.includes("peers linked");
    });
    for (const socket of ["/run/godwit/godwit.sock", "/run/godwit.sock"])
      expect(await baked.must("godwit", "health", "--socket", socket)).toStartWith("ok");
    // What was installed from outside goes from inside.
    await baked.must("godwit", "install", "--systemd", "--undo");
    expect((await baked.show("godwit.service", "LoadState"))["LoadState"]).toBe("not-found");
  } finally {
    await baked.close();
  }
}

async function undoExactly(): Promise<void> {
  const before = await tree();
  await install("--api");
  await machine.must("systemctl", "start", "godwit.service");
  const kept = await machine.must("/root/godwit", "install", "--systemd", "--undo");
  expect(kept).toContain("remove: /usr/local/bin/godwit");
  expect((await machine.show("godwit.service", "LoadState"))["LoadState"]).toBe("not-found");
  expect(existsSync(machine.path("/etc/godwit/godwit.toml"))).toBe(true);
  expect(existsSync(machine.path("/var/lib/private/godwit/identity.key"))).toBe(true);
  // Nothing is installed any more, and a second undo says so.
  expect((await machine.call("/root/godwit", "install", "--systemd", "--undo")).code).toBe(2);
  await install("--api");
  await machine.must("/root/godwit", "install", "--systemd", "--undo", "--purge");
  expect(await tree()).toEqual(before);
}

/** Every path of what an installation may touch, with the bytes of what is small. */
async function tree(): Promise<string[]> {
  const names = await machine.must(
    "sh",
    "-c",
    "find /etc /usr/local /var/lib -not -path '/var/lib/systemd/*' -not -path '/var/lib/private*' | sort; find /etc /usr/local -type f | sort | xargs sha256sum",
  );
  return names.trim().split("\n");
}
