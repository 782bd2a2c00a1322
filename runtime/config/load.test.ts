import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { chmodSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { inspect } from "node:util";
import { configJsonSchema, configKeys, explainConfig } from "./explain.ts";
import { type Config, ConfigError, type ConfigProblem, loadConfig, parseConfig } from "./load.ts";
import { TOKEN_BYTES_MAX } from "./parts.ts";

const ID = "a".repeat(52);
const OTHER_ID = `b${"a".repeat(51)}`;

let folder: string;
beforeAll(() => void (folder = mkdtempSync(join(tmpdir(), "godwit-config-"))));
afterAll(() => rmSync(folder, { recursive: true }));

const parse = (text: string, env: Record<string, string> = {}): Config =>
  parseConfig(text, { env, isRoot: true });

function problems(text: string, env: Record<string, string> = {}): readonly ConfigProblem[] {
  try {
    parse(text, env);
  } catch (error) {
    if (error instanceof ConfigError) return error.problems;
    throw error;
  }
  throw new Error("accepted");
}

function file(name: string, content: string, mode = 0o600): string {
  const path = join(folder, name);
  writeFileSync(path, content);
  chmodSync(path, mode);
  return path;
}

function fifo(): string {
  const path = join(folder, "fifo.key");
  expect(Bun.spawnSync(["mkfifo", "-m", "600", path]).exitCode).toBe(0);
  return path;
}

describe("defaults", () => {
  test("nothing at all is a whole configuration", () => {
    const config = parse("");
    expect(config.node).toEqual({
      callsign: undefined,
      location: undefined,
      network: "godwit",
      networkSecrets: [],
      stateDir: "/var/lib/godwit",
      tags: [],
      clock: "auto",
      logLevel: "info",
      logFormat: "auto",
    });
    expect(config.transports).toEqual([
      {
        name: "lan",
        type: "tcp",
        enabled: true,
        trust: undefined,
        grant: [],
        acceptMissing: [],
        options: { listen: ["[::]:4860"] },
      },
    ]);
    expect(config.api).toEqual({
      listen: [{ host: "127.0.0.1", port: 8000 }],
      publicRead: false,
      socket: "/var/lib/godwit/godwit.sock",
      isProfiled: false,
      tokens: [],
    });
    expect(config.delivery.lifetimeMs).toBe(72 * 3_600_000);
    expect(config.delivery.transitBytesMax).toBe(2 ** 30);
    expect(config.delivery.inboxBytesMax).toBe(256 * 2 ** 20);
  });

  test("state_dir of an ordinary user", () => {
    const of = (env: Record<string, string>) => parseConfig("", { env, isRoot: false }).node.stateDir;
    expect(of({ HOME: "/home/x" })).toBe("/home/x/.local/state/godwit");
    expect(of({ HOME: "/home/x", XDG_STATE_HOME: "/s" })).toBe("/s/godwit");
    // Where the service manager made one, for whoever runs under it.
    expect(of({ HOME: "/", STATE_DIRECTORY: "/var/lib/godwit:/var/lib/other" })).toBe("/var/lib/godwit");
    expect(of({ HOME: "/home/x", STATE_DIRECTORY: "godwit" })).toBe("/home/x/.local/state/godwit");
  });

  test("any configured transport replaces the default one", () => {
    expect(parse('[transports.tor]\ntype = "tor"').transports.map((one) => one.name)).toEqual(["tor"]);
    expect(problems('[transports.lan]\nlisten = ["127.0.0.1:0"]')[0]!.path).toBe("transports.lan.type");
    expect(parse("[transports]").transports.map((one) => one.name)).toEqual(["lan"]);
    expect(parse("", { GODWIT_TRANSPORTS__TOR__TYPE: "tor" }).transports.map((one) => one.name)).toEqual([
      "tor",
    ]);
  });
});

describe("values", () => {
  test("callsign in any case, location derived", () => {
    const { node } = parse('[node]\ncallsign = "dun-a"');
    expect([node.callsign, node.location]).toEqual(["DUN-A", "DUN"]);
    expect(parse('[node]\nlocation = "lon"').node.location).toBe("LON");
  });

  test("plugin tables keep their own keys untouched", () => {
    const [one] = parse(
      '[services.telex]\ntype = "telex"\nenabled = false\nlisten = "x"\nn = { a = 1 }',
    ).services;
    expect(one).toEqual({
      name: "telex",
      type: "telex",
      enabled: false,
      trust: undefined,
      grant: [],
      acceptMissing: [],
      options: { listen: "x", n: { a: 1 } },
    });
  });

  test("JSON with the same keys", () => {
    expect(parse('{"node": {"callsign": "NYC-C"}, "api": {"listen": false}}')).toMatchObject({
      node: { callsign: "NYC-C" },
      api: { listen: [] },
    });
  });

  test.each([
    ['"off"', []],
    ["false", []],
    ['"[::1]:0"', [{ host: "::1", port: 0 }]],
    [
      '["127.0.0.1:1", "10.0.0.1:2"]',
      [
        { host: "127.0.0.1", port: 1 },
        { host: "10.0.0.1", port: 2 },
      ],
    ],
  ])("api.listen = %s", (text, expected) => {
    expect(parse(`[api]\nlisten = ${text}`).api.listen).toEqual(expected);
  });

  test("names and trust", () => {
    const config = parse(`[names]\n"dun-a" = "${ID.toUpperCase()}"\n[trust]\nblocked = ["${OTHER_ID}"]`);
    expect([...config.names]).toEqual([["DUN-A", ID as never]]);
    expect(config.trust.blocked).toEqual([OTHER_ID as never]);
  });
});

describe("refusals", () => {
  test("all problems at once, each with path, expectation, found and suggestion", () => {
    const found = problems(`
      colour = "red"
      [node]
      calsign = "DUN-A"
      log_level = "inof"
      [delivery]
      lifetime = 72
      transit_bytes_max = "1 gib"
      [api]
      listen = "8000"
      transit_messages_max = 5
      [transports.LAN-1]
      type = "tcp"
      [discovery.near]
      peers = []
    `);
    const byPath = Object.fromEntries(found.map((one) => [one.path, one]));
    expect(Object.keys(byPath).sort()).toEqual([
      "api.listen",
      "api.transit_messages_max",
      "colour",
      "delivery.lifetime",
      "delivery.transit_bytes_max",
      "discovery.near.type",
      "node.calsign",
      "node.log_level",
      "transports.LAN-1",
    ]);
    expect(byPath["node.calsign"]!.suggestion).toBe("did you mean callsign?");
    expect(byPath["node.log_level"]).toMatchObject({
      expected: 'one of "debug", "info", "warn", "error"',
      found: '"inof"',
      suggestion: '"info"',
    });
    expect(byPath["delivery.lifetime"]).toMatchObject({ found: "72, a number" });
    expect(byPath["delivery.lifetime"]!.expected).toContain("a number with its unit");
    expect(byPath["delivery.lifetime"]!.suggestion).toContain('"72s"');
    expect(byPath["delivery.transit_bytes_max"]!.suggestion).toBe('"1GiB"');
    expect(byPath["api.listen"]!.suggestion).toBe('"127.0.0.1:8000"');
    expect(byPath["api.transit_messages_max"]!.suggestion).toBe(
      "did you mean delivery.transit_messages_max?",
    );
    expect(byPath["transports.LAN-1"]!.suggestion).toBe('"lan_1"');
    expect(byPath["discovery.near.type"]).toMatchObject({ found: "nothing" });
  });

  test.each([
    ['[node]\ncallsign = "D-A"', "node.callsign", undefined],
    ['[node]\ncallsign = "dun a"', "node.callsign", '"DUN-A"'],
    ['[node]\ncallsign = "dun"', "node.callsign", '"DUN-A"'],
    ['[node]\ncallsign = "DUN-A"\nlocation = "LON"', "node.location", "leave location out"],
    ['[node]\nlocation = "DUN-A"', "node.location", '"DUN"'],
    ["[node]\nnetwork = ''", "node.network", undefined],
    ['[node]\nstate_dir = "here"', "node.state_dir", undefined],
    ['[delivery]\nlifetime = "31d"', "delivery.lifetime", '"31d"'],
    ['[delivery]\nlifetime = "2 weeks"', "delivery.lifetime", '"14d"'],
    ["[delivery]\nneighbour_share = 50", "delivery.neighbour_share", undefined],
    ["[delivery]\ntransit_messages_max = 1.5", "delivery.transit_messages_max", undefined],
    ["[delivery]\nlifetime = 2024-01-01", "delivery.lifetime", undefined],
    ['[api]\nlisten = ["127.0.0.1:99999"]', "api.listen[0]", undefined],
    [
      `[api]\nsocket = "/${"x".repeat(120)}"`,
      "api.socket",
      'a shorter one, like socket = "/run/godwit.sock"',
    ],
    ["node = 3", "node", undefined],
    ['[names]\n"DUN" = "x"', "names.DUN", '"DUN-A"'],
    ['[names]\n"DUN-A" = "x"', "names.DUN-A", undefined],
    [`[names]\n"DUN-A" = "${ID}"\n"dun-a" = "${ID}"`, "names.dun-a", undefined],
    [`[trust]\ntrusted = ["${ID}"]\nblocked = ["${ID}"]`, "trust.blocked[0]", undefined],
    ['[[api.tokens]]\nsecret = "env:T"\nscopes = []', "api.tokens[0].scopes", undefined],
    ['[[api.tokens]]\nsecret = "env:T"\nscopes = ["reed"]', "api.tokens[0].scopes[0]", '"read"'],
    ["[a.__proto__]\nx = 1", "a.__proto__", undefined],
    ["[transports.lan]\ntype = 'tcp'\n__proto__ = 1", "transports.lan.__proto__", undefined],
  ])("%s", (text, path, suggestion) => {
    const all = problems(text, { T: "0123456789abcdef" });
    expect(all.map((one) => one.path)).toContain(path);
    const one = all.find((candidate) => candidate.path === path)!;
    if (path !== "delivery.lifetime" || suggestion !== '"31d"')
      expect(one.suggestion).toBe(suggestion as string);
  });

  test("deep nesting ends, it does not overflow", () => {
    const deep = problems(`[services.x]\ntype = "x"\na = ${"[".repeat(5_000)}${"]".repeat(5_000)}`);
    expect(deep[0]!.expected).toContain("levels");
  });

  test.each([
    ["a = 1\n\nb = bare\nc = 2", "line 3"],
    ["[node]\ncallsign = 'A'\n[node]\n", "line 3"],
    ["a = 1\nb = [1,\n 2\n", "line 3"],
    ['{"a": 1,\n "b": x}', "line 2"],
    ['{"a": 1,\n "b": 2', "line 2"],
    ["a = 1\na = 2", "line 2"],
  ])("the line of a syntax error in %j", (text, line) => {
    expect(problems(text)[0]!.path).toStartWith(line);
  });

  test("a long line with a mistake at its end took a minute to complain about", () => {
    const startedMs = performance.now();
    const [problem] = problems(`a = [${"1,".repeat(20_000)} ?`);
    expect(problem!.path).toBe("line 1, column 40007");
    expect(performance.now() - startedMs).toBeLessThan(2_000);
  });

  test.each([
    "network_secret = hunter2hunter2",
    '[node]\nnetwork_secret = [\n  "hunter2hunter2,\n]',
    "[node]\nnetwork_secret = [\n  hunter2hunter2\n]",
    '{"node": {"network_secret": hunter2hunter2}}',
    '{"node": {"network_secret": [\n "hunter2hunter2\n]}}',
    'x = "hunter2hunter2hunter2',
    "[node]\nnetwork_secret = [\n hunter2hunter2hunter2=\n]",
  ])("a line that may hold a secret is not shown, neither by the words of the parser: %j", (text) => {
    const shown = JSON.stringify(problems(text));
    expect(shown).not.toContain("hunter2");
    expect(shown).toContain("(not shown)");
  });

  test("of another line it is shown what the parser met", () => {
    expect(problems("[node]\ncallsign = DUN")[0]).toMatchObject({
      expected: 'valid TOML: strings must be quoted: "DUN"',
      found: "callsign = DUN",
    });
  });

  test("the message of the error is the rendered list", () => {
    expect(() => parse("[node]\ncalsign = 'x'")).toThrow(
      /1 problem in the configuration\n\n {2}node\.calsign, line 2\n/,
    );
  });
});

describe("environment", () => {
  test("overrides the file, sections and lists too", () => {
    const env = {
      GODWIT_NODE__CALLSIGN: "lon-b",
      GODWIT_NODE__NETWORK: "2024",
      GODWIT_TRANSPORTS__LAN__LISTEN: '["127.0.0.1:0"]',
      GODWIT_API__LISTEN: "false",
      GODWIT_DELIVERY__TRANSIT_MESSAGES_MAX: "7",
      GODWIT_NAMES: `{"DUN-A": "${ID}"}`,
      GODWIT_SERVICES__X: '{ type = "x", n = 3 }',
      GODWIT_CONFIG: "/etc/x",
      PATH: "/bin",
    };
    const config = parse('[node]\ncallsign = "DUN-A"', env);
    expect(config.node).toMatchObject({ callsign: "LON-B", network: "2024" });
    expect(config.transports).toEqual([
      {
        name: "lan",
        type: "tcp",
        enabled: true,
        trust: undefined,
        grant: [],
        acceptMissing: [],
        options: { listen: ["127.0.0.1:0"] },
      },
    ]);
    expect(config.api.listen).toEqual([]);
    expect(config.delivery.transitMessagesMax).toBe(7);
    expect(config.names.get("DUN-A")).toBe(ID as never);
    expect(config.services[0]!.options).toEqual({ n: 3 });
  });

  test("unknown names are refused with a suggestion, wrong values name their variable", () => {
    const all = problems("", {
      GODWIT_NODE_CALLSIGN: "DUN-A",
      GODWIT_NODES__NETWORK: "x",
      GODWIT_NODE__LOG_LEVEL: "loud",
      GODWIT_API__LISTEN__X: "1",
    });
    expect(all.map((one) => [one.path, one.suggestion])).toEqual([
      ["environment variable GODWIT_NODES__NETWORK", "did you mean GODWIT_NODE__NETWORK?"],
      ["environment variable GODWIT_NODE_CALLSIGN", "did you mean GODWIT_NODE__CALLSIGN?"],
      ["node.log_level (from GODWIT_NODE__LOG_LEVEL)", undefined],
      ["api.listen (from GODWIT_API__LISTEN__X)", undefined],
    ]);
  });

  test("a variable that a secret names is a value, not an override", () => {
    const env = {
      GODWIT_NETWORK_KEY: "0123456789abcdef",
      GODWIT_NODE__NETWORK_SECRET: "env:GODWIT_NETWORK_KEY",
    };
    expect(parse("", env).node.networkSecrets).toHaveLength(1);
  });

  test("a value cannot smuggle in further keys", () => {
    const all = problems("", { GODWIT_NODE__NETWORK: '"x"\nlog_level = "debug"' });
    expect(all.map((one) => one.path)).toEqual(["node.network (from GODWIT_NODE__NETWORK)"]);
    expect(parse("", { GODWIT_NODE__NETWORK: '"x" } # "' }).node).toMatchObject({ network: '"x" } # "' });
  });

  test("the environment cannot reach prototypes", () => {
    const all = problems("", { GODWIT_SERVICES____PROTO____X: "1" });
    expect(all).toHaveLength(1);
    expect(({} as Record<string, unknown>)["x"]).toBeUndefined();
  });
});

describe("secrets", () => {
  const KEY = "correct horse battery staple";

  test("from a file, its newline trimmed; from the environment; two at once", () => {
    const path = file("two.key", `${KEY}\n`);
    const config = parse(`[node]\nnetwork_secret = ["file:${path}", "env:OLD"]`, { OLD: "0123456789abcdef" });
    expect(config.node.networkSecrets.map((one) => new TextDecoder().decode(one.reveal()))).toEqual([
      KEY,
      "0123456789abcdef",
    ]);
  });

  test("never print", () => {
    const config = parse('[node]\nnetwork_secret = "env:K"', { K: KEY });
    const [secret] = config.node.networkSecrets;
    const everything = [
      JSON.stringify(config),
      Bun.inspect(config),
      inspect(config, { depth: 9, showHidden: true }),
      secret!.toString(),
      String(secret),
      JSON.stringify(explainConfig(undefined, config)),
      Object.entries(secret!).join(),
    ].join("\n");
    expect(everything).not.toContain("horse");
    expect(everything).not.toContain(Buffer.from(KEY).toString("hex").slice(0, 12));
    expect(everything).not.toContain([...Buffer.from(KEY)].slice(0, 4).join(","));
    expect(everything).toContain("[secret]");
  });

  test("a credential is a file of the folder that the manager made, whoever may read it there", () => {
    file("network_key", `${KEY}\n`, 0o444);
    const text = '[node]\nnetwork_secret = "credential:network_key"';
    const config = parse(text, { CREDENTIALS_DIRECTORY: folder });
    expect(config.node.networkSecrets[0]!.reveal()).toEqual(new TextEncoder().encode(KEY));
    expect(problems(text)[0]!.found).toMatch(/no CREDENTIALS_DIRECTORY/);
    expect(problems(text)[0]!.suggestion).toMatch(/LoadCredential=network_key/);
    expect(problems(text, { CREDENTIALS_DIRECTORY: "/nowhere" })[0]!.found).toMatch(/ENOENT/);
    file("network_key", KEY, 0o646);
    expect(problems(text, { CREDENTIALS_DIRECTORY: folder })[0]!.found).toMatch(
      /everybody may read or write/,
    );
    for (const name of ["../etc/shadow", ".hidden", "a/b", ""])
      expect(
        problems(`[node]\nnetwork_secret = "credential:${name}"`, { CREDENTIALS_DIRECTORY: folder })[0]!
          .found,
      ).toMatch(/not shown/);
  });

  test.each([
    ["world-readable", () => `file:${file("open.key", KEY, 0o644)}`, /everybody/, /^chmod 600 /],
    ["short", () => `file:${file("short.key", "0123456789abcde\n")}`, /with 15 bytes/, /secret new/],
    ["missing", () => `file:${folder}/none.key`, /cannot be opened \(ENOENT\)/, /godwit secret new --out/],
    ["a folder", () => `file:${folder}`, /not a plain file/, /^$/],
    ["unset", () => "env:NOT_SET", /not set/, /set NOT_SET/],
    ["huge", () => `file:${file("huge.key", "x".repeat(5_000))}`, /more than 4096 bytes/, /^$/],
    ["inline", () => "hunter2hunter2hunter2", /not shown/, /^$/],
    ["a bare path", () => "/etc/key", /not shown/, /^"file:\/etc\/key"$/],
    ["a pipe that nobody writes to", () => `file:${fifo()}`, /not a plain file/, /^$/],
    ["a device that never ends", () => "file:/dev/zero", /not a plain file/, /^$/],
  ])("%s is refused", (_, reference, found, suggestion) => {
    const [one] = problems(`[node]\nnetwork_secret = "${reference()}"`);
    expect(one!.path).toBe("node.network_secret");
    expect(one!.found).toMatch(found);
    expect(one!.found).not.toContain("hunter2");
    expect(one!.suggestion ?? "").toMatch(suggestion);
  });

  test("every bad secret is named at once; the same one twice is refused", () => {
    const env = { A: KEY, B: KEY };
    expect(
      problems(
        '[node]\nnetwork_secret = ["env:X", "env:A"]\n[[api.tokens]]\nsecret = "env:Y"\nscopes = ["read"]',
        env,
      ).map((one) => one.path),
    ).toEqual(["node.network_secret[0]", "api.tokens[0].secret"]);
    expect(problems('[node]\nnetwork_secret = ["env:A", "env:B"]', env)[0]!.path).toBe(
      "node.network_secret[1]",
    );
  });
});

describe("files", () => {
  test("loads by path, by GODWIT_CONFIG, and refuses what is not there", async () => {
    const toml = file("a.toml", '[node]\ncallsign = "DUN-A"\n');
    const json = file("a.json", '{"node":{"callsign":"DUN-B"}}');
    expect((await loadConfig({ path: toml, env: {} })).node.callsign).toBe("DUN-A");
    expect((await loadConfig({ env: { GODWIT_CONFIG: json } })).node.callsign).toBe("DUN-B");
    const missing = await loadConfig({ path: join(folder, "none.toml"), env: {} }).catch(
      (error: unknown) => error,
    );
    expect(missing).toMatchObject({ code: "GODWIT_CONFIG_UNREADABLE", kind: "config" });
    const binary = join(folder, "binary.toml");
    writeFileSync(binary, new Uint8Array([0xff, 0xfe, 0x00]));
    expect(await loadConfig({ path: binary, env: {} }).catch((error: unknown) => error)).toMatchObject({
      code: "GODWIT_CONFIG_UNREADABLE",
    });
  });
});

describe("explain", () => {
  test("the example of the manual is accepted", async () => {
    const page = await Bun.file(join(import.meta.dir, "../../docs/configuration.md")).text();
    const example = /```toml\n([^`]*)```/.exec(page)![1]!;
    const key = file("manual.key", "0123456789abcdef");
    const config = parse(example.replace("/etc/godwit/network.key", key));
    expect(config.node).toMatchObject({ callsign: "LON-B", network: "telex" });
    expect(config.node.networkSecrets).toHaveLength(1);
  });

  test("every key has a type and a meaning, and every default passes its own schema", () => {
    const keys = configKeys();
    expect(keys.length).toBeGreaterThan(25);
    for (const key of keys) {
      expect(key.meaning, key.path).not.toBe("");
      expect(key.expected, key.path).not.toBe("");
    }
    const lines = keys.flatMap((key) =>
      key.default?.startsWith('"') && !key.path.includes("[]") ? [`${key.path} = ${key.default}`] : [],
    );
    expect(lines.length).toBeGreaterThan(10);
    expect(() => parse(lines.join("\n"))).not.toThrow();
  });

  test("effective values with their source", () => {
    const config = parse('[node]\nnetwork = "x"\n[transports.a]\ntype = "tcp"\npassword = "hunter2"', {
      GODWIT_NODE__CALLSIGN: "DUN-A",
    });
    const of = (path: string) => explainConfig(path, config)[0]!;
    expect(of("node.network")).toMatchObject({ value: '"x"', source: "file", default: '"godwit"' });
    expect(of("node.callsign")).toMatchObject({
      value: '"DUN-A"',
      source: "env",
      variable: "GODWIT_NODE__CALLSIGN",
    });
    expect(of("node.location")).toMatchObject({ value: '"DUN"', source: "default" });
    expect(of("delivery.lifetime")).toMatchObject({ value: '"72h"', source: "default" });
    expect(of("transports.a.type")).toMatchObject({ value: '"tcp"', source: "file" });
    expect(of("transports.a.password").value).not.toContain("hunter2");
    expect(of("transports.NAME.enabled")).toMatchObject({ path: "transports.a.enabled", value: "true" });
    expect(explainConfig("transports", parse("")).every((key) => key.source === "default")).toBe(true);
    expect(explainConfig("node").every((key) => key.path.startsWith("node."))).toBe(true);
    expect(() => explainConfig("node.calsign")).toThrow("did you mean node.callsign?");
    expect(() => explainConfig("log_level")).toThrow("did you mean node.log_level?");
    expect(() => explainConfig("listen")).toThrow(/did you mean \S+\.listen or \S+\.listen/);
  });

  test("the JSON Schema refuses unknown keys and carries meanings and defaults", () => {
    const schema = configJsonSchema() as { additionalProperties: boolean; properties: Record<string, never> };
    expect(schema.additionalProperties).toBe(false);
    expect(schema).toMatchObject({
      properties: {
        node: { properties: { network: { default: "godwit", description: expect.any(String) } } },
        delivery: { properties: { lifetime: { type: "string", default: "72h" } } },
      },
    });
  });
});

test("a file that is far too long is not read", async () => {
  const path = file("long.toml", `# ${"a".repeat(4 * 2 ** 20)}\n`);
  const refused = await loadConfig({ path, env: {}, isRoot: true }).catch((error: unknown) => error);
  expect(String(refused)).toContain("it has more than 4194304 bytes");
});

test("without a folder of its own the state lies where it survives a reboot", () => {
  const dir = (env: Record<string, string>, isRoot = false) => parseConfig("", { env, isRoot }).node.stateDir;
  expect(dir({})).toBe("/var/lib/godwit");
  expect(dir({}, true)).toBe("/var/lib/godwit");
  expect(dir({ HOME: "/home/a" })).toBe("/home/a/.local/state/godwit");
  expect(dir({ HOME: "/home/a", XDG_STATE_HOME: "/state" })).toBe("/state/godwit");
  expect(dir({ STATE_DIRECTORY: "/var/lib/private/godwit:/other" })).toBe("/var/lib/private/godwit");
});

test("a token is bounded in length, to the last byte", () => {
  const text = '[[api.tokens]]\nsecret = "env:T"\nscopes = ["read"]';
  const token = (chars: number) => ({ T: "aB3dE".repeat(chars).slice(0, chars) });
  expect(parse(text, token(TOKEN_BYTES_MAX)).api.tokens).toHaveLength(1);
  expect(problems(text, token(TOKEN_BYTES_MAX + 1))).toHaveLength(1);
});
