import { expect, test } from "bun:test";
import { diffConfig } from "./diff.ts";
import { effectWords, settingOf, settings } from "./effect.ts";
import { configKeys, explainConfig } from "./explain.ts";
import { type Config, parseConfig } from "./load.ts";

const ID = "a".repeat(52);
const OTHER_ID = `b${"a".repeat(51)}`;
const env = { ONE: "0123456789abcdef", TWO: "fedcba9876543210" };

const parse = (text: string, more: Record<string, string> = {}): Config =>
  parseConfig(text, { env: { ...env, ...more }, isRoot: true, format: "toml" });
const base = '[transports.a]\ntype = "tcp"\nport = 1\n[transports.b]\ntype = "tcp"\n';
const between = (before: string, after: string) => {
  const old = parse(before);
  return diffConfig(old, old, parse(after));
};

/** Every key of the schema with two values of it: [body of its table before, after]. Of lists of tables one row each. */
const inTable = (table: string, key: string, before: string, after: string, rest = "") =>
  [before, after].map((value) => `${table}\n${key} = ${value}\n${rest}\n`) as [string, string];
const plugin = (key: string, before: string, after: string) =>
  ["transports", "discovery", "services", "engines", "heal"].map(
    (section) =>
      [
        `${section}.NAME.${key}`,
        inTable(`[${section}.x]`, key, before, after, key === "type" ? "" : 'type = "thing"'),
      ] as const,
  );
const token = (key: string, before: string, after: string) => {
  const rest = { secret: 'secret = "env:ONE"', scopes: 'scopes = ["read"]', label: "" };
  const others = Object.entries(rest).filter(([name]) => name !== key);
  return inTable("[[api.tokens]]", key, before, after, others.map(([, line]) => line).join("\n"));
};
const row = (list: string, lines: Record<string, string>, key: string, after: string): [string, string] => {
  const text = (table: Record<string, string>) =>
    `[[${list}]]\n${Object.entries(table)
      .map(([name, value]) => `${name} = ${value}\n`)
      .join("")}`;
  return [text(lines), text({ ...lines, [key]: after })];
};
const rule = {
  level: '"trusted"',
  callsigns: '["LON-*"]',
  transports: '["tcp"]',
  networks: '["10.0.0.0/8"]',
};
const forward = { listen: '"127.0.0.1:1"', to: '"LON-B"', target: '"localhost:80"' };
const allow = { from: '["trusted"]', targets: '["localhost:80"]' };
const program = { name: '"tor"', command: '["/tor"]', needs_clock: "false" };

const samples: Readonly<Record<string, readonly [string, string]>> = {
  "node.callsign": inTable("[node]", "callsign", '"DUN-A"', '"DUN-B"'),
  "node.tags": inTable("[node]", "tags", '["storage"]', '["auto"]'),
  "node.location": inTable("[node]", "location", '"DUN"', '"LON"'),
  "node.network": inTable("[node]", "network", '"a"', '"b"'),
  "node.network_secret": inTable("[node]", "network_secret", '"env:ONE"', '["env:TWO", "env:ONE"]'),
  "node.state_dir": inTable("[node]", "state_dir", '"/a"', '"/b"', '[api]\nsocket = "/s"'),
  "node.clock": inTable("[node]", "clock", '"auto"', '"trusted"'),
  "node.log_level": inTable("[node]", "log_level", '"info"', '"debug"'),
  "node.log_format": inTable("[node]", "log_format", '"json"', '"text"'),
  ...Object.fromEntries([
    ...plugin("type", '"thing"', '"other"'),
    ...plugin("enabled", "true", "false"),
    ...plugin("trust", '"trusted"', '"untrusted"'),
    ...plugin("grant", "[]", '["net.udp"]'),
    ...plugin("accept_missing", "[]", '["uid"]'),
  ]),
  "api.profile": inTable("[api]", "profile", "false", "true"),
  "api.public_read": inTable("[api]", "public_read", "false", "true"),
  "api.listen": inTable("[api]", "listen", '"127.0.0.1:1"', '"127.0.0.1:2"'),
  "api.socket": inTable("[api]", "socket", '"/a"', '"/b"'),
  "api.tokens[].secret": token("secret", '"env:ONE"', '"env:TWO"'),
  "api.tokens[].scopes": token("scopes", '["read"]', '["read", "send"]'),
  "api.tokens[].label": token("label", '"a"', '"b"'),
  names: inTable("[names]", '"LON-B"', `"${ID}"`, `"${OTHER_ID}"`),
  "trust.trusted": inTable("[trust]", "trusted", "[]", `["${ID}"]`),
  "trust.blocked": inTable("[trust]", "blocked", "[]", `["${ID}"]`),
  "trust.promote_after": inTable("[trust]", "promote_after", '"1h"', '"never"'),
  "trust.promote_onions_after": inTable("[trust]", "promote_onions_after", '"1h"', '"never"'),
  "trust.review_every": inTable("[trust]", "review_every", '"1s"', '"2s"'),
  "trust.rules[].level": row("trust.rules", rule, "level", '"blocked"'),
  "trust.rules[].callsigns": row("trust.rules", rule, "callsigns", '["DUN-*"]'),
  "trust.rules[].transports": row("trust.rules", rule, "transports", '["udp"]'),
  "trust.rules[].networks": row("trust.rules", rule, "networks", '["192.0.2.0/24"]'),
  "peers.links_wanted": inTable("[peers]", "links_wanted", "1", "2"),
  "peers.dial_networks": inTable("[peers]", "dial_networks", "[]", '["10.0.0.0/8"]'),
  "network.authority": inTable("[network]", "authority", `"${ID}"`, `"${OTHER_ID}"`),
  "network.rotate": inTable("[network]", "rotate", '"authority"', '"nobody"'),
  "network.secret_overlap": inTable("[network]", "secret_overlap", '"1h"', '"2h"'),
  "forwards[].listen": row("forwards", forward, "listen", '"127.0.0.1:2"'),
  "forwards[].to": row("forwards", forward, "to", '"DUN-A"'),
  "forwards[].target": row("forwards", forward, "target", '"localhost:81"'),
  "forward_allow[].from": row("forward_allow", allow, "from", '["LON-B"]'),
  "forward_allow[].targets": row("forward_allow", allow, "targets", '["localhost:*"]'),
  ...Object.fromEntries(
    [
      ["lifetime", '"1h"', '"2h"'],
      ["overdue_after", '"1m"', '"2m"'],
      ["failover_delay", '"1m"', '"2m"'],
      ["outbox_messages_max", "1", "2"],
      ["outbox_bytes_max", '"1MiB"', '"2MiB"'],
      ["transit_messages_max", "1", "2"],
      ["transit_bytes_max", '"1MiB"', '"2MiB"'],
      ["neighbour_share", "0.5", "0.6"],
      ["inbox_messages_max", "1", "2"],
      ["inbox_bytes_max", '"1MiB"', '"2MiB"'],
      ["inbox_retention", '"1h"', '"2h"'],
    ].map(([key, before, after]) => [`delivery.${key}`, inTable("[delivery]", key!, before!, after!)]),
  ),
  "routing.hop_cost": inTable("[routing]", "hop_cost", '"0ms"', '"1ms"'),
  "routing.destinations_max": inTable("[routing]", "destinations_max", "16", "17"),
  "machine.hostname": inTable("[machine]", "hostname", '"a"', '"b"'),
  "machine.state": inTable("[machine]", "state", '"/dev/a"', '"/dev/b"'),
  "machine.network": inTable("[machine]", "network", "[]", '["eth0=off"]'),
  "machine.name_servers": inTable("[machine]", "name_servers", "[]", '["192.0.2.1"]'),
  "machine.time_servers": inTable("[machine]", "time_servers", "[]", '["192.0.2.1"]'),
  "machine.modules": inTable("[machine]", "modules", "[]", '["loop"]'),
  "machine.watchdog": inTable("[machine]", "watchdog", '"60s"', '"off"'),
  "machine.rescue": inTable("[machine]", "rescue", "false", "true"),
  "machine.programs[].name": row("machine.programs", program, "name", '"other"'),
  "machine.programs[].command": row("machine.programs", program, "command", '["/other"]'),
  "machine.programs[].needs_clock": row("machine.programs", program, "needs_clock", "true"),
};

test("every key of the schema belongs to one row of the table, every row has one, and the samples here are all of them", () => {
  const keys = configKeys().map(({ path }) => path);
  expect(Object.keys(samples).toSorted()).toEqual(keys.toSorted());
  const rows = Object.keys(settings);
  for (const key of keys)
    expect(
      rows.filter((one) => key === one || key.startsWith(`${one}.`) || key.startsWith(`${one}[`)),
    ).toHaveLength(1);
  expect(new Set(keys.map(settingOf))).toEqual(new Set(rows) as Set<never>);
});

test.each(Object.entries(samples))(
  "a change of %s is seen by a reload, as what the table says of it",
  (path, [before, after]) => {
    const key = settingOf(path)!;
    const found = between(before, after);
    expect(between(before, before)).toEqual({ live: [], waiting: [], instances: [] });
    const { effect } = settings[key];
    if (effect.at === "instances") {
      expect([found.live, found.waiting]).toEqual([[], []]);
      expect(found.instances.map(({ section }) => section as string)).toEqual([key]);
    } else if (effect.at === "start") {
      expect(found.waiting).toEqual([{ key, because: effect.because }]);
      expect(found.live).toEqual([]);
      expect(effectWords(path)).toBe(`at the next start, because ${effect.because}`);
    } else {
      expect([...found.live] as string[]).toEqual([key]);
      expect(found.waiting).toEqual([]);
      expect(effectWords(path)).toStartWith("on reload");
    }
  },
);

test("keys and instances", () => {
  const after = `[node]\nlog_level = "debug"\n[names]\n"DUN-A" = "${ID}"\n[transports.a]\ntype = "tcp"\nport = 2\n[transports.b]\ntype = "tcp"\nenabled = false\n[services.t]\ntype = "telex"`;
  expect(between(base, after)).toEqual({
    live: ["node.log_level", "names"],
    waiting: [],
    instances: [
      { section: "transports", name: "b", change: "removed" },
      { section: "transports", name: "a", change: "changed" },
      { section: "services", name: "t", change: "added" },
    ],
  });
});

test("a renewed secret behind the same reference", () => {
  const text = '[node]\nnetwork_secret = "env:K"';
  const before = parse(text, { K: "0123456789abcdef" });
  expect(diffConfig(before, before, parse(text, { K: "0123456789abcdeF" })).live).toEqual([
    "node.network_secret",
  ]);
});

test("an open mesh is closed, and a closed one opened, by a start alone", () => {
  const secret = '[node]\nnetwork_secret = "env:ONE"';
  for (const [before, after] of [
    ["", secret],
    [secret, ""],
  ] as const) {
    const { live, waiting } = between(before, after);
    expect([live, waiting.map(({ key }) => key)]).toEqual([[], ["node.network_secret"]]);
  }
});

test("what waits for a start waits until the file says again what the node began with", () => {
  const [started, changed] = [parse('[node]\nnetwork = "a"'), parse('[node]\nnetwork = "b"')];
  expect(diffConfig(started, changed, changed).waiting.map(({ key }) => key)).toEqual(["node.network"]);
  expect(diffConfig(started, changed, started).waiting).toEqual([]);
  // Nor does one that waits get in by another one after it.
  const [one, two] = ["ONE", "TWO"].map((name) => parse(`[node]\nnetwork_secret = "env:${name}"`));
  const found = diffConfig(parse(""), one!, two!);
  expect([found.live, found.waiting.map(({ key }) => key)]).toEqual([[], ["node.network_secret"]]);
});

test("config explain says of every key when it takes effect, of those of plugins too", () => {
  const explained = explainConfig(undefined, parse(base));
  const of = (path: string) => explained.find((key) => key.path === path)?.effect;
  expect(of("node.log_level")).toBe("on reload");
  expect(of("transports.a.port")).toBe("on reload");
  expect(of("node.network")).toStartWith("at the next start, because ");
  expect(explained.every(({ effect }) => effect !== "")).toBe(true);
});
