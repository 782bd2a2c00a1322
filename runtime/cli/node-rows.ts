/** Commands that look at the node and its mesh and change nothing: rows of the table of commands. */
import type { CommandSpec } from "./command.ts";
import { none, row, watched } from "./row.ts";

const mesh = () => import("./commands/mesh.ts");

export const nodeRows: readonly CommandSpec[] = [
  row("status", "", none, "the node at a glance", async () => (await mesh()).status, watched),
  row(
    "health",
    "",
    none,
    "ok, degraded or down, and why; exits with 0, 3 or 1",
    async () => (await mesh()).health,
    {
      live: { help: "exit 0 unless it is down: for what restarts a node, which others must not cause" },
      ready: { help: "exit 0 only when it is ok" },
      ...watched,
    },
  ),
  row("peers", "", none, "the neighbours now, and their links", async () => (await mesh()).peers, {
    all: { help: "nodes that cannot be reached now as well, with their state" },
    ...watched,
  }),
  row(
    "members",
    "",
    none,
    "every node of the mesh: alive, suspect, failed or left",
    async () => (await mesh()).members,
    {
      state: { value: "STATE", help: "only those that are alive, suspect, failed or left" },
      tag: {
        value: "TAG",
        help: "only those that say this of their machine: gpu, arch-arm64",
        repeats: true,
      },
      ...watched,
    },
  ),
  row(
    "routes",
    "",
    none,
    "next hop and cost for every destination",
    async () => (await mesh()).routes,
    watched,
  ),
  row(
    "why",
    "NODE",
    [1, 1],
    "why traffic for NODE goes where it goes",
    async () => (await mesh()).why,
    watched,
  ),
  row(
    "trace",
    "NODE",
    [1, 1],
    "the hops to NODE, each with its answer time",
    async () => (await mesh()).trace,
  ),
  row(
    "ping",
    "NODE",
    [1, 1],
    "answer times of NODE until Ctrl-C, and the way they took",
    async () => (await import("./commands/ping.ts")).ping,
    {
      count: { value: "N", help: "ask so often and end" },
      interval: { value: "DURATION", help: "between two; 1s by default, at least 100ms" },
    },
  ),
  row(
    "profile",
    "",
    none,
    "where the node spends its time, and what its memory holds",
    async () => (await import("./commands/profile.ts")).profile,
    {
      seconds: { value: "N", help: "sample for so long, up to 60; 10 by default" },
      out: {
        value: "PATH",
        help: "write the profile to a file .cpuprofile, for the developer tools of a browser",
      },
    },
  ),
  row(
    "logs",
    "",
    none,
    "the last lines of the node's log",
    async () => (await import("./commands/logs.ts")).logs,
    {
      follow: { short: "f", help: "and those that come, until Ctrl-C" },
      level: { value: "debug|info|warn|error", help: "only these and graver" },
      since: { value: "DURATION", help: "only those of the last 10m, 2h and so on" },
    },
  ),
];
