import { describe, expect, test } from "bun:test";
import fc from "fast-check";
import { parseConfig } from "../../config/load.ts";
import { oldVariables, unheardOf } from "../../config/old-variables.ts";
import { runForTest } from "../testing.ts";
import { configOf } from "./import-env.ts";

const imported = async (env: Record<string, string>) => {
  const { code, out, err } = await runForTest(["config", "import", "--env"], { env });
  expect([code, err]).toEqual([0, ""]);
  return { text: out, config: parseConfig(out, { env: {}, format: "toml" }) };
};

describe("the variables of a replaced system", () => {
  test("of a mesh node are a configuration that is accepted", async () => {
    const { config } = await imported({
      NODE_ID: "node-a",
      LISTEN_HOST: "0.0.0.0",
      LISTEN_PORT: "8001",
      LOG_LEVEL: "WARNING",
      YGGDRASIL_PEERS: '["tls://192.0.2.7:9001", "tcp://[2001:db8::7]:9002"]',
    });
    expect(config.node).toMatchObject({ callsign: "NODE-A", logLevel: "warn" });
    expect(config.api.listen).toMatchObject([{ port: 8001 }]);
    expect(config.transports.map(({ type }) => type)).toEqual(["tcp", "yggdrasil"]);
    expect(config.transports[1]!.options).toEqual({
      peers: ["tls://192.0.2.7:9001", "tcp://[2001:db8::7]:9002"],
    });
  });

  test("of an agent: what has no counterpart is said, and no secret is shown", async () => {
    const { text, config } = await imported({
      ...{
        AGENT_ID: "DUNA",
        API_KEY: "hunter2hunter2",
        SERVER_URL: "http://collector:8080",
        DB_PATH: "/data/x.db",
      },
      ...{ JSON_LOG_HOST: "logs", MESHTASTIC_CONNECTION: "tcp" },
    });
    expect(config.node.callsign).toBe("DUN-A");
    for (const name of ["API_KEY", "SERVER_URL", "JSON_LOG_HOST", "MESHTASTIC_CONNECTION"])
      expect(text).toMatch(new RegExp(`^# ${name}: `, "m"));
    expect(text).not.toContain("hunter2");
  });

  test("a name that is none of ours stays as a comment", async () => {
    const { text, config } = await imported({ NODE_ID: "rack 7\n[node]" });
    expect(config.node.callsign).toBeUndefined();
    expect(text).toContain('was "rack 7\\n[node]"');
  });

  test.each([
    ["LOG_LEVEL", "loud"],
    ["LISTEN_PORT", "80000"],
    ["LISTEN_HOST", "example.org"],
    ["YGGDRASIL_PEERS", "example.org:9001"],
  ])("%s that means nothing is refused by name", async (name, value) => {
    const { code, err } = await runForTest(["config", "import", "--env"], { env: { [name]: value } });
    expect(code).not.toBe(0);
    expect(err).toContain(name);
  });

  test("without --env, or without any of them, it says what it reads", async () => {
    expect((await runForTest(["config", "import"], { env: { NODE_ID: "DUN-A" } })).err).toContain("--env");
    expect((await runForTest(["config", "import", "--env"], { env: {} })).err).toContain("NODE_ID");
  });

  test("property: whatever they hold, the text is a configuration or a refusal", () => {
    fc.assert(
      fc.property(
        fc.constantFrom(...Object.keys(oldVariables)),
        fc.string({ unit: "grapheme" }),
        (name, value) => {
          let text: string;
          try {
            text = configOf({ [name]: value });
          } catch {
            return;
          }
          Bun.TOML.parse(text);
        },
      ),
    );
  });
});

test("what no setting says is not heard of; a setting in its place silences it", () => {
  const env = {
    NODE_ID: "DUN-A",
    LOG_LEVEL: "info",
    YGGDRASIL_PEERS: "tls://x:1",
    API_KEY: "k",
    HOME: "/",
    AGENT_ID: "",
  };
  expect(unheardOf(env, {})).toEqual(["NODE_ID", "LOG_LEVEL", "YGGDRASIL_PEERS", "API_KEY"]);
  const said = {
    node: { callsign: "DUN-A", log_level: "info" },
    transports: { overlay: { type: "yggdrasil" }, lan: { type: "tcp" } },
  };
  expect(unheardOf(env, said)).toEqual(["API_KEY"]);
  expect(unheardOf({}, said)).toEqual([]);
});
