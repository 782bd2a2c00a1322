/**
 * The first token of a machine whose API others may call: whoever stands before its screen sees it, once. Must never write one where somebody
 * keeps it: a log, a file, or a serial line, which a cloud shows to whoever has its account. docs/boot.md "A token" is its manual.
 */
import { closeSync, constants, existsSync, openSync, readFileSync, writeFileSync, writeSync } from "node:fs";
import type { Log } from "@godwit/sdk";

/** The virtual terminal in the foreground. */
const SCREEN_DEVICE = "/dev/tty0";
const CONSOLES_FILE = "/sys/class/tty/console/active";

export interface FirstTokenDeps {
  /** As configured: `0.0.0.0:8000`. */
  readonly apiListen: readonly string[];
  /** Whether this machine had its first token before, as far as what it keeps says. */
  hadOne(): boolean;
  noteOne(): void;
  /** How many tokens there are, those of the configuration among them. */
  count(): Promise<number>;
  create(): Promise<MadeToken>;
  revoke(id: string): Promise<void>;
  /** Of the machine itself, not a line that leads elsewhere; undefined: it has none. */
  screen(): Screen | undefined;
  readonly log: Pick<Log, "info">;
}

export interface MadeToken {
  readonly id: string;
  readonly secret: string;
}

export interface Screen {
  write(line: string): void;
  close(): void;
}

export const TOKEN_ADVICE =
  "godwit.rescue lets the console make one (token), [[api.tokens]] names a file that holds one: docs/boot.md";

/** Once for each start of the machine. Rejects as `count`, `create` and `revoke` do, and where the screen takes nothing. */
export async function offerFirstToken(deps: FirstTokenDeps): Promise<void> {
  if (!deps.apiListen.some(isForOthers) || deps.hadOne() || (await deps.count()) > 0) return;
  // Before it is made: nobody would know the secret of one that is not shown.
  const screen = deps.screen();
  if (screen === undefined)
    return deps.log.info("the API has no token", { reason: "nobody else can call it", advice: TOKEN_ADVICE });
  try {
    const made = await deps.create();
    try {
      for (const line of tokenLines(made)) screen.write(line);
    } catch (error) {
      // Whoever stopped the screen has not seen it: the next start makes another.
      await deps.revoke(made.id);
      throw error;
    }
    deps.noteOne();
  } finally {
    screen.close();
  }
}

export const tokenLines = ({ id, secret }: MadeToken): readonly string[] => [
  `  token      ${secret}`,
  "             may everything (scope admin); shown this once and kept nowhere",
  `             DELETE /tokens/${id} ends it`,
];

/** Somebody beyond this machine may call there. */
const isForOthers = (listen: string): boolean => !/^(?:127\.|localhost|\[::1\])/i.test(listen);

/** Names of the kernel's consoles; /dev/console is the last one. */
export function consoleNames(): readonly string[] {
  try {
    return readFileSync(CONSOLES_FILE, "utf8").trim().split(/\s+/);
  } catch {
    return [];
  }
}

/** A virtual terminal; serial lines and those of hypervisors (ttyS0, ttyAMA0, hvc0) end where others may keep what they say. */
export const isScreen = (name: string | undefined): boolean => /^tty\d+$/.test(name ?? "");

/** Where the kernel has a virtual terminal among its consoles. */
export function openScreen(names = consoleNames(), device = SCREEN_DEVICE): Screen | undefined {
  if (!names.some(isScreen)) return undefined;
  try {
    const out = openSync(device, constants.O_WRONLY | constants.O_NONBLOCK | constants.O_NOCTTY);
    return { write: (line) => void writeSync(out, `${line}\r\n`), close: () => closeSync(out) };
  } catch {
    return undefined;
  }
}

/** Beside what the node keeps. */
export const markAt = (path: string): Pick<FirstTokenDeps, "hadOne" | "noteOne"> => ({
  hadOne: () => existsSync(path),
  noteOne: () => writeFileSync(path, "", { mode: 0o600 }),
});
