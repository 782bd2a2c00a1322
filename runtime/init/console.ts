/**
 * The console: a line for whatever happens, and a screen that says who this node is and how to reach it. Writing never waits:
 * a terminal that does not take its bytes loses them, and PID 1 goes on.
 */
import { closeSync, constants, openSync, readSync, writeSync } from "node:fs";
import type { ClockSource } from "./time.ts";
import type { Fault, NodeFacts } from "./heartbeat.ts";
import type { ProgramView } from "./supervise.ts";

export const CONSOLE_DEVICE = "/dev/console";
const READ_BYTES = 1_024;
/** Of a line that is being typed. */
const INPUT_CHARS_MAX = 1_024;

export interface Console {
  write(line: string): void;
  /** Lines typed since the last call. */
  read(): string[];
  close(): void;
}

/** A machine without a console has one that nobody reads. */
export function openConsole(readsInput: boolean): Console {
  const open = (flags: number): number => {
    try {
      return openSync(CONSOLE_DEVICE, flags | constants.O_NONBLOCK | constants.O_NOCTTY);
    } catch {
      return -1;
    }
  };
  const out = open(constants.O_WRONLY);
  const input = readsInput ? open(constants.O_RDONLY) : -1;
  const buffer = new Uint8Array(READ_BYTES);
  const decoder = new TextDecoder();
  let rest = "";
  return {
    write(line) {
      if (out < 0) return;
      try {
        writeSync(out, `${printable(line)}\r\n`);
      } catch {
        // Full, or gone.
      }
    },
    read() {
      if (input < 0) return [];
      try {
        const length = readSync(input, buffer, 0, buffer.length, null);
        rest += decoder.decode(buffer.subarray(0, length), { stream: true });
      } catch {
        return []; // EAGAIN: nobody types.
      }
      const lines = rest.split(/\r\n|\r|\n/);
      rest = lines.pop()!.slice(0, INPUT_CHARS_MAX);
      return lines.slice(0, 16);
    },
    close() {
      for (const descriptor of [out, input]) if (descriptor >= 0) closeSync(descriptor);
    },
  };
}

const FAULTS_SHOWN_MAX = 5;
const FAULT_CHARS_MAX = 240;

/** Programs may write anything; a terminal would act on some of it. */
export const printable = (line: string): string =>
  line.replace(/\t/g, " ").replace(/[\p{Cc}\u202a-\u202e\u2066-\u2069]/gu, "?");

export interface ScreenFacts {
  readonly hostname: string;
  readonly version: string;
  readonly node: NodeFacts | undefined;
  /** The node's word, or why there is none. */
  readonly health: string;
  /** What is not well. */
  readonly faults: readonly Fault[];
  /** `10.0.2.15/24 eth0`. */
  readonly addresses: readonly { readonly address: string; readonly interface: string }[];
  /** As configured: `0.0.0.0:8000`. Empty: none. */
  readonly api: readonly string[];
  readonly clock: ClockSource;
  readonly state: string | undefined;
  readonly programs: readonly ProgramView[];
  /** Seconds; undefined: there is no watchdog. */
  readonly watchdogSeconds: number | undefined;
  readonly allowsRescue: boolean;
}

/** The screen, line by line. Pure. */
export function formatScreen(facts: ScreenFacts): string[] {
  const { node, addresses, programs } = facts;
  const row = (name: string, value: string) => `  ${name.padEnd(10)} ${value}`;
  const reachable = addresses.filter(({ address }) => !/^(?:127\.|::1|fe80:)/i.test(address));
  const others = programs.filter(({ name }) => name !== "node");
  return [
    `== Godwit ${facts.version} on ${facts.hostname}`,
    row("node", node === undefined ? facts.health : `${node.callsign ?? "-"} ${node.id}, ${facts.health}`),
    ...facts.faults.slice(0, FAULTS_SHOWN_MAX).map((fault) => row("", faultText(fault))),
    ...(node === undefined ? [] : [row("mesh", `${node.network}, ${node.peers} connected, ${node.address}`)]),
    row(
      "addresses",
      reachable.length === 0
        ? "none yet"
        : reachable.map((one) => `${one.address} ${one.interface}`).join(", "),
    ),
    row(
      "api",
      formatApi(
        facts.api,
        reachable.map(({ address }) => address),
      ),
    ),
    row("clock", clockText[facts.clock]),
    row("state", facts.state ?? "in memory: gone after a restart (godwit.state=DISK keeps it)"),
    row("watchdog", facts.watchdogSeconds === undefined ? "none" : `${facts.watchdogSeconds} s`),
    ...others.map(({ name, state, reason }) =>
      row(name, reason === undefined ? state : `${state}: ${reason}`),
    ),
    ...(facts.allowsRescue ? ["  type help and Enter for what can be done here"] : []),
  ];
}

/** In words that other nodes and programs had a part in. */
const faultText = ({ name, reason }: Fault): string =>
  printable(`${name}: ${reason}`).slice(0, FAULT_CHARS_MAX);

const clockText: Readonly<Record<ClockSource, string>> = {
  hardware: "the machine's own",
  floor: "held: set to the last time known to have passed; waiting for a time server",
  server: "from a time server",
};

/** Where the API can be reached from elsewhere. */
function formatApi(listen: readonly string[], addresses: readonly string[]): string {
  const urls = listen.flatMap((one) => {
    const match = /^(?:\[([^\]]+)\]|([^:]+)):(\d+)$/.exec(one);
    const host = match?.[1] ?? match?.[2];
    if (match === null || host === undefined || host === "localhost" || /^(?:127\.|::1$)/.test(host))
      return [];
    const isAny = host === "0.0.0.0" || host === "::";
    const hosts = isAny ? addresses.filter((address) => host === "::" || !address.includes(":")) : [host];
    return hosts.map(
      (name) => `http://${name.includes(":") ? `[${name.split("/")[0]}]` : name.split("/")[0]}:${match[3]}`,
    );
  });
  return urls.length > 0 ? urls.join(", ") : "only on this machine (godwit.api=0.0.0.0:8000 opens it)";
}
