/**
 * argv to personality. The whole of what happens before a command's own code is loaded; `runtime/cli/table.ts` lists
 * the commands, `cli/commands/run.ts` is the node. What one personality needs the other does not load.
 */
import { beginNode } from "./cli/begin.ts";
import { nodeSignals } from "./cli/signals.ts";
import { forbidCoreDumps } from "./init/core-dumps.ts";
import { setEngine } from "./init/engine.ts";
import { isPid1 } from "./init/personality.ts";

const argv = process.argv.slice(2);

async function main(): Promise<number> {
  if (argv[0] === "run") setEngine(argv);
  // Keys are in the memory of a node, and for a moment in that of some commands; what PID 1 starts inherits the limit. A plugin's process has
  // its limit from the node, and no key.
  if (argv[0] !== "plugin-guest") forbidCoreDumps();
  // The kernel's first program never comes back from here.
  if (isPid1(argv)) return await (await import("./init/pid1.ts")).runPid1();
  if (argv[0] === "plugin-guest") {
    // The hidden one: the process of one untrusted plugin.
    const { enterGuest } = await import("./plugin/sandbox/enter.ts");
    return await enterGuest(argv.slice(1));
  }
  // Before the milliseconds in which the rest is loaded.
  if (argv[0] === "run") {
    nodeSignals();
    beginNode();
  }
  const [{ runCli }, { processIo }] = await Promise.all([import("./cli/cli.ts"), import("./cli/io.ts")]);
  return await runCli(argv, process.env, processIo(!argv.includes("run")));
}

// The node stops by its own handling of signals. An exit by hand, because a failed start may leave a Worker behind.
process.exit(await main());
