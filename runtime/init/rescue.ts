/**
 * What whoever sits at the console may do, where `machine.rescue` allows it: look, stop and start things, and make a token. There is no
 * shell, and nothing of it can read a secret that is there already.
 */
import type { Clock } from "../kernel/clock.ts";
import { isScreen, type MadeToken, tokenLines } from "./first-token.ts";
import type { End } from "./power.ts";
import type { Program, Supervisor } from "./supervise.ts";

const LOG_LINES = 20;

export interface RescueDeps {
  readonly supervisor: Supervisor;
  readonly clock: Clock;
  screen(): readonly string[];
  end(how: End): void;
  /** Suspends a process: a drill for the watchdogs. */
  freeze(pid: number): void;
  print(line: string): void;
  /** With all rights. */
  makeToken(): Promise<MadeToken>;
  /** Name of this console, as `ttyS0`. */
  consoleName(): string | undefined;
  /** Memory of the machine and of what runs, line by line. */
  memory(): readonly string[];
}

interface Command {
  readonly usage: string;
  readonly help: string;
  run(deps: RescueDeps, args: readonly string[]): void | Promise<void>;
}

const withProgram =
  (act: (program: Program, deps: RescueDeps) => void | Promise<void>): Command["run"] =>
  async (deps, [name = ""]) => {
    const program = deps.supervisor.find(name);
    if (program === undefined) {
      const names = deps.supervisor.programs.map((one) => one.name).join(", ");
      return deps.print(`no program "${name}"; there are ${names}`);
    }
    await act(program, deps);
  };

/** docs/boot.md is checked against this table. */
export const rescueCommands: Readonly<Record<string, Command>> = {
  help: {
    usage: "help",
    help: "this list",
    run: ({ print }) => {
      for (const { usage, help } of Object.values(rescueCommands)) print(`  ${usage.padEnd(16)} ${help}`);
    },
  },
  status: {
    usage: "status",
    help: "the screen",
    run: ({ screen, print }) => screen().forEach(print),
  },
  programs: {
    usage: "programs",
    help: "what runs, since when, and how it last ended",
    run: ({ supervisor, clock, print }) => {
      for (const { view } of supervisor.programs) {
        const seconds =
          view.startedAtMs === undefined
            ? "-"
            : `${Math.round((clock.monotonicMs() - view.startedAtMs) / 1_000)} s`;
        print(
          `  ${view.name.padEnd(12)} ${view.state.padEnd(9)} pid ${view.pid ?? "-"}, ${view.starts} starts, ${seconds}${view.reason === undefined ? "" : `, ${view.reason}`}`,
        );
      }
    },
  },
  memory: {
    usage: "memory",
    help: "what the machine has left, and what each program holds",
    run: ({ memory, print }) => memory().forEach(print),
  },
  log: {
    usage: "log NAME",
    help: `its last ${LOG_LINES} lines`,
    run: withProgram((program, { print }) =>
      program.lines.last(LOG_LINES).forEach((line) => print(`  ${line}`)),
    ),
  },
  stop: {
    usage: "stop NAME",
    help: "ends it until start; without its node the watchdog resets the machine",
    run: withProgram((program) => program.stop()),
  },
  start: { usage: "start NAME", help: "starts it", run: withProgram((program) => program.start()) },
  restart: {
    usage: "restart NAME",
    help: "ends it politely and starts it",
    run: withProgram((program) => program.restart()),
  },
  kill: {
    usage: "kill NAME",
    help: "ends it at once, as a crash would",
    run: withProgram((program) => program.kill("killed at the console")),
  },
  freeze: {
    usage: "freeze NAME",
    help: "suspends it, as if it hung: a drill",
    run: withProgram((program, { freeze }) => {
      if (program.view.pid !== undefined) freeze(program.view.pid);
    }),
  },
  token: {
    usage: "token",
    help: "makes a token with all rights for the API, and shows it this once",
    run: async ({ makeToken, consoleName, print }, [word]) => {
      const name = consoleName();
      if (!isScreen(name) && word !== "anyway")
        return print(
          `  this console is ${name ?? "no screen"}: who keeps what it says keeps the token; token anyway makes one`,
        );
      tokenLines(await makeToken()).forEach(print);
    },
  },
  reboot: { usage: "reboot", help: "an orderly restart of the machine", run: ({ end }) => end("restart") },
  poweroff: { usage: "poweroff", help: "an orderly end", run: ({ end }) => end("powerOff") },
};

/** One typed line. Never throws. */
export async function runRescue(line: string, deps: RescueDeps): Promise<void> {
  const [name = "", ...args] = line.trim().split(/\s+/);
  if (name === "") return;
  const command = Object.hasOwn(rescueCommands, name) ? rescueCommands[name] : undefined;
  if (command === undefined) return deps.print(`"${name}" is no command; help lists them`);
  try {
    await command.run(deps, args);
  } catch (error) {
    deps.print(`${name}: ${error instanceof Error ? error.message : String(error)}`);
  }
}
