/**
 * Real nodes of the compiled binary, and machines with nothing but a token: closed and open meshes, dead inviters, tokens
 * used twice, stolen, expired or mistyped, restarts after joining.
 */
import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { existsSync } from "node:fs";
import { mkdir, readFile, stat, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { inviteSecret } from "../../runtime/identity/invite.ts";
import { formatToken, parseToken } from "../../runtime/identity/token.ts";
import { buildGodwit } from "../../scripts/build.ts";
import { binaryPath, freePort, Lab, LabNode } from "../../scripts/lab.ts";

const SECRET = "Vt0c8Jq2nXe5Lr7bYk1Hs9Gd4Mw6Zf3Pa-QuTxRoNiB";

let lab: Lab;

beforeAll(async () => {
  if (!existsSync(binaryPath)) await buildGodwit(undefined, binaryPath);
  lab = await Lab.create();
}, 60_000);
afterAll(() => lab.close());

interface CliResult {
  readonly code: number;
  readonly stdout: string;
  readonly stderr: string;
}

/** A command of the binary, in a folder and an environment of its own. */
async function godwit(
  args: readonly string[],
  options: { readonly cwd?: string; readonly env?: Readonly<Record<string, string>> } = {},
): Promise<CliResult> {
  const child = Bun.spawn([binaryPath, ...args], {
    cwd: options.cwd ?? lab.dir,
    env: { PATH: process.env["PATH"] ?? "", NO_COLOR: "1", ...options.env },
    stdin: "ignore",
    stdout: "pipe",
    stderr: "pipe",
    timeout: 45_000,
    killSignal: "SIGKILL",
  });
  const [stdout, stderr, code] = await Promise.all([
    new Response(child.stdout).text(),
    new Response(child.stderr).text(),
    child.exited,
  ]);
  return { code, stdout, stderr };
}

/** Three nodes in a line, all linked; closed unless `isOpen`. Names begin with `tag`. */
async function mesh(tag: string, isOpen = false): Promise<readonly [LabNode, LabNode, LabNode]> {
  const key = join(lab.dir, `${tag}.key`);
  await writeFile(key, `${SECRET}${tag}\n`, { mode: 0o600 });
  const nodes: LabNode[] = [];
  for (const letter of ["A", "B", "C"])
    nodes.push(
      await lab.add({
        callsign: `${tag}-${letter}`,
        network: tag,
        peers: nodes.slice(-1).map(({ endpoint }) => endpoint),
        nodeExtra: isOpen ? "" : `network_secret = "file:${key}"`,
      }),
    );
  const [a, b, c] = nodes as [LabNode, LabNode, LabNode];
  await Promise.all(nodes.map((node) => node.start()));
  for (const node of nodes)
    await node.until("routes to both others", async () => (await routes(node)).size >= 2, 20_000);
  // A node is known a moment before where it can be reached.
  for (const node of nodes)
    await node.until(
      "addresses of all three in a token",
      async () => parseToken(await invite(node)).addresses.length === 3,
      10_000,
      100,
    );
  return [a, b, c];
}

async function routes(node: LabNode): Promise<Set<string>> {
  const answer = await node.json<{ routes: { callsign: string | null }[] }>("/mesh/routes");
  return new Set(answer.routes.flatMap(({ callsign }) => callsign ?? []));
}

async function invite(node: LabNode, ...options: string[]): Promise<string> {
  const { code, stdout, stderr } = await godwit(["invite", "--socket", node.socketPath, ...options]);
  expect(`${code} ${stderr}`).toStartWith("0 ");
  return stdout.trim();
}

let machines = 0;
/** A machine with an empty folder; its ports come from the environment, as they would in a container. */
async function machine(): Promise<{
  dir: string;
  config: string;
  env: Record<string, string>;
  join(token: string, ...args: string[]): Promise<CliResult>;
  run(token?: string): LabNode;
}> {
  const dir = join(lab.dir, `machine-${++machines}`);
  await mkdir(dir);
  const config = join(dir, "godwit.toml");
  const linkPort = freePort();
  const env: Record<string, string> = {
    GODWIT_NODE__STATE_DIR: join(dir, "state"),
    GODWIT_TRANSPORTS__LAN__LISTEN: JSON.stringify([`127.0.0.1:${linkPort}`]),
    GODWIT_API__LISTEN: "false",
  };
  return {
    dir,
    config,
    env,
    join: (token, ...args) => godwit(["join", token, "--config", config, ...args], { cwd: dir, env }),
    run(token) {
      const node = new LabNode(
        dir,
        { callsign: "-", env: token === undefined ? env : { ...env, GODWIT_JOIN: token } },
        () => false,
      );
      lab.nodes.push(node);
      return node;
    },
  };
}

/** The machine's node is up and has a route to all of `callsigns`. */
async function reachesAll(node: LabNode, callsigns: readonly string[]): Promise<void> {
  await node.until(
    `routes to ${callsigns.join(", ")}`,
    async () => {
      const known = await routes(node);
      return callsigns.every((callsign) => known.has(callsign));
    },
    25_000,
  );
}

describe("a closed mesh", () => {
  test("an invitation need not stand where every user of the machine can read it: a file or standard input will do", async () => {
    const [a] = await mesh("FIL");
    const typed = await machine();
    const path = join(typed.dir, "invitation");
    await writeFile(path, `${await invite(a)}\n`, { mode: 0o600 });
    const piped = Bun.spawn([binaryPath, "join", "-", "--config", typed.config], {
      env: { PATH: process.env["PATH"] ?? "", ...typed.env },
      stdin: Bun.file(path),
      stdout: "ignore",
      stderr: "pipe",
    });
    expect([await piped.exited, await new Response(piped.stderr).text()]).toEqual([0, ""]);
    const filed = await machine();
    await writeFile(path, `${await invite(a)}\n`, { mode: 0o600 });
    const addresses = ["--listen", "127.0.0.1:4861", "--api", "127.0.0.1:8001"];
    const joined = await godwit(["join", "--file", path, "--config", filed.config, ...addresses], {
      env: filed.env,
    });
    expect([joined.code, joined.stderr]).toEqual([0, ""]);
    const written = await readFile(filed.config, "utf8");
    expect(written).toContain('listen = ["127.0.0.1:4861"]');
    expect(written).toContain('listen = "127.0.0.1:8001"');
    const baked = await machine();
    await writeFile(path, `${await invite(a)}\n`, { mode: 0o600 });
    const node = baked.run(`file:${path}`);
    await node.start(30_000);
    await reachesAll(node, ["FIL-A"]);
    expect(await readFile(`/proc/${node.pid!}/environ`, "utf8")).not.toContain("godwit1");
    await node.kill("SIGTERM");
  }, 120_000);

  test("a machine that joins with a configuration of its own name keeps its identity beside it, and runs with that", async () => {
    const [a] = await mesh("BES");
    const { dir } = await machine();
    const config = join(dir, "par.toml");
    const addresses = ["--listen", `127.0.0.1:${freePort()}`, "--api", "127.0.0.1:0"];
    const { code, stdout, stderr } = await godwit(
      ["join", await invite(a), "--config", config, "--json", ...addresses],
      { cwd: dir, env: { HOME: dir } },
    );
    expect([code, stderr]).toEqual([0, ""]);
    const { id, state_dir: place } = JSON.parse(stdout) as { id: string; state_dir: string };
    expect(place).toBe(join(dir, "par.state"));
    expect(await readFile(config, "utf8")).toContain(`state_dir = "${place}"`);
    expect((await godwit(["id", "--config", config])).stdout).toContain(id);
  }, 60_000);

  test("a token from each of three members lets a machine with an empty folder in, for good", async () => {
    const nodes = await mesh("TRI");
    for (const [index, node] of nodes.entries()) {
      const token = await invite(node, "--callsign", `NEW-${index}`);
      expect(token).toMatch(/^godwit1[a-z0-9]+$/);
      expect(token).not.toContain(SECRET);
      const newcomer = await machine();
      const { code, stdout, stderr } = await newcomer.join(token, "--json");
      expect(`${code} ${stderr}`).toBe("0 ");
      const told = JSON.parse(stdout) as { callsign: string; network: string; secrets: string[] };
      expect(told).toMatchObject({ callsign: `NEW-${index}`, network: "TRI" });
      expect((await stat(told.secrets[0]!)).mode & 0o777).toBe(0o600);
      expect(await readFile(told.secrets[0]!, "utf8")).toBe(`${SECRET}TRI\n`);
      const running = newcomer.run();
      await running.start();
      await reachesAll(running, ["TRI-A", "TRI-B", "TRI-C"]);
      await nodes[1].until(
        "a route to the newcomer",
        async () => (await routes(nodes[1])).has(`NEW-${index}`),
        20_000,
      );
      await running.kill("SIGKILL");
      await running.start();
      await reachesAll(running, ["TRI-A", "TRI-B", "TRI-C"]);
    }
    await Promise.all(lab.nodes.map((node) => node.kill("SIGKILL")));
  }, 120_000);

  test("the inviter and one more are dead: the token still works, once, and says so the second time", async () => {
    const [a, b, c] = await mesh("TWO");
    const token = await invite(a);
    await a.kill("SIGKILL");
    await b.kill("SIGKILL");
    const first = await machine();
    expect((await first.join(token)).stderr).toBe(
      "godwit: every user of this machine can read an argument, and shells keep it: better godwit join -, or --file PATH\n",
    );
    const thief = await machine();
    const stolen = await thief.join(token, "--json");
    expect(stolen.code).toBe(1);
    expect(JSON.parse(stolen.stderr)).toMatchObject({ code: "GODWIT_INVITE_USED" });
    expect(existsSync(thief.config)).toBe(false);
    expect(existsSync(join(thief.dir, "state/network.key"))).toBe(false);
    // Known at all who were there or come back, over restarts too.
    await c.kill("SIGKILL");
    await Promise.all([b.start(), c.start()]);
    await b.until("a route to TWO-C", async () => (await routes(b)).has("TWO-C"), 20_000);
    await c.kill("SIGKILL");
    await b.until("the loss of TWO-C", async () => !(await routes(b)).has("TWO-C"), 20_000);
    expect(JSON.parse((await thief.join(token, "--json")).stderr)).toMatchObject({
      code: "GODWIT_INVITE_USED",
    });
    // The same machine may come again: its first try may have died half way.
    await Bun.file(first.config).delete();
    expect((await first.join(token)).stderr).toBe(
      "godwit: every user of this machine can read an argument, and shells keep it: better godwit join -, or --file PATH\n",
    );
    await Promise.all(lab.nodes.map((node) => node.kill("SIGKILL")));
  }, 120_000);

  test("both sides of a partition take the same token: on heal the conflict names both nodes", async () => {
    const [a, b, c] = await mesh("CUT");
    const token = await invite(a);
    await b.kill("SIGKILL");
    const left = await machine();
    const right = await machine();
    const ids: string[] = [];
    // Each side of the partition is simulated by the other being down; what it knows survives that.
    for (const [down, up, newcomer] of [
      [c, a, left],
      [a, c, right],
    ] as const) {
      await down.kill("SIGKILL");
      await up.start();
      const answer = await newcomer.join(token, "--json");
      expect(answer.stderr).toBe("");
      ids.push((JSON.parse(answer.stdout) as { id: string }).id);
    }
    await Promise.all([a.start(), b.start()]);
    await a.until(
      "the warning",
      async () => /invitation used too often/.test(`${a.logTail}${b.logTail}`),
      20_000,
    );
    for (const id of ids) expect(`${a.logTail}${b.logTail}${c.logTail}`).toContain(id);
    await Promise.all(lab.nodes.map((node) => node.kill("SIGKILL")));
  }, 120_000);

  test("a first start with nothing but a token, whose member comes only later", async () => {
    const [a, b, c] = await mesh("IMG");
    const token = await invite(b, "--callsign", "IMG-X");
    await Promise.all([a.kill("SIGKILL"), b.kill("SIGKILL"), c.kill("SIGKILL")]);
    const image = await machine();
    const node = image.run(token);
    const started = node.start(40_000);
    started.catch(() => {});
    const endMs = performance.now() + 20_000;
    while (!/not joined yet/.test(node.logTail) && performance.now() < endMs) await Bun.sleep(20);
    expect(node.logTail).toContain("not joined yet");
    await c.start();
    await started;
    await reachesAll(node, ["IMG-C"]);
    await node.kill("SIGKILL");
    await node.start();
    expect(node.logTail).toContain("invitation not needed");
    await Promise.all(lab.nodes.map((one) => one.kill("SIGKILL")));
  }, 120_000);

  test("an expired token, and one whose expiry somebody moved", async () => {
    const nodes = await mesh("EXP");
    const token = parseToken(await invite(nodes[0]));
    const { invite: made, secret } = token.membership!;
    const past = { ...made, expiresAtS: Math.floor(Date.now() / 1_000) - 3_600 };
    const key = new TextEncoder().encode(`${SECRET}EXP`);
    const expired = formatToken({
      ...token,
      membership: { invite: past, secret: inviteSecret(key, past, "EXP") },
    });
    const newcomer = await machine();
    const late = await newcomer.join(expired, "--json");
    expect(JSON.parse(late.stderr)).toMatchObject({ code: "GODWIT_INVITE_EXPIRED" });
    const moved = { ...made, expiresAtS: made.expiresAtS + 86_400 };
    const stretched = await newcomer.join(
      formatToken({ ...token, membership: { invite: moved, secret } }),
      "--json",
    );
    expect(JSON.parse(stretched.stderr)).toMatchObject({ code: "GODWIT_JOIN_UNREACHABLE" });
    expect(existsSync(newcomer.config)).toBe(false);
    await Promise.all(lab.nodes.map((node) => node.kill("SIGKILL")));
  }, 120_000);

  test("what is wrong with a token is said: typo, network, silence", async () => {
    const [a, b, c] = await mesh("BAD");
    const token = await invite(a);
    const newcomer = await machine();
    const wrong = token.at(40) === "q" ? "p" : "q";
    const typo = await newcomer.join(`${token.slice(0, 40)}${wrong}${token.slice(41)}`);
    expect(typo.code).toBe(1);
    expect(typo.stderr).toContain(`character 41 is "${wrong}" and should be "${token.at(40)}"`);
    await Promise.all([a, b, c].map((node) => node.kill("SIGKILL")));
    const dead = await newcomer.join(token, "--json");
    const problem = JSON.parse(dead.stderr) as { code: string; detail: string };
    expect(problem.code).toBe("GODWIT_JOIN_UNREACHABLE");
    for (const { endpoint } of [a, b, c]) expect(problem.detail).toContain(endpoint);
    const [x] = await mesh("OTHER");
    const running = await godwit(["join", token, "--config", x.configPath]);
    expect(running.stderr).toContain('network "BAD"');
    await Promise.all(lab.nodes.map((node) => node.kill("SIGKILL")));
  }, 120_000);
});

test("an open mesh: the token holds addresses; a running node takes them as hints", async () => {
  const [a, b, c] = await mesh("OPN", true);
  const token = await invite(b);
  const newcomer = await machine();
  const { code, stderr } = await newcomer.join(token, "--callsign", "OPN-N");
  expect(`${code} ${stderr}`).toBe("0 ");
  const node = newcomer.run();
  await node.start();
  await reachesAll(node, ["OPN-A", "OPN-B", "OPN-C"]);
  const lonely = await lab.add({ callsign: "OPN-L", network: "OPN" });
  await lonely.start();
  const told = await godwit(["join", token, "--config", lonely.configPath]);
  expect(told.stderr).toBe("");
  await reachesAll(lonely, ["OPN-A", "OPN-B", "OPN-C"]);
  const { hints } = await lonely.json<{ hints: { source: string; verdict: string; endpoint: string }[] }>(
    "/mesh/discovery",
  );
  const joined = hints.filter(({ source }) => source === "join");
  expect(joined.map(({ endpoint }) => endpoint).sort()).toEqual([a, b, c].map((one) => one.endpoint).sort());
  for (const { verdict } of joined) expect(verdict).toBe("linked");
  const shown = await godwit(["discovery", "--config", lonely.configPath]);
  expect(shown.stdout).toContain("linked");
  await Promise.all(lab.nodes.map((one) => one.kill("SIGKILL")));
}, 120_000);
