/** What a command is: a row of the table in `cli.ts`, and a `run` in its own module that is loaded only when called. */
import type { ApiClient } from "./client.ts";
import type { CliIo } from "./io.ts";
import type { Paint } from "./paint.ts";

export interface OptionSpec {
  /** Name of the value in the help; absent: a switch. */
  readonly value?: string;
  readonly help: string;
  /** The value where none is given: `--watch`, `--watch 5`. A value that may be left out is a number. */
  readonly bare?: string;
  readonly repeats?: true;
  /** One letter that stands for it. */
  readonly short?: string;
}

export interface CommandSpec {
  /** One or two words: `status`, `token new`. */
  readonly name: string;
  /** As in the usage line: `NODE LEVEL`. */
  readonly args: string;
  readonly argsMin: number;
  readonly argsMax: number;
  readonly summary: string;
  readonly options: Readonly<Record<string, OptionSpec>>;
  /** Another spelling of the row above it: works, but is not listed. */
  readonly isHidden?: true;
  readonly load: () => Promise<CommandModule>;
}

export interface CommandModule {
  /** Answers the exit code; throws what `cli.ts` reports. */
  run(context: CommandContext): Promise<number>;
}

export interface CommandContext {
  readonly io: CliIo;
  readonly env: Readonly<Record<string, string | undefined>>;
  readonly args: readonly string[];
  /** The value of an option; undefined when not given. */
  readonly option: (name: string) => string | undefined;
  readonly options: (name: string) => readonly string[];
  readonly isSet: (name: string) => boolean;
  readonly isJson: boolean;
  /** Every row of the table. */
  readonly commands: readonly CommandSpec[];
  readonly paint: Paint;
  /** Connects nothing yet; finds the socket. */
  readonly client: () => Promise<ApiClient>;
}

/** `degraded` is that of `health` alone. */
export const exitCodes = { fine: 0, failed: 1, usage: 2, degraded: 3, config: 78 } as const;
