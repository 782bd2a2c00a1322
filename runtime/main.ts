/**
 * argv to personality. The whole of what happens before a command's own code is loaded; `runtime/cli/table.ts` lists
 * the commands, `cli/commands/run.ts` is the node.
 */
import { runCli } from "./cli/cli.ts";
import { processIo } from "./cli/io.ts";

const argv = process.argv.slice(2);
const isNode = argv[0] === "run";
process.exitCode = await runCli(argv, process.env, processIo(!isNode));
// Node and commands alike release all they hold; what is left is Bun's own idle handles.
if (!isNode) process.exit();
