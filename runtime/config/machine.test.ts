import { expect, test } from "bun:test";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { readMachineConfig } from "./machine.ts";
import { parseInterfacePlan, parseTimeServer } from "./machine-parts.ts";

function read(toml: string, env: Record<string, string> = {}) {
  const folder = mkdtempSync(join(tmpdir(), "godwit-machine-"));
  try {
    const path = join(folder, "godwit.toml");
    writeFileSync(path, toml);
    return readMachineConfig(path, env);
  } finally {
    rmSync(folder, { recursive: true });
  }
}

test("defaults", () => {
  expect(readMachineConfig(undefined, {})).toEqual({
    hostname: "godwit",
    state: undefined,
    network: [],
    nameServers: [],
    timeServers: [],
    modules: [],
    watchdogMs: 60_000,
    rescue: false,
    programs: [],
    stateDir: "/var/lib/godwit",
    socket: "/var/lib/godwit/godwit.sock",
    apiListen: ["127.0.0.1:8000"],
    problems: [],
  });
});

test("a file, with secrets that nobody can read yet", () => {
  const machine = read(`
    [node]
    callsign = "LON-B"
    network_secret = "file:/var/lib/godwit/network.key"
    [api]
    listen = ["0.0.0.0:8000", "[::]:8000"]
    socket = "/run/godwit.sock"
    [machine]
    state = "LABEL=perm"
    network = ["eth0=off", "en*=192.0.2.5/24,2001:db8::5/64,192.0.2.1"]
    watchdog = "2m"
    [[machine.programs]]
    name = "tor"
    command = ["/usr/bin/tor", "-f", "/etc/torrc"]
    needs_clock = true
  `);
  expect(machine.problems).toEqual([]);
  expect(machine).toMatchObject({
    hostname: "lon-b",
    state: "LABEL=perm",
    watchdogMs: 120_000,
    socket: "/run/godwit.sock",
    apiListen: ["0.0.0.0:8000", "[::]:8000"],
    programs: [{ name: "tor", command: ["/usr/bin/tor", "-f", "/etc/torrc"], needsClock: true }],
  });
  expect(machine.network[1]).toEqual({
    name: "en*",
    mode: "static",
    addresses: [
      { address: "192.0.2.5", prefixLength: 24 },
      { address: "2001:db8::5", prefixLength: 64 },
    ],
    gateway: "192.0.2.1",
  });
});

test("what is wrong is told, and the rest holds", () => {
  const machine = read(`[machine]\nrescue = true\nwatchdog = "1s"\nhostname = "-bad-"\nunknown = 1\n`);
  expect(machine).toMatchObject({ rescue: true, watchdogMs: 60_000, hostname: "godwit" });
  expect(machine.problems).toHaveLength(3);
  expect(machine.problems.map((words) => words.split(":")[0]).toSorted()).toEqual([
    "machine.hostname (line 4)",
    "machine.unknown (line 5)",
    "machine.watchdog (line 3)",
  ]);
  expect(read("this is no toml [").problems).toHaveLength(1);
  expect(readMachineConfig("/nowhere/at/all.toml", {}).problems).toHaveLength(1);
});

test("the command line stands above the file", () => {
  const machine = read(`[machine]\nhostname = "a"\n`, {
    GODWIT_MACHINE__HOSTNAME: "b",
    GODWIT_MACHINE__PROGRAMS: "[{name='needy',command=['/x'],needs_clock=true}]",
    GODWIT_NONSENSE: "1",
  });
  expect(machine.hostname).toBe("b");
  expect(machine.programs).toEqual([{ name: "needy", command: ["/x"], needsClock: true }]);
});

test("interfaces and time servers that are none", () => {
  for (const text of [
    "",
    "eth0",
    "=dhcp",
    "eth0=",
    "eth0=10.0.0.1",
    "eth0=10.0.0.1/33",
    "eth0=::1/129",
    "eth0=a/1",
    "waytoolonganame123=dhcp",
    "eth0=10.0.0.1/24,10.0.0.2,10.0.0.3",
  ])
    expect(parseInterfacePlan(text)).toBeUndefined();
  for (const text of ["", "pool.example", "192.0.2.1:0", "192.0.2.1:99999", "2001:db8::1:", "[192.0.2.1]:1"])
    expect(parseTimeServer(text)).toBeUndefined();
  expect(parseTimeServer("[2001:db8::1]:10123")).toEqual({ address: "2001:db8::1", port: 10_123 });
});
