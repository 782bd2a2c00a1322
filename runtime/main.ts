/**
 * argv to personality. The whole of what happens before a command's own code is loaded; `runtime/cli/table.ts` lists
 * the commands, `cli/commands/run.ts` is the node.
 */
import { runCli } from "./cli/cli.ts";
import { processIo } from "./cli/io.ts";

const argv = process.argv.slice(2);
// The kernel's first program never comes back from here; its code is loaded by nobody else.
if (process.pid === 1) {
  const { isPid1, runPid1 } = await import("./init/pid1.ts");
  if (isPid1(argv)) await runPid1();
}
if (argv[0] === "plugin-guest") {
  // The hidden personality: the process of one untrusted plugin.
  const { enterGuest } = await import("./plugin/sandbox/enter.ts");
  await enterGuest(argv.slice(1));
}
// The node stops by its own handling of signals. An exit by hand, because a failed start may leave a Worker behind.
process.exit(await runCli(argv, process.env, processIo(!argv.includes("run"))));
