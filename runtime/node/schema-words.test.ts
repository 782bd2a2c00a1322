import { expect, test } from "bun:test";
import { z } from "zod";
import * as schemas from "../api/schemas.ts";
import { validate } from "../api/validate.ts";
import { parseConfig } from "../config/load.ts";
import { checkPluginTables } from "../plugin/check.ts";
import { builtinPlugins } from "../registry.ts";
import { inWords } from "../kernel/schema-words.ts";
import { root } from "../../scripts/lib.ts";

const EXPRESSION = /pattern|regexp|\/\^|\$\/|\[a-z|\\d/i;

test("a regular expression in a schema does not get into the messages of a foreign plugin, nor of the API", async () => {
  const schema = z.object({ name: z.string().regex(/^[a-z]{1,3}$/) });
  const { issues } = schema.safeParse({ name: "A" }).error!;
  expect(issues[0]!.message).toMatch(EXPRESSION);
  expect(inWords(issues[0]!, "A")).toBe("expected another form, which its description says, found text");
  expect(() => validate(schema, { name: "A" })).toThrow("another form");
  const plugin = {
    id: "x",
    namespace: "transport",
    sdk: "*",
    permissions: [],
    config: schema,
    start() {},
  } as const;
  const config = parseConfig('[transports.x]\ntype = "x"\nname = "A"\n', { env: {}, format: "toml" });
  const known = { builtin: [plugin], installed: [], offered: [] };
  expect(String(await checkPluginTables(config, known).catch((error: unknown) => error))).toContain(
    "another form",
  );
});

/** Every key of what Godwit brings along that takes text, given text that no key takes. */
test("what is wrong in a table of a plugin, or in a request, is said in words of its own", async () => {
  const wrong = "\u0001 no such thing \n";
  const keys: Record<string, readonly string[]> = {
    "transport tcp": ["listen", "advertise"],
    "transport udp": ["listen", "advertise"],
    "transport websocket": ["listen", "path", "hosts", "advertise", "proxy"],
    "transport tor": ["control", "socks", "pluggable_transports", "bridges"],
    "transport wireguard": ["interface", "program", "endpoint", "advertise"],
    "transport yggdrasil": ["peers", "interface", "allowed"],
    "transport memory": ["listen"],
    "discovery mdns": ["interfaces", "announce"],
    "discovery static": ["peers", "dns", "dns_servers", "file", "env", "list"],
    "discovery dht": ["listen", "bootstrap", "public"],
    "discovery serf": ["listen", "advertise", "join", "name", "encrypt_key", "label", "profile", "tags"],
    "transport meshtastic": ["radio", "channel"],
    "service radio": ["connect"],
    "service telex": ["listen", "allow_from", "message_max"],
  };
  expect(Object.keys(keys).sort()).toEqual(
    builtinPlugins.map(({ namespace, id }) => `${namespace} ${id}`).sort(),
  );
  for (const row of builtinPlugins) {
    const plugin = await row.load();
    for (const key of keys[`${row.namespace} ${row.id}`]!)
      for (const value of [wrong, [wrong], { [wrong]: "/x" }, { url: wrong, key: wrong, refresh: wrong }]) {
        const { issues = [] } = (await plugin.config["~standard"].validate({ [key]: value })) as {
          issues?: readonly { message: string }[];
        };
        for (const { message } of issues) expect(`${row.id}.${key}: ${message}`).not.toMatch(EXPRESSION);
      }
  }
  for (const [name, schema] of Object.entries(schemas))
    if (schema instanceof z.ZodType)
      for (const value of [wrong, {}, { to: wrong, content_type: wrong, scopes: [wrong] }])
        for (const { message } of schema.safeParse(value).error?.issues ?? [])
          expect(`${name}: ${message}`).not.toMatch(EXPRESSION);
});

test("a table of a plugin is refused in words although nothing else of the process has loaded the whole of zod", () => {
  const code = `
    const { builtinPlugins } = await import("./runtime/registry.ts");
    const telex = await builtinPlugins.find(({ id }) => id === "telex").load();
    const { issues } = await telex.config["~standard"].validate({ listen: 5, allow_from: 5 });
    console.log(issues.map(({ message }) => message).join("\\n"));
  `;
  const { stdout } = Bun.spawnSync([process.execPath, "-e", code], { cwd: root });
  expect(stdout.toString()).toContain("expected array, received number");
});

test("what zod says by itself is said as what was expected and what was found, without text that may be a secret", () => {
  const schema = z.strictObject({
    level: z.enum(["low", "high"]).optional(),
    count: z.int().min(1).max(9).optional(),
    name: z.string().min(3).max(5).optional(),
    list: z.array(z.string()).max(1).optional(),
  });
  const said = (value: unknown) => {
    try {
      validate(schema, value);
      return "fine";
    } catch (error) {
      return (error as Error).message;
    }
  };
  for (const [value, words] of [
    [{ level: "hihg" }, 'level: expected one of "low", "high", found "hihg"'],
    [{ level: 5 }, 'level: expected one of "low", "high", found 5'],
    [{ count: "s3cret" }, "count: expected a number, found text"],
    [{ count: 90 }, "count: expected a number, at most 9, found 90"],
    [{ count: 1.5 }, "count: expected a whole number, found 1.5"],
    [{ name: "s3" }, "name: expected text, at least 3 characters, found 2"],
    [{ name: "s3cret" }, "name: expected text, at most 5 characters, found 6"],
    [{ name: null }, "name: expected text, found null"],
    [{ list: ["a", "b"] }, "list: expected a list, at most 1 item, found 2"],
    [{ list: {} }, "list: expected a list, found a table"],
    [{ nmae: 1 }, 'request: expected no "nmae"'],
    [5, "request: expected a table, found 5"],
  ] as const)
    expect(said(value)).toBe(words);
});
