import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import fc from "fast-check";
import { parseConfig } from "../../config/load.ts";
import { runForTest } from "../testing.ts";
import { godwitConfig, telexKeys } from "./import-telex.ts";

let dir: string;
beforeAll(() => void (dir = mkdtempSync(join(tmpdir(), "godwit-import-"))));
afterAll(() => rmSync(dir, { recursive: true }));

const old = {
  node_id: "LON-B",
  location_code: "LON",
  machine_id: "B",
  listen_host: "0.0.0.0",
  listen_port: 8023,
  max_connections: 100,
  message_ttl_hours: 72,
  max_message_size: 65_536,
  database_path: "/data/telex.db",
  dedup_db_path: "/data/dedup.db",
  hardware_enabled: false,
  log_level: "WARNING",
  log_format: "json",
  neighbors: [
    { node_id: "DUN-A", host: "telex-node-a", port: 8023 },
    { node_id: "NYC-C", host: "2001:db8::7", port: 8025 },
  ],
  retries: 3,
};

function file(value: unknown): string {
  const path = join(dir, "node.json");
  writeFileSync(path, typeof value === "string" ? value : JSON.stringify(value));
  return path;
}

/** The result, checked by the command line itself. */
async function imported(args: readonly string[], env: Record<string, string> = {}) {
  const { code, out, err } = await runForTest(["config", "import-telex", ...args], { env });
  if (code !== 0) throw new Error(err);
  const path = join(dir, "godwit.toml");
  writeFileSync(path, out);
  expect(await runForTest(["config", "check", "--config", path])).toMatchObject({ code: 0, err: "" });
  return { text: out, config: parseConfig(out, { env: {}, format: "toml" }) };
}

describe("a node file", () => {
  test("keeps its name, neighbours, bounds and lifetime; what is left over is said", async () => {
    const { text, config } = await imported([file(old)]);
    expect(config.node).toMatchObject({
      callsign: "LON-B",
      network: "telex",
      logLevel: "warn",
      logFormat: "json",
    });
    expect(config.discovery[0]?.options).toEqual({
      peers: ["tcp://telex-node-a:4860", "tcp://[2001:db8::7]:4860"],
    });
    expect(config.services[0]?.options).toEqual({
      listen: "127.0.0.1:8023",
      max_connections: 100,
      message_max: "65536B",
    });
    expect(config.delivery.lifetimeMs).toBe(72 * 3_600_000);
    for (const line of [
      '"DUN-A", whose telex port was 8023',
      "unknown: retries = 3",
      "/data/telex.db",
      "0.0.0.0:8023",
    ])
      expect(text).toContain(line);
    expect(text).not.toContain("hardware");
  });

  test("keeps its open port when told who may call", async () => {
    const { config } = await imported([file(old), "--allow-from", "10.0.0.0/8", "--allow-from", "fd00::/8"]);
    expect(config.services[0]?.options).toMatchObject({
      listen: "0.0.0.0:8023",
      allow_from: ["10.0.0.0/8", "fd00::/8"],
    });
  });

  test("may say little; the environment says more and stands above it", async () => {
    const { config: bare } = await imported([file({ node_id: "nycc" })]);
    expect(bare.node.callsign).toBe("NYC-C");
    const env = {
      TELEX_LOCATION_CODE: "DUN",
      TELEX_MACHINE_ID: "A",
      TELEX_LISTEN_HOST: "127.0.0.1",
      TELEX_LISTEN_PORT: "8024",
      TELEX_HARDWARE_ENABLED: "true",
      TELEX_SERIAL_PORT: "/dev/ttyUSB0",
      TELEX_NEIGHBORS: '[{"node_id":"LON-B","host":"10.0.0.2","port":8023}]',
      TELEX_COLOUR: "red",
    };
    const { config, text } = await imported([file(old), "--env"], env);
    expect(config.node.callsign).toBe("DUN-A");
    expect(config.services[0]?.options).toMatchObject({ listen: "127.0.0.1:8024", max_connections: 100 });
    expect(config.discovery[0]?.options).toEqual({ peers: ["tcp://10.0.0.2:4860"] });
    expect(text).toContain('serial_port = "/dev/ttyUSB0"');
    expect(text).toContain('unknown: TELEX_COLOUR = "red"');
    expect((await imported(["--env"], env)).config.node.callsign).toBe("DUN-A");
    expect((await imported([file(old)], env)).config.node.callsign).toBe("LON-B");
  });

  test("its bounds are brought within ours", async () => {
    const { config } = await imported([
      file({ ...old, message_ttl_hours: 9_000, max_message_size: 9_000_000, max_connections: 9_000 }),
    ]);
    expect(config.delivery.lifetimeMs).toBe(30 * 24 * 3_600_000);
    expect(config.services[0]?.options).toMatchObject({ max_connections: 4096, message_max: "1048576B" });
  });
});

test.each([
  ["location_code", { ...old, location_code: "D\u00dcN" }],
  ["location_code and machine_id", { neighbors: [] }],
  ["neighbors", { ...old, neighbors: "none" }],
  ["neighbors[0].host", { ...old, neighbors: [7] }],
  ["host", { ...old, neighbors: [{ host: 'a", "tcp://evil:1' }] }],
  ["listen_port", { ...old, listen_port: "8023x" }],
  ["message_ttl_hours", { ...old, message_ttl_hours: 0.5 }],
  ["is not a JSON object", []],
  ["cannot read", "{"],
])("what is wrong is named: %s", async (words, value) => {
  const { code, out, err } = await runForTest(["config", "import-telex", file(value)]);
  expect([code, out]).toEqual([78, ""]);
  expect(err).toContain(words);
});

test("no file and no --env is wrong use", async () => {
  expect((await runForTest(["config", "import-telex"])).code).toBe(2);
});

test("property: whatever stands in unknown keys and names stays a comment", () => {
  fc.assert(
    fc.property(fc.string(), fc.jsonValue(), (key, value) => {
      if (Object.hasOwn(old, key) || key === "serial_port") return;
      const text = godwitConfig({ ...old, [key]: value }, `file\n${key}`, []);
      const config = parseConfig(text, { env: {}, format: "toml" });
      expect(config.node.callsign).toBe("LON-B");
      expect(config.services[0]?.options).toHaveProperty("listen", "127.0.0.1:8023");
    }),
  );
});

test("every key of a node file has its variable, and none of them is unknown", async () => {
  const env: Record<string, string> = {
    TELEX_NODE_ID: "LON-B",
    TELEX_LOCATION_CODE: "LON",
    TELEX_MACHINE_ID: "B",
    TELEX_LISTEN_HOST: "127.0.0.1",
    TELEX_LISTEN_PORT: "8024",
    TELEX_MAX_CONNECTIONS: "50",
    TELEX_MESSAGE_TTL_HOURS: "48",
    TELEX_MAX_MESSAGE_SIZE: "32768",
    TELEX_DATABASE_PATH: "/data/messages.db",
    TELEX_DEDUP_DB_PATH: "/data/dedup.db",
    TELEX_HARDWARE_ENABLED: "true",
    TELEX_SERIAL_PORT: "/dev/ttyUSB0",
    TELEX_GPIO_PIN: "17",
    TELEX_LOG_LEVEL: "DEBUG",
    TELEX_LOG_FORMAT: "text",
    TELEX_NEIGHBORS: '[{"node_id": "DUN-A", "host": "192.0.2.1", "port": 8023}]',
  };
  expect(Object.keys(env).sort()).toEqual(telexKeys.map((key) => `TELEX_${key.toUpperCase()}`).sort());
  const { text, config } = await imported(["--env"], env);
  expect(text).not.toContain("unknown:");
  expect(config.node).toMatchObject({ callsign: "LON-B", logLevel: "debug", logFormat: "text" });
  expect(config.services[0]!.options).toEqual({
    listen: "127.0.0.1:8024",
    max_connections: 50,
    message_max: "32768B",
  });
  expect(config.delivery.lifetimeMs).toBe(48 * 3_600_000);
  for (const words of ["gpio_pin", "serial_port", "hardware_enabled", "database_path", "dedup_db_path"])
    expect(text).toContain(`# ${words} = `);
});
