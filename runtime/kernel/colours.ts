/** Whether text is coloured, and how. Colours are told by their meaning; a terminal's user has chosen what they look like. */

/** For what is not to be told by colour alone: each leaves the words as they are. */
export interface Colours {
  readonly bold: (text: string) => string;
  readonly dim: (text: string) => string;
  readonly good: (text: string) => string;
  readonly warn: (text: string) => string;
  readonly bad: (text: string) => string;
}

/**
 * `chosen` is what the command line says, and counts above all. Then NO_COLOR (https://no-color.org), then FORCE_COLOR
 * (https://force-color.org; 0 does not force): not empty each. Else on a terminal that is not a dumb one.
 */
export function wantsColour(
  isTerminal: boolean,
  env: Readonly<Record<string, string | undefined>>,
  chosen?: boolean,
): boolean {
  if (chosen !== undefined) return chosen;
  if (env["NO_COLOR"]) return false;
  const forced = env["FORCE_COLOR"];
  if (forced && forced !== "0") return true;
  return isTerminal && env["TERM"] !== "dumb";
}

export function createColours(isOn: boolean): Colours {
  const sgr = (code: number) => (text: string) =>
    isOn && text !== "" ? `\x1b[${code}m${text}\x1b[0m` : text;
  return { bold: sgr(1), dim: sgr(2), good: sgr(32), warn: sgr(33), bad: sgr(31) };
}
