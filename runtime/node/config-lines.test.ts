/** Whatever is wrong with a configuration that parses: the error says on which line of the file it stands. */
import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { ConfigError, loadConfig } from "../config/load.ts";
import { checkConfig } from "./node.ts";

const ID = "a".repeat(52);
const HERE = "# here";

let folder: string;
beforeAll(() => void (folder = mkdtempSync(join(tmpdir(), "godwit-lines-"))));
afterAll(() => rmSync(folder, { recursive: true }));

async function errorOf(
  text: string,
  env: Record<string, string> = {},
  name = "godwit.toml",
): Promise<ConfigError> {
  const path = join(folder, name);
  writeFileSync(path, text);
  const state = { STATE_DIRECTORY: join(folder, "state"), PATH: "" };
  try {
    await checkConfig(await loadConfig({ path, env: { ...state, ...env }, isRoot: true }));
  } catch (error) {
    if (error instanceof ConfigError) return error;
    throw error;
  }
  throw new Error("accepted");
}

const TOKEN = 'secret = "env:TOKEN"\nscopes = ["read"]\n';
const lan = (more: string) => `[transports.lan]\ntype = "tcp"\n${more}\n`;

/** Each kind of mistake that is found after the text was parsed; the line at fault says so. */
const mistakes: Readonly<
  Record<string, readonly [path: string, text: string, env?: Record<string, string>]>
> = {
  "a section that there is not": ["nodes", `[peers]\n[nodes] ${HERE}\n`],
  "a key that there is not": ["node.calsign", `[node]\nnetwork = "a"\ncalsign = "DUN-A" ${HERE}\n`],
  "a key of another section": ["node.listen", `[node]\n\nlisten = "127.0.0.1:1" ${HERE}\n`],
  "a wrong value": ["delivery.lifetime", `[delivery]\nlifetime = "2 weeks" ${HERE}\n`],
  "a wrong item of a list": [
    "peers.dial_networks[1]",
    `[peers]\ndial_networks = [\n"10.0.0.0/8",\n"ten", ${HERE}\n]\n`,
  ],
  "a dotted key": ["node.log_level", `# first\nnode.log_level = "loud" ${HERE}\n`],
  "a value within an inline table": [
    "forwards[1].to",
    `[[forwards]]\nlisten = "127.0.0.1:1"\nto = "LON-B"\ntarget = "a:1"\n[[forwards]]\nlisten = "127.0.0.1:2"\nto = "nobody at all" ${HERE}\ntarget = "a:1"\n`,
  ],
  "what is missing in a table of a list": [
    "api.tokens[1].scopes",
    `[[api.tokens]]\n${TOKEN}[[api.tokens]] ${HERE}\nsecret = "env:TOKEN"\n`,
    { TOKEN: "0123456789abcdef" },
  ],
  "a name of an instance": ["transports.Lan", `[transports.Lan] ${HERE}\ntype = "tcp"\n`],
  "a location of another callsign": [
    "node.location",
    `[node]\ncallsign = "DUN-A"\nlocation = "LON" ${HERE}\n`,
  ],
  "one secret twice": [
    "node.network_secret[1]",
    `[node]\nnetwork_secret = [\n"env:TOKEN",\n"env:SAME", ${HERE}\n]\n`,
    { TOKEN: "0123456789abcdef", SAME: "0123456789abcdef" },
  ],
  "a secret that cannot be read": [
    "node.network_secret",
    `[node]\nnetwork_secret = "file:/nowhere/at/all" ${HERE}\n`,
  ],
  "a made-up secret": [
    "node.network_secret",
    `[node]\n# see the manual\nnetwork_secret = "env:TOKEN" ${HERE}\n`,
    { TOKEN: "passwordpassword" },
  ],
  "a token that no header carries": [
    "api.tokens[0].secret",
    `[[api.tokens]]\nscopes = ["read"]\nsecret = "env:TOKEN" ${HERE}\n`,
    { TOKEN: "a token with blanks in it" },
  ],
  "a socket whose path is too long": ["api.socket", `[api]\nsocket = "/${"x".repeat(120)}" ${HERE}\n`],
  "a callsign in two cases": ["names.dun-a", `[names]\n"DUN-A" = "${ID}"\n"dun-a" = "${ID}" ${HERE}\n`],
  "a node that is trusted and blocked": [
    "trust.blocked[0]",
    `[trust]\ntrusted = ["${ID}"]\nblocked = [\n"${ID}" ${HERE}\n]\n`,
  ],
  "a plugin that there is not": ["transports.lan.type", `[transports.lan]\ntype = "tpc" ${HERE}\n`],
  "a key that a plugin does not know": [
    "transports.lan.lisen",
    lan(`listen_ = 1\nlisen = ["[::]:1"] ${HERE}`),
  ],
  "a value that a plugin does not take": [
    "transports.lan.listen[0]",
    lan(`listen = [\n"nowhere" ${HERE}\n]`),
  ],
  "a trust that what comes along cannot have": ["transports.lan.trust", lan(`trust = "untrusted" ${HERE}`)],
  "a grant that what comes along does not need": ["transports.lan.grant", lan(`grant = ["net.udp"] ${HERE}`)],
  "an endpoint that nothing here dials": [
    "discovery.n.peers[1]",
    `${lan("")}[discovery.n]\ntype = "static"\npeers = [\n"tcp://a:1",\n"quic://b:1", ${HERE}\n]\n`,
  ],
  "a port that no endpoint has": [
    "discovery.n.peers[0]",
    `${lan("")}[discovery.n]\ntype = "static"\npeers = ["tcp://a:99999"] ${HERE}\n`,
  ],
};

test.each(Object.entries(mistakes))("%s", async (_, [path, text, env]) => {
  const error = await errorOf(text, env);
  const line = text.split("\n").findIndex((one) => one.includes(HERE)) + 1;
  expect(error.problems.map((one) => `${one.path} ${one.line}`)).toContain(`${path} ${line}`);
  expect(error.message).toContain(`  ${path}, line ${line}\n`);
  // As the command line and the API tell it.
  expect(error.problems.find((one) => one.path === path)).toMatchObject({ line });
});

describe("no line", () => {
  test("of what a variable says: its name", async () => {
    const error = await errorOf('[node]\nlocation = "LON"\ncallsign = "LON-A"\n', {
      GODWIT_NODE__LOCATION: "DUN",
    });
    expect(error.problems).toMatchObject([{ path: "node.location (from GODWIT_NODE__LOCATION)" }]);
    expect(error.problems[0]!.line).toBeUndefined();
  });

  test("of what a variable says to a plugin, either", async () => {
    const error = await errorOf(lan(""), { GODWIT_TRANSPORTS__LAN__LISTEN: '["nowhere"]' });
    expect(error.problems).toMatchObject([
      { path: "transports.lan.listen[0] (from GODWIT_TRANSPORTS__LAN__LISTEN)" },
    ]);
  });

  test("of what does not stand in the file at all", async () => {
    const error = await errorOf("", { STATE_DIRECTORY: `/${"x".repeat(120)}` });
    expect(error.problems).toMatchObject([{ path: "api.socket" }]);
    expect(error.problems[0]!.line).toBeUndefined();
  });
});

test("JSON has lines as well", async () => {
  const error = await errorOf(
    '{\n "node": {\n  "callsign": "DUN-A",\n  "location": "LON"\n }\n}\n',
    {},
    "godwit.json",
  );
  expect(error.problems).toMatchObject([{ path: "node.location", line: 4 }]);
});
