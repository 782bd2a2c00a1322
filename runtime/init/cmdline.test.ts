import { expect, test } from "bun:test";
import { configSections, readMachineConfig } from "../config/machine.ts";
import { loadConfig } from "../config/load.ts";
import { parseCommandLine, shortKeys } from "./cmdline.ts";

const parse = (text: string) => parseCommandLine(text, configSections);

test("short keys and paths become overrides; words of others are ignored", () => {
  const { env, unknown } = parse(
    "BOOT_IMAGE=/vmlinuz ro quiet godwit.api=0.0.0.0:8000 console=ttyS0 godwit.callsign=DUN-A godwit.delivery.lifetime=24h godwit.rescue systemd.unit=x",
  );
  expect(env).toEqual({
    GODWIT_API__LISTEN: "0.0.0.0:8000",
    GODWIT_NODE__CALLSIGN: "DUN-A",
    GODWIT_DELIVERY__LIFETIME: "24h",
    GODWIT_MACHINE__RESCUE: "true",
  });
  expect(unknown).toEqual([]);
});

test("lists gather, the last single value wins, - and _ are the same in keys", () => {
  const { env } = parse(
    "godwit.peer=tcp://192.0.2.1:4860 godwit.net=eth0=dhcp godwit.peer=tcp://192.0.2.2:4860 godwit.net=eth1=10.0.0.1/24,10.0.0.9 godwit.log-level=info godwit.log_level=debug",
  );
  expect(JSON.parse(env["GODWIT_DISCOVERY__BOOT__PEERS"]!)).toEqual([
    "tcp://192.0.2.1:4860",
    "tcp://192.0.2.2:4860",
  ]);
  expect(env["GODWIT_DISCOVERY__BOOT__TYPE"]).toBe("static");
  expect(JSON.parse(env["GODWIT_MACHINE__NETWORK"]!)).toEqual(["eth0=dhcp", "eth1=10.0.0.1/24,10.0.0.9"]);
  expect(env["GODWIT_NODE__LOG_LEVEL"]).toBe("debug");
});

test("quotes hold spaces together and are no part of the word, as in the kernel", () => {
  expect(parse('godwit.node.network="my mesh" "godwit.callsign=DUN-A"').env).toEqual({
    GODWIT_NODE__NETWORK: "my mesh",
    GODWIT_NODE__CALLSIGN: "DUN-A",
  });
  expect(parse('godwit.network="never closed').env).toEqual({ GODWIT_NODE__NETWORK: "never closed" });
});

test("a godwit word that means nothing is told and does nothing", () => {
  const { env, unknown } = parse(
    "godwit.calsign=X godwit.= godwit.node godwit.nowhere.key=1 godwit.node..x=1 godwit.api=",
  );
  expect(env).toEqual({});
  expect(unknown).toHaveLength(6);
});

test("every short key is taken by the configuration", async () => {
  const values: Record<string, string> = {
    callsign: "DUN-A",
    location: "DUN",
    network: "telex",
    log_level: "debug",
    api: "0.0.0.0:8000",
    peer: "tcp://192.0.2.1:4860",
    hostname: "gull",
    state: "LABEL=perm",
    net: "eth0=dhcp",
    time: "192.0.2.1",
    watchdog: "off",
    rescue: "true",
  };
  // The others name files, and a token that somebody must have issued.
  expect(Object.keys(shortKeys).sort()).toEqual(
    [...Object.keys(values), "config", "join", "network_secret"].sort(),
  );
  const { env, unknown } = parse(
    Object.entries(values)
      .map(([key, value]) => `godwit.${key}=${value}`)
      .join(" "),
  );
  expect(unknown).toEqual([]);
  const config = await loadConfig({ env, text: "", format: "toml" });
  expect(config.node).toMatchObject({ callsign: "DUN-A", network: "telex", logLevel: "debug" });
  expect(config.discovery[0]).toMatchObject({ name: "boot", type: "static" });
  const machine = readMachineConfig(undefined, env);
  expect(machine).toMatchObject({
    hostname: "gull",
    state: "LABEL=perm",
    timeServers: ["192.0.2.1"],
    rescue: true,
    watchdogMs: undefined,
    apiListen: ["0.0.0.0:8000"],
    problems: [],
  });
});
