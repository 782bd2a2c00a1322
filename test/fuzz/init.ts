/** What PID 1 reads: datagrams of strangers, the command line, files of an image. None of it may stop a machine. */
import { configSections, parseTimeServer, readMachineConfig } from "../../runtime/config/machine.ts";
import { parseInterfacePlan } from "../../runtime/config/machine-parts.ts";
import { hasPowerPress } from "../../runtime/init/buttons.ts";
import { parseCommandLine } from "../../runtime/init/cmdline.ts";
import { printable } from "../../runtime/init/console.ts";
import { DhcpClient } from "../../runtime/init/dhcp-client.ts";
import { decodeDhcp } from "../../runtime/init/dhcp.ts";
import { parseImageFacts } from "../../runtime/init/facts.ts";
import { parseFacts } from "../../runtime/init/heartbeat.ts";
import { parseModulesDep, planModules } from "../../runtime/init/modules.ts";
import { extLabel } from "../../runtime/init/mounts.ts";
import { parseSavedClock, readSntpAnswer } from "../../runtime/init/time.ts";
import { ManualClock } from "../../runtime/kernel/clock.ts";
import { parseHex } from "../../runtime/kernel/ids.ts";
import dhcp from "../vectors/dhcp.json";
import type { Target } from "./engine.ts";

const text = new TextDecoder();
const utf8 = new TextEncoder();
const bytesOf = (hex: string) => parseHex(hex, hex.length / 2)!;
const MAC = Uint8Array.of(0x52, 0x54, 0x00, 0x12, 0x34, 0x56);
const SNTP_NONCE = Uint8Array.of(1, 2, 3, 4, 5, 6, 7, 8);
const SNTP_ANSWER =
  "240500e600000000000000007f7f0101eeb1bd1d65db9f670102030405060708eeb1bd1ea913374feeb1bd1eaa0dddb6";

const words = [
  ...[
    "godwit.",
    "=",
    '"',
    " ",
    "\0",
    ",",
    "-",
    "_",
    ".",
    "machine.",
    "names.DUN-A=",
    "__proto__",
    "constructor",
  ],
  ...["net=eth0=", "[", "]", "{", "}", "'", "programs=[{name='x',command=['/y']}]", "10.0.0.1/24", "::1/64"],
].map((word) => utf8.encode(word));

const decoder = (
  name: string,
  seeds: readonly Uint8Array[],
  run: (input: Uint8Array) => unknown,
): Target => ({
  name,
  seeds,
  tokens: [],
  run: (input) => void run(input),
});
const parser = (name: string, seeds: readonly string[], run: (input: string) => unknown): Target => ({
  name,
  seeds: seeds.map((seed) => utf8.encode(seed)),
  tokens: words,
  run: (input) => void run(text.decode(input)),
});

/** A client that waits for an answer to transaction 0, whatever comes. */
function feedClient(messages: readonly Uint8Array[]): void {
  const clock = new ManualClock();
  const client = new DhcpClient({
    clock,
    random: { bytes: (length) => new Uint8Array(length), float: () => 0, below: () => 0 },
    mac: MAC,
    hostname: "fuzz",
    send(message) {
      if (message.length < 300 || message.length > 400) throw new Error(`sent ${message.length} bytes`);
    },
    onLease(lease) {
      if (lease !== undefined && (lease.address[0] === 0 || lease.prefixLength > 32))
        throw new Error("took an address that is none");
    },
  });
  client.start();
  for (const message of messages) {
    // Its number and address of hardware, so that it is looked into.
    if (message.length > 44) {
      message.fill(0, 4, 8);
      message.set(MAC, 28);
    }
    client.receive(message);
  }
  for (let i = 0; i < 20; i++) clock.runNext(Number.POSITIVE_INFINITY);
  if (!Number.isFinite(clock.monotonicMs())) throw new Error("waits until the end of time");
}

export const initTargets = (): Target[] => [
  decoder("dhcp message", [bytesOf(dhcp.offer), bytesOf(dhcp.ack)], decodeDhcp),
  decoder("dhcp client", [bytesOf(dhcp.offer), bytesOf(dhcp.ack)], (input) =>
    feedClient([bytesOf(dhcp.offer), input.slice(), bytesOf(dhcp.ack), input.slice()]),
  ),
  decoder("sntp answer", [bytesOf(SNTP_ANSWER)], (input) => {
    const wallMs = readSntpAnswer(input, SNTP_NONCE, 20);
    if (wallMs !== undefined && !(wallMs >= 0 && wallMs < 2 ** 43)) throw new Error(`a time of ${wallMs}`);
  }),
  parser(
    "kernel command line",
    [
      "quiet panic=10 console=ttyS0 godwit.api=0.0.0.0:8000 godwit.callsign=DUN-A godwit.net=eth1=10.0.0.1/24,10.0.0.9 godwit.peer=tcp://192.0.2.1:1",
      "godwit.network=\"my mesh\" godwit.machine.programs=[{name='x',command=['/y']}] godwit.rescue godwit.watchdog=off",
    ],
    (input) => {
      const { env } = parseCommandLine(input, configSections);
      for (const [name, value] of Object.entries(env))
        if (!/^GODWIT_[A-Z0-9_]+$/.test(name) || value.includes("\0"))
          throw new Error(`not for exec: ${name}`);
      const machine = readMachineConfig(undefined, env);
      if (machine.watchdogMs !== undefined && !(machine.watchdogMs >= 20_000))
        throw new Error("a watchdog that bites at once");
    },
  ),
  parser("interface plan", ["eth0=dhcp", "en*=192.0.2.5/24,2001:db8::5/64,192.0.2.1"], parseInterfacePlan),
  parser("time server", ["192.0.2.1:123", "[2001:db8::1]:1"], parseTimeServer),
  parser("modules.dep", ["a.ko: b.ko c.ko\nb.ko:\nc.ko: b.ko\n"], (input) => {
    const dep = parseModulesDep(input);
    const { paths } = planModules(dep, ["a", "b", "c"]);
    if (new Set(paths).size !== paths.length) throw new Error("a module twice");
  }),
  parser("image facts", ['{"built_at":1793491200,"version":"1","modules":["tun"]}'], (input) =>
    parseImageFacts(input, 0),
  ),
  parser(
    "node facts",
    ['{"node":{"id":"a"},"peers":{"connected":1},"transports":[{"listen":["x"]}]}'],
    (input) => {
      let value: unknown;
      try {
        value = JSON.parse(input);
      } catch {
        return;
      }
      parseFacts(value);
    },
  ),
  parser("saved clock", ["1793491200000\n"], parseSavedClock),
  parser("console line", ["a\u001b[2Jb"], (input) => {
    if (/\p{Cc}/u.test(printable(input))) throw new Error("a control character");
  }),
  decoder("file system label", [new Uint8Array(1_280).fill(0x53)], extLabel),
  decoder("input events", [new Uint8Array(48).fill(1)], hasPowerPress),
];
