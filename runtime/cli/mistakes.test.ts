/** Typical mistakes of people, and that each is answered with what to type instead. */
import { afterAll, beforeAll, expect, test } from "bun:test";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createRig } from "../api/testing.ts";
import { systemClock } from "../kernel/clock.ts";
import { Scope } from "../kernel/scope.ts";
import { runForTest, serveAt } from "./testing.ts";

const folder = mkdtempSync(join(tmpdir(), "godwit-mistakes-"));
const socketPath = join(folder, "node.sock");
const file = join(folder, "godwit.toml");
const scope = new Scope("api");

beforeAll(async () => {
  const rig = createRig({ clock: systemClock });
  await serveAt(socketPath, rig, scope);
});
afterAll(async () => {
  await scope.close();
  rmSync(folder, { recursive: true });
});

const VALIDATOR = /Invalid (?:input|option|string)|Too (?:big|small)|received|NaN|ZodError|undefined/;

test.each([
  ["statsu", "did you mean godwit status?"],
  ["peer", "did you mean godwit peers?"],
  ["plugin instal x", "godwit plugin"],
  ["send", "usage: godwit send ADDRESS"],
  ["why", "usage: godwit why NODE"],
  ["send NYC-C hi --priority high", "--priority is 0 (most urgent)"],
  ["send NYC-C hi --priority 7", "--priority is 0 (most urgent)"],
  ["send NYC-C hi --ttl 5", "did you mean 5s, 5m or 5h?"],
  ["send NYC-C hi --ttl tomorrow", "a duration with its unit, such as 90s, 30m, 72h or 7d"],
  ["send NYC-C hi --ttl 2w", "a duration with its unit"],
  ["send NYC-C hi --wait --timeout 10", "did you mean 10s, 10m or 10h?"],
  ["send NYC-C --file /nowhere/at/all", "cannot read /nowhere/at/all"],
  ["send NYC-C --file /", "is a directory; send a file"],
  ["send NYC-C hi --failover --no-failover", "exclude each other"],
  ["send --to NYC-C hi", "see godwit send --help"],
  ["invite --ttl 90d", "--ttl is at most 30d"],
  ["invite --ttl 90", "did you mean 90s, 90m or 90h?"],
  ["invite --uses many", "--uses is a number from 1 to 255"],
  ["token new", "--scope read, send, operate, admin or pages:NAME"],
  ["token new --scope root", '"root" is no scope: read, send, operate, admin or pages:NAME'],
  ["token new --scope raed", "did you mean read?"],
  ["token new --scope read,wirte", '"wirte" is no scope'],
  ["trust NYC-C besst", '"besst" is no level: unknown, member, trusted, blocked'],
  ["trust NYC-C truste", "did you mean trusted?"],
  ["trust NYC-C trusted", "--reason"],
  ["members --state dead", "alive, suspect, failed, left"],
  ["health --live --ready", "ask one"],
  ["health --lvie", "see godwit health --help"],
  ["secret new --out /nowhere/at/all/key", "there is no such folder; mkdir -p /nowhere/at/all"],
  ["secret new", "--out /etc/godwit/network.key"],
  ["inbox read xyz", "32 hex digits"],
  ["events --family mail", "is none of"],
  ["forward 80 LON-B 22", "listen"],
  ["config explain node.callsgin", "did you mean node.callsign?"],
])("godwit %s", async (line, part) => {
  const words = line.split(" ");
  const asks = !["config", "secret"].includes(words[0]!);
  const { code, out, err } = await runForTest([...words, ...(asks ? ["--socket", socketPath] : [])]);
  expect([code === 0, out]).toEqual([false, ""]);
  expect(err).toContain(part);
  expect(err).not.toMatch(VALIDATOR);
});

test.each([
  ['[node]\ncallsgin = "DUN-A"', "did you mean callsign?"],
  ['[node]\ncallsign = "dun a"', "DUN-A"],
  ['[node]\ncallsign = "DUN-A"\nnetwork_secret = "hunter2"', "file:"],
  ['[transports.lan]\ntype = "tpc"', '"tcp"'],
  ['[transports.lan]\ntype = "tcp"\nlisten = "0.0.0.0:4860"', "a list"],
  ['[node]\ncallsign = "DUN-A', "line"],
])("a configuration that says %j", async (text, part) => {
  writeFileSync(file, text);
  const { code, err } = await runForTest(["config", "check", "--config", file]);
  expect(code).toBe(78);
  expect(err).toContain(part);
  expect(err).not.toMatch(VALIDATOR);
});
