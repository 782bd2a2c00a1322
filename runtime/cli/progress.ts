/** Work that takes its time, as people see it: a bar where there is a terminal, a line now and then elsewhere. Never for `--json`. */
import type { MessageView, ProgressView } from "../view/contract/node.ts";
import type { CommandContext } from "./command.ts";
import type { CliIo } from "./io.ts";
import * as render from "./render.ts";

/** Without a terminal a line says no sooner how far it is. */
const LINE_EVERY_MS = 10_000;
const BAR_CHARS_MAX = 40;
/** A shorter one says nothing. */
const BAR_CHARS_MIN = 10;
const ERASE_LINE = "\r\x1b[K";

/** `3.1 of 16.0 MiB, 2.0 Mbit/s, 52 s left`, as far as that is known. */
export function progressWords({ bytes, bytes_total, bits_per_second, seconds_left }: ProgressView): string {
  const words = [render.sizeOf(bytes, bytes_total)];
  if (bits_per_second !== null) words.push(render.bitRate(bits_per_second));
  if (seconds_left !== null) words.push(`${render.duration(seconds_left)} left`);
  return words.join(", ");
}

/** Where a message is and why, or how far it is on its way. */
export function stateWords({ state, reason, progress }: MessageView): string {
  // A node of an earlier release answers none.
  if (progress != null) return sendingWords(progress);
  return reason === null ? state : `${state}: ${reason}`;
}

const sendingWords = (progress: ProgressView): string => `sending ${progressWords(progress)}`;

interface Surroundings extends Pick<CommandContext, "env" | "isJson"> {
  readonly io: Pick<CliIo, "stderr" | "stderrColumns" | "clock">;
}

export class Meter {
  readonly #io: Surroundings["io"];
  /** Of the terminal; undefined: there is none that erases a line. */
  readonly #columns: number | undefined;
  readonly #isSilent: boolean;
  #isDrawn = false;
  #lineAtMs = Number.NEGATIVE_INFINITY;

  constructor({ io, env, isJson }: Surroundings) {
    this.#io = io;
    // A serial line knows no size, and says 0.
    this.#columns = env["TERM"] === "dumb" || io.stderrColumns === 0 ? undefined : io.stderrColumns;
    this.#isSilent = isJson;
  }

  /** How far it is now. */
  show(progress: ProgressView): void {
    if (this.#isSilent) return;
    if (this.#columns !== undefined) {
      this.#io.stderr(`${ERASE_LINE}${barLine(progress, this.#columns)}`);
      this.#isDrawn = true;
      return;
    }
    const nowMs = this.#io.clock.monotonicMs();
    if (nowMs - this.#lineAtMs < LINE_EVERY_MS) return;
    this.#lineAtMs = nowMs;
    this.#io.stderr(`${sendingWords(progress)}\n`);
  }

  /** Something else is to be said. */
  line(text: string): void {
    this.clear();
    if (!this.#isSilent) this.#io.stderr(`${render.safeLine(text)}\n`);
  }

  /** The bar goes, so that what is written next begins a line. */
  clear(): void {
    if (this.#isDrawn) this.#io.stderr(ERASE_LINE);
    this.#isDrawn = false;
  }
}

/** `[######----]  19 %, 3.1 of 16.0 MiB, 2.0 Mbit/s, 52 s left`, in less than a line of the terminal. */
function barLine(progress: ProgressView, columns: number): string {
  const { bytes, bytes_total } = progress;
  const share = bytes_total === 0 ? 1 : bytes / bytes_total;
  const words = progressWords(progress);
  const percent = `${Math.floor(share * 100)} %`.padStart(5);
  // In the last column some terminals begin a new line.
  const room = columns - 1 - Bun.stringWidth(`[] ${percent}, ${words}`);
  if (room < BAR_CHARS_MIN) return `sending ${words}`.slice(0, Math.max(0, columns - 1));
  const chars = Math.min(BAR_CHARS_MAX, room);
  const full = Math.floor(share * chars);
  return `[${"#".repeat(full)}${"-".repeat(chars - full)}] ${percent}, ${words}`;
}
