/**
 * argv to personality. The whole of what happens before a command's own code is loaded; `runtime/cli/table.ts` lists
 * the commands, `cli/commands/run.ts` is the node. What one personality needs the other does not load.
 */
const argv = process.argv.slice(2);

async function main(): Promise<number> {
  if (process.pid === 1) {
    const { isPid1, runPid1 } = await import("./init/pid1.ts");
    // The kernel's first program never comes back from here.
    if (isPid1(argv)) return await runPid1();
  }
  if (argv[0] === "plugin-guest") {
    // The hidden one: the process of one untrusted plugin.
    const { enterGuest } = await import("./plugin/sandbox/enter.ts");
    return await enterGuest(argv.slice(1));
  }
  const [{ runCli }, { processIo }] = await Promise.all([import("./cli/cli.ts"), import("./cli/io.ts")]);
  return await runCli(argv, process.env, processIo(!argv.includes("run")));
}

// The node stops by its own handling of signals. An exit by hand, because a failed start may leave a Worker behind.
process.exit(await main());

export {};
