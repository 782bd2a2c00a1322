/** `godwit man`: the manual page. */
import { didYouMean } from "../../config/suggest.ts";
import { godwitError } from "../../kernel/errors.ts";
import { type CommandModule, exitCodes } from "../command.ts";
import { manual } from "../manual.ts";
import { versionText } from "./version.ts";

export const man: CommandModule = {
  run({ args, commands, io }) {
    const name = args.join(" ");
    const shown = commands.filter(({ isHidden }) => isHidden !== true);
    const exact = shown.filter((row) => row.name === name);
    const only = exact.length > 0 ? exact : shown.filter((row) => row.name.startsWith(`${name} `));
    if (name !== "" && only.length === 0) {
      const names = shown.map((row) => row.name);
      throw godwitError(
        "GODWIT_USAGE",
        `there is no command "${name.slice(0, 60)}"${didYouMean(name, names)}`,
      );
    }
    io.stdout(manual(commands, versionText(), name === "" ? undefined : only));
    return Promise.resolve(exitCodes.fine);
  },
};
