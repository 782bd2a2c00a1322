import { describe, expect, test } from "bun:test";
import { definePlugin, SDK_VERSION, z } from "@godwit/sdk";
import { secretField } from "@godwit/sdk/secret";
import { parseConfig } from "../config/load.ts";
import { ConfigError } from "../config/problems.ts";
import { builtinPlugins } from "../registry.ts";
import { loadNamed } from "./package/builtin.ts";
import { checkPluginTables, pluginTables } from "./check.ts";

const problemsOf = async (text: string) => {
  const config = parseConfig(text, { env: {}, format: "toml" });
  try {
    const builtin = await loadNamed(builtinPlugins, pluginTables(config));
    await checkPluginTables(config, { builtin, installed: [], offered: builtinPlugins });
    return [];
  } catch (error) {
    if (error instanceof ConfigError) return error.problems;
    throw error;
  }
};

describe("tables of plugins", () => {
  test("right ones and the default one pass", async () => {
    expect(await problemsOf("")).toEqual([]);
    expect(await problemsOf('[discovery.a]\ntype = "static"\npeers = ["tcp://192.0.2.1:4860"]')).toEqual([]);
  });

  test("an unknown type names the nearest one", async () => {
    const [problem] = await problemsOf('[transports.lan]\ntype = "tpc"');
    expect(problem).toMatchObject({ path: "transports.lan.type", found: '"tpc"', suggestion: '"tcp"' });
  });

  test("what is expected is said for operators, not in the words of the schema's library", async () => {
    const telex = '[services.t]\ntype = "telex"\n';
    const lan = '[transports.lan]\ntype = "tcp"\n';
    for (const [text, expected] of [
      [`${telex}allow_from = []`, "a list, at least 1 item"],
      [`${telex}allow_from = 5`, "a list"],
      [`${telex}message_max = 5`, "text"],
      [`${telex}max_connections = "x"`, "a number"],
      [`${lan}advertise = ["x"]`, 'text that begins with "tcp://"'],
    ])
      expect((await problemsOf(text!)).map((problem) => problem.expected)).toEqual([expected!]);
  });

  test("an unknown key and a wrong value are both named, with their paths", async () => {
    const problems = await problemsOf('[transports.lan]\ntype = "tcp"\nlisen = 1\nlisten = ["nowhere"]');
    expect(problems.map(({ path }) => path).toSorted()).toEqual([
      "transports.lan.lisen",
      "transports.lan.listen[0]",
    ]);
    expect(problems.find(({ path }) => path.endsWith("lisen"))).toMatchObject({
      expected: expect.stringMatching(/^a key of transport type "tcp": .*\blisten\b/),
      suggestion: "did you mean listen?",
    });
    expect(problems.find(({ path }) => path.endsWith("[0]"))).toMatchObject({ found: '"nowhere"' });
  });

  test("what may be a secret is not shown, whatever its key is called", async () => {
    const field = secretField("a key", { bytesMin: 4, bytesMax: 32 }, {});
    const plugin = definePlugin({
      id: "vault",
      namespace: "service",
      sdk: `^${SDK_VERSION}`,
      config: z.strictObject({ door: field }),
      permissions: [],
      start: () => {},
    });
    const config = parseConfig('[services.v]\ntype = "vault"\ndoor = "correct horse"', {
      env: {},
      format: "toml",
    });
    const builtin = await loadNamed(
      builtinPlugins,
      pluginTables(parseConfig("", { env: {}, format: "toml" })),
    );
    const given = { builtin: [...builtin, plugin], installed: [], offered: builtinPlugins };
    const error = await checkPluginTables(config, given).catch((thrown: unknown) => thrown);
    expect((error as ConfigError).problems[0]).toEqual({
      path: "services.v.door",
      line: 3,
      expected: "a key",
      found: "something else (not shown, it may be the secret)",
      suggestion: '"file:/path", "env:NAME" or "credential:NAME"',
    });
    expect(`${String(error)} ${JSON.stringify((error as ConfigError).problems)}`).not.toContain("horse");
  });

  test("a disabled table is checked too", async () => {
    expect(await problemsOf('[transports.lan]\ntype = "tcp"\nenabled = false\nport = 1')).toHaveLength(1);
  });
});
