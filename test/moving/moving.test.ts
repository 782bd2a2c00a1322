/**
 * docs/moving.md, line by line: what stands in its right column is run. A command in three nodes, a request, a setting that is accepted; what
 * is none of these has to say that there is nothing.
 */
import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { randomBytes } from "node:crypto";
import { existsSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { telexKeys } from "../../runtime/cli/commands/import-telex.ts";
import { oldVariables } from "../../runtime/config/old-variables.ts";
import { buildGodwit } from "../../scripts/build.ts";
import { binaryPath, freePort, Lab, type LabNode } from "../../scripts/lab.ts";
import { root } from "../../scripts/lib.ts";

interface Row {
  readonly system: string;
  readonly there: string;
  readonly here: string;
}

const page = readFileSync(join(root, "docs/moving.md"), "utf8");
const rows = rowsOf(page);
/** A command that has not ended by then goes on until it is told to stop: that is what it is for. */
const ENDLESS_MS = 5_000;
const TIMEOUT_MS = 60_000;

function rowsOf(text: string): Row[] {
  let system = "";
  return text.split("\n").flatMap((line): Row[] => {
    system = /^## (.*)$/.exec(line)?.[1] ?? system;
    const [, there, here] = line.split(/(?<!\\)\|/).map((cell) => cell.trim());
    if (!line.startsWith("|") || there === undefined || here === undefined || /^-+$/.test(there)) return [];
    return there === "there" ? [] : [{ system, there, here }];
  });
}

const codeIn = (cell: string): string[] => [...cell.matchAll(/`([^`]+)`/g)].map(([, code]) => code!);

let lab: Lab;
let a: LabNode;
let place: string;

beforeAll(async () => {
  if (!existsSync(binaryPath)) await buildGodwit(undefined, binaryPath);
  lab = await Lab.create();
  const secret = join(lab.dir, "mesh.key");
  writeFileSync(secret, randomBytes(32), { mode: 0o600 });
  const nodeExtra = `network_secret = "file:${secret}"`;
  const c = await lab.add({ callsign: "NYC-C", nodeExtra: `${nodeExtra}\ntags = ["auto", "storage"]` });
  const b = await lab.add({ callsign: "LON-B", peers: [c.endpoint], nodeExtra });
  a = await lab.add({ callsign: "DUN-A", peers: [b.endpoint], nodeExtra });
  await Promise.all([a, b, c].map((node) => node.start()));
  await a.until(
    "a way to all",
    async () => {
      const { names } = await a.json<{ names: { name: string }[] }>("/mesh/names");
      const { members } = await a.json<{ members: { state: string }[] }>("/mesh/members");
      return (
        ["LON-B", "NYC-C"].every((name) => names.some((one) => one.name === name)) && members.length === 3
      );
    },
    20_000,
  );
  place = join(lab.dir, "place");
  mkdirSync(join(place, "par"), { recursive: true });
  mkdirSync(join(place, "bin"));
  writeFileSync(join(place, "bin/godwit"), `#!/bin/sh\nexec ${binaryPath} "$@"\n`, { mode: 0o755 });
  writeFileSync(join(place, "network.key"), randomBytes(32), { mode: 0o600 });
  writeFileSync(join(place, "gossip.key"), randomBytes(32).toString("base64"), { mode: 0o600 });
}, TIMEOUT_MS);
afterAll(() => lab.close());

/** Paths of the page as they are in this place. */
const local = (text: string): string =>
  text
    .replaceAll("/etc/telex/config.json", join(place, "telex.json"))
    .replaceAll("file:", `file:${place}/`)
    .replaceAll("--out network.key", `--out ${join(place, `new-${crypto.randomUUID()}.key`)}`);

/** What the variables of the replaced systems said, for commands that read them. */
const OLD_ENV = {
  ...{ NODE_ID: "DUN-A", LISTEN_HOST: "127.0.0.1", LISTEN_PORT: "8000", LOG_LEVEL: "INFO" },
  ...{ TELEX_NODE_ID: "DUNA", TELEX_LISTEN_HOST: "127.0.0.1" },
};

async function typed(line: string): Promise<void> {
  writeFileSync(
    join(place, "telex.json"),
    JSON.stringify({ node_id: "DUN-A", listen_host: "127.0.0.1", listen_port: freePort(), neighbors: [] }),
  );
  const isNode = /^godwit run\b/.test(line);
  const state = join(place, crypto.randomUUID());
  const own = {
    GODWIT_NODE__STATE_DIR: state,
    GODWIT_API__LISTEN: "off",
    GODWIT_TRANSPORTS__LAN__LISTEN: '["127.0.0.1:0"]',
  };
  const child = Bun.spawn(["sh", "-c", `exec ${local(line)}`], {
    cwd: place,
    env: {
      PATH: `${join(place, "bin")}:${process.env["PATH"] ?? ""}`,
      HOME: place,
      ...(isNode ? own : { GODWIT_CONFIG: a.configPath }),
      ...(line.includes("--env") ? OLD_ENV : {}),
    },
    stdin: "ignore",
    stdout: "pipe",
    stderr: "pipe",
  });
  const output = Promise.all([new Response(child.stdout).text(), new Response(child.stderr).text()]);
  const stopped = setTimeout(() => child.kill(isNode ? "SIGTERM" : "SIGINT"), ENDLESS_MS);
  const code = await child.exited;
  clearTimeout(stopped);
  const [out, err] = await output;
  expect({ line, code, err: code === 0 ? "" : err }).toEqual({ line, code: 0, err: "" });
  expect(isNode ? err : out).not.toBe("");
  if (isNode) expect(err).toMatch(/node started/);
}

async function asked(path: string): Promise<void> {
  const response = await a.api(path);
  expect([path, response.status]).toEqual([path, 200]);
  expect((await response.text()).length).toBeGreaterThan(1);
}

/** The type of each table of plugins that the page has settings of, with what it must have besides. */
const needs: Readonly<Record<string, string>> = {
  "services.radio": 'type = "radio"\n',
  "services.telex": 'type = "telex"\n',
  "discovery.neighbours": 'type = "static"\n',
  "discovery.serf": 'type = "serf"\n',
  "transports.lan": 'type = "tcp"\n',
  "transports.yggdrasil": 'type = "yggdrasil"\n',
  "transports.wireguard": 'type = "wireguard"\n',
  "transports.tor": 'type = "tor"\n',
};

async function accepted(config: string, env: Record<string, string> = {}): Promise<void> {
  const path = join(place, `${crypto.randomUUID()}.toml`);
  writeFileSync(path, config);
  const child = Bun.spawn([binaryPath, "config", "check", "--config", path], {
    cwd: place,
    env: { HOME: place, PATH: process.env["PATH"] ?? "", ...env },
    stdout: "pipe",
    stderr: "pipe",
  });
  const err = await new Response(child.stderr).text();
  const code = await child.exited;
  expect({ config, code, err: code === 0 ? "" : err }).toEqual({ config, code: 0, err: "" });
}

/** In a tree of its own, where it was installed before: this machine is nobody's to change. */
async function inTree(line: string): Promise<void> {
  const tree = join(place, `tree-${crypto.randomUUID()}`);
  mkdirSync(tree);
  await typed(`godwit install --systemd --root ${tree}`);
  await typed(`${line} --root ${tree}`);
}

/** What a piece of code in the right column is checked by; undefined: it is a word of its line, and nothing that is run. */
function checkOf(code: string): (() => Promise<void>) | undefined {
  const setting = /^\[([a-z.]+)\] (.+)$/.exec(code);
  if (setting !== null)
    return () =>
      accepted(`[${setting[1]}]\n${needs[setting[1]!] ?? ""}${local(setting[2]!).replaceAll("; ", "\n")}\n`);
  const variable = /^(GODWIT_[A-Z_]+)=(.+)$/.exec(code);
  if (variable !== null) return () => accepted("", { [variable[1]!]: variable[2]! });
  if (code.startsWith("GET /")) return () => asked(code.slice("GET ".length));
  // Of itself it asks for an invitation; test/join and test/documented give it one.
  if (code === "godwit join" || code === "godwit engine") return () => typed(`${code} --help`);
  if (code === "godwit forward 127.0.0.1:0 NYC-C 127.0.0.1:22") return () => typed("godwit forward --help");
  if (code.startsWith("godwit install ")) return () => inTree(code);
  return code.startsWith("godwit ") ? () => typed(code) : undefined;
}

test("what a machine says of itself comes to all others, and chooses among members", async () => {
  const chosen = async (...tags: string[]) => {
    const options = tags.flatMap((tag) => ["--tag", tag]);
    const child = Bun.spawn([binaryPath, "members", "--json", "--config", a.configPath, ...options], {
      stdout: "pipe",
    });
    const { members } = (await new Response(child.stdout).json()) as {
      members: { callsign: string; tags: string[] }[];
    };
    return members.map(({ callsign }) => callsign);
  };
  expect(await chosen("storage")).toEqual(["NYC-C"]);
  expect(await chosen("storage", `arch-${process.arch}`)).toEqual(["NYC-C"]);
  expect(await chosen("storage", "no-such-thing")).toEqual([]);
  expect((await chosen()).length).toBe(3);
});

describe("docs/moving.md", () => {
  test("has a table for each of the five systems, with all their variables", () => {
    expect(new Set(rows.map(({ system }) => system)).size).toBe(5);
    const theirs = rows.flatMap(({ there }) => codeIn(there));
    for (const name of Object.keys(oldVariables)) expect(theirs).toContain(name);
    const telex = rows
      .filter(({ system }) => system === "Project Telex")
      .flatMap(({ there }) => codeIn(there));
    for (const key of telexKeys) expect(telex).toContain(key);
  });

  test.each(rows.map((row) => [`${row.system}: ${row.there}`, row] as const))(
    "%s",
    async (_, { here }) => {
      const checks = codeIn(here).flatMap((code) => checkOf(code) ?? []);
      if (checks.length === 0) expect(here).toMatch(/^nothing/);
      for (const check of checks) await check();
    },
    TIMEOUT_MS,
  );
});
