/**
 * `--watch`: what a command prints, again and again until Ctrl-C. On a terminal each picture takes the place of the one
 * before, in one write and without clearing first, so that nothing flickers; elsewhere one follows the other.
 */
import { isoTime, sleep } from "../kernel/clock.ts";
import { godwitError } from "../kernel/errors.ts";
import { type CommandContext, type CommandModule, exitCodes } from "./command.ts";
import type { CliIo } from "./io.ts";

const SECONDS_MIN = 0.1;
const SECONDS_MAX = 86_400;

export interface WatchDeps {
  /** With the output of one picture instead of the real one. */
  readonly contextFor: (io: CliIo) => CommandContext;
  readonly module: CommandModule;
  /** Says why a picture could not be made. */
  readonly report: (error: unknown, io: CliIo) => void;
}

/** Ends with 0 by Ctrl-C. Throws what the command throws at its first picture: a wrong command does not get better. */
export async function watch(context: CommandContext, deps: WatchDeps): Promise<number> {
  const { io, isJson } = context;
  const pauseMs = secondsOf(context) * 1_000;
  const hasCursor = io.isStdoutTty && context.env["TERM"] !== "dumb";
  const screen = hasCursor && !isJson ? new Screen(io) : undefined;
  try {
    for (let isFirst = true; ; isFirst = false) {
      const picture = await pictureOf(io, deps, isFirst, screen !== undefined);
      if (io.signal.aborted) break;
      if (screen !== undefined) screen.draw(picture);
      else io.stdout(isJson ? picture : `--- ${isoTime(io.clock.wallMs())}\n${picture}`);
      await sleep(io.clock, pauseMs, io.signal);
    }
  } catch (error) {
    if (!io.signal.aborted) throw error;
  } finally {
    screen?.close();
  }
  return exitCodes.fine;
}

function secondsOf(context: CommandContext): number {
  const text = context.option("watch")!;
  const seconds = /^\d+(\.\d+)?$/.test(text) ? Number(text) : NaN;
  if (seconds >= SECONDS_MIN && seconds <= SECONDS_MAX) return seconds;
  throw godwitError(
    "GODWIT_USAGE",
    `--watch takes seconds, ${SECONDS_MIN} to ${SECONDS_MAX}, not "${text}"; without a number it is 2`,
  );
}

async function pictureOf(
  io: CliIo,
  deps: WatchDeps,
  isFirst: boolean,
  takesErrors: boolean,
): Promise<string> {
  let text = "";
  const put = (chunk: string | Uint8Array) => void (text += Buffer.from(chunk as string).toString());
  const held = Object.create(io, {
    stdout: { value: put },
    ...(takesErrors ? { stderr: { value: put } } : {}),
  }) as CliIo;
  try {
    await deps.module.run(deps.contextFor(held));
  } catch (error) {
    if (isFirst || io.signal.aborted) throw error;
    // The node may be back at the next picture.
    text = "";
    deps.report(error, held);
  }
  return text;
}

const HIDE_CURSOR = "\x1b[?25l";
const SHOW_CURSOR = "\x1b[?25h";
/** Terminals that know it show all that is between at once; the others pass over it. */
const BEGIN_AT_ONCE = "\x1b[?2026h";
const END_AT_ONCE = "\x1b[?2026l";
const CLEAR_LINE_END = "\x1b[K";
const CLEAR_BELOW = "\x1b[J";
const CLEAR_ALL = "\x1b[H\x1b[2J";

/** The part of a terminal below where the command was typed. */
class Screen {
  readonly #io: CliIo;
  #height = 0;
  #size = "";

  constructor(io: CliIo) {
    this.#io = io;
  }

  draw(text: string): void {
    const { columns, rows } = this.#io.size ?? { columns: 80, rows: 24 };
    // A terminal of another size has broken the lines anew, and nobody knows where the picture begins.
    const size = `${columns}x${rows}`;
    const isFirst = this.#size === "";
    const isMoved = !isFirst && this.#size !== size;
    this.#size = size;
    const all = text
      .trimEnd()
      .split("\n")
      .flatMap((line) =>
        Bun.wrapAnsi(line, columns, { hard: true, trim: false, wordWrap: false }).split("\n"),
      );
    // One line stays for the cursor, which stands below.
    const room = Math.max(1, rows - 1);
    const shown =
      all.length <= room ? all : [...all.slice(0, room - 1), `... ${all.length - room + 1} more lines`];
    const back = isMoved ? CLEAR_ALL : `\r${this.#height === 0 ? "" : `\x1b[${this.#height}A`}`;
    const lines = shown.map((line) => `${line}${CLEAR_LINE_END}\n`).join("");
    this.#height = shown.length;
    this.#io.stdout(
      `${isFirst ? HIDE_CURSOR : ""}${BEGIN_AT_ONCE}${back}${lines}${CLEAR_BELOW}${END_AT_ONCE}`,
    );
  }

  /** The last picture stays; of Ctrl-C nothing does. */
  close(): void {
    if (this.#size !== "") this.#io.stdout(`\r${CLEAR_LINE_END}${SHOW_CURSOR}`);
  }
}
