/**
 * Keeps programs running: each in a process group of its own, restarted with growing pauses, within a budget of crashes, its
 * last lines kept. Decides nothing about the machine; must never throw into PID 1, whatever a program does. The processes
 * themselves come from a `Spawner`, so that the whole table is tested with a fake.
 */
import { Backoff, CrashBudget } from "../kernel/backoff.ts";
import type { Clock, Timer } from "../kernel/clock.ts";
import type { Random } from "../kernel/random.ts";

const RESTART_BACKOFF = { firstMs: 1_000, capMs: 60_000, factor: 2 } as const;
/** Up for so long, it counts as well again. */
const STABLE_MS = 60_000;
/** Crashes within the window; then there is a long pause, and a fresh budget. */
const CRASHES_MAX = 8;
const CRASH_WINDOW_MS = 10 * 60_000;
const EXHAUSTED_PAUSE_MS = 10 * 60_000;
/** From SIGTERM to SIGKILL. Longer than the node's own limit (STOP_MAX_MS of cli/commands/run.ts). */
export const STOP_MAX_MS = 15_000;
/** Lines kept of each program, and characters of a line. */
export const LOG_LINES_MAX = 200;
const LINE_CHARS_MAX = 2_000;

export type ProgramState =
  | "held" // something it needs is not there yet
  | "running"
  | "stopping"
  | "waiting" // for its next start, after it ended
  | "exhausted" // crashed too often: a long pause
  | "stopped"; // because somebody said so

export interface Exit {
  /** Undefined when a signal ended it. */
  readonly code: number | undefined;
  readonly signal: string | undefined;
}

export interface ProcessHandle {
  readonly pid: number;
  /** To the whole process group; no error when it is gone. */
  signalGroup(signal: "SIGTERM" | "SIGKILL"): void;
}

export interface SpawnRequest {
  readonly command: readonly string[];
  readonly env: Readonly<Record<string, string>>;
  onLine(line: string): void;
  /** Exactly once, also for a program that could not be started. */
  onExit(exit: Exit): void;
}

/** Throws when there is no such program. */
export type Spawner = (request: SpawnRequest) => ProcessHandle;

export interface ProgramSpec {
  readonly name: string;
  readonly command: readonly string[];
  readonly env: Readonly<Record<string, string>>;
  /** Why it may not start yet; undefined: it may. Asked at `start` and at `release`. */
  heldBy?(): string | undefined;
}

export interface ProgramView {
  readonly name: string;
  readonly state: ProgramState;
  readonly pid: number | undefined;
  readonly starts: number;
  /** How the last run ended, or what it is held by; undefined when there is nothing to say. */
  readonly reason: string | undefined;
  /** Monotonic ms of the last start. */
  readonly startedAtMs: number | undefined;
}

export interface SupervisorDeps {
  readonly clock: Clock;
  readonly random: Random;
  readonly spawn: Spawner;
  /** Every line of every program, for the console. */
  onLine(program: string, line: string): void;
  /** After every change of state. */
  onChange(view: ProgramView): void;
}

/** The last lines of one program. */
export class LineRing {
  readonly #lines: string[] = [];

  push(line: string): void {
    this.#lines.push(line.slice(0, LINE_CHARS_MAX));
    if (this.#lines.length > LOG_LINES_MAX) this.#lines.shift();
  }

  last(count: number): readonly string[] {
    return count <= 0 ? [] : this.#lines.slice(-count);
  }
}

export class Program {
  readonly name: string;
  readonly lines = new LineRing();
  readonly #spec: ProgramSpec;
  readonly #deps: SupervisorDeps;
  readonly #backoff: Backoff;
  #budget: CrashBudget;
  #state: ProgramState = "stopped";
  #process: ProcessHandle | undefined;
  #timer: Timer | undefined;
  #starts = 0;
  #startedAtMs: number | undefined;
  #reason: string | undefined;
  /** Wanted by whoever said start or stop last. */
  #isWanted = false;
  #ended: PromiseWithResolvers<void> | undefined;

  constructor(spec: ProgramSpec, deps: SupervisorDeps) {
    this.name = spec.name;
    this.#spec = spec;
    this.#deps = deps;
    this.#backoff = new Backoff(RESTART_BACKOFF, deps.random);
    this.#budget = new CrashBudget(deps.clock, CRASHES_MAX, CRASH_WINDOW_MS);
  }

  get view(): ProgramView {
    return {
      name: this.name,
      state: this.#state,
      pid: this.#process?.pid,
      starts: this.#starts,
      reason: this.#reason,
      startedAtMs: this.#startedAtMs,
    };
  }

  /** Starts it, at once if it was waiting. No effect while it runs. */
  start(): void {
    this.#isWanted = true;
    if (this.#process !== undefined) return;
    this.#timer?.cancel();
    this.#launch();
  }

  /** Looks again whether it may start. */
  release(): void {
    if (this.#state === "held" && this.#isWanted) this.#launch();
  }

  /** SIGTERM, then SIGKILL; settles when it is gone. It stays so until `start`. */
  async stop(): Promise<void> {
    this.#isWanted = false;
    this.#timer?.cancel();
    if (this.#process === undefined) return this.#become("stopped", undefined);
    await this.#end("SIGTERM");
  }

  /** Ends it, now; it is started again as after a crash. For one that hangs. */
  kill(reason: string): void {
    if (this.#process === undefined) return;
    this.#reason = reason;
    this.#process.signalGroup("SIGKILL");
  }

  /** Ends it politely; it is started again without a pause. */
  async restart(): Promise<void> {
    await this.stop();
    this.start();
  }

  #launch(): void {
    const held = this.#spec.heldBy?.();
    if (held !== undefined) return this.#become("held", held);
    this.#starts++;
    this.#startedAtMs = this.#deps.clock.monotonicMs();
    let isOver = false;
    const onExit = (exit: Exit) => {
      if (isOver) return;
      isOver = true;
      this.#onExit(exit);
    };
    try {
      this.#process = this.#deps.spawn({
        command: this.#spec.command,
        env: this.#spec.env,
        onLine: (line) => {
          this.lines.push(line);
          this.#deps.onLine(this.name, line);
        },
        onExit,
      });
    } catch (error) {
      this.lines.push(`cannot start: ${error instanceof Error ? error.message : String(error)}`);
      this.#reason = this.lines.last(1)[0];
      return onExit({ code: 127, signal: undefined });
    }
    this.#become("running", undefined);
  }

  #onExit(exit: Exit): void {
    const { clock } = this.#deps;
    const ran = this.#process !== undefined;
    // What it left of its group must not live on beside the next one.
    this.#process?.signalGroup("SIGKILL");
    this.#process = undefined;
    this.#timer?.cancel();
    const how = exit.signal === undefined ? `ended with code ${exit.code}` : `ended by ${exit.signal}`;
    const why = this.#state === "running" && this.#reason !== undefined ? `${this.#reason}; ${how}` : how;
    this.#ended?.resolve();
    this.#ended = undefined;
    if (!this.#isWanted) return this.#become("stopped", how);
    if (ran && clock.monotonicMs() - (this.#startedAtMs ?? 0) >= STABLE_MS) this.#backoff.reset();
    const hasBudget = this.#budget.spend();
    if (!hasBudget) {
      this.#budget = new CrashBudget(clock, CRASHES_MAX, CRASH_WINDOW_MS);
      this.#backoff.reset();
    }
    this.#become(hasBudget ? "waiting" : "exhausted", ran ? why : (this.#reason ?? why));
    this.#timer = clock.after(hasBudget ? this.#backoff.nextMs() : EXHAUSTED_PAUSE_MS, () => this.#launch());
  }

  #end(signal: "SIGTERM" | "SIGKILL"): Promise<void> {
    this.#ended ??= Promise.withResolvers<void>();
    const { promise } = this.#ended;
    this.#become("stopping", undefined);
    this.#process?.signalGroup(signal);
    this.#timer = this.#deps.clock.after(STOP_MAX_MS, () => this.#process?.signalGroup("SIGKILL"));
    return promise;
  }

  #become(state: ProgramState, reason: string | undefined): void {
    this.#state = state;
    this.#reason = reason;
    this.#deps.onChange(this.view);
  }
}

export class Supervisor {
  readonly #programs: Program[] = [];
  readonly #deps: SupervisorDeps;

  constructor(deps: SupervisorDeps) {
    this.#deps = deps;
  }

  get programs(): readonly Program[] {
    return this.#programs;
  }

  add(spec: ProgramSpec): Program {
    const program = new Program(spec, this.#deps);
    this.#programs.push(program);
    return program;
  }

  find(name: string): Program | undefined {
    return this.#programs.find((program) => program.name === name);
  }

  /** Children that are waited for elsewhere. */
  isOurs(pid: number): boolean {
    return this.#programs.some((program) => program.view.pid === pid);
  }

  /** Something that programs were held by may have changed. */
  release(): void {
    for (const program of this.#programs) program.release();
  }

  /** All at once; settles when the last is gone. */
  async stopAll(): Promise<void> {
    await Promise.all(this.#programs.map((program) => program.stop()));
  }
}
