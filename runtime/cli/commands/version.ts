/** `godwit version`. */
import pkg from "../../../package.json" with { type: "json" };
import { type CommandModule, exitCodes } from "../command.ts";

/** Set by the build. */
declare const GODWIT_VERSION: string | undefined;

export const versionText = (): string => (typeof GODWIT_VERSION === "string" ? GODWIT_VERSION : pkg.version);

export const version: CommandModule = {
  async run({ io, isJson }) {
    const godwit = versionText();
    io.stdout(isJson ? `${JSON.stringify({ version: godwit, bun: Bun.version })}\n` : `godwit ${godwit}\n`);
    return exitCodes.fine;
  },
};
