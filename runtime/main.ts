/**
 * argv to personality. The whole of what happens before a command's own code is loaded; `runtime/cli/table.ts` lists
 * the commands, `cli/commands/run.ts` is the node.
 */
import { runCli } from "./cli/cli.ts";
import { processIo } from "./cli/io.ts";
import { isPid1 } from "./init/personality.ts";

const argv = process.argv.slice(2);
// The kernel's first program never comes back from here.
if (isPid1(argv)) await (await import("./init/pid1.ts")).runPid1();
// The node stops by its own handling of signals. An exit by hand, because a failed start may leave a Worker behind.
process.exit(await runCli(argv, process.env, processIo(!argv.includes("run"))));
