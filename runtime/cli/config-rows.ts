/** Commands about configuration files, which ask no node: rows of the table of commands. */
import type { CommandSpec } from "./command.ts";
import { none, row } from "./row.ts";

const config = () => import("./commands/config.ts");

export const configRows: readonly CommandSpec[] = [
  row("config check", "", none, "is the configuration right", async () => (await config()).check),
  row(
    "config explain",
    "[KEY]",
    [0, 1],
    "what each key means, its value, and where that comes from",
    async () => (await config()).explain,
  ),
  row("config schema", "", none, "JSON Schema of the configuration", async () => (await config()).schema),
  row(
    "config import-telex",
    "[FILE]",
    [0, 1],
    "turn a Project Telex node file into a configuration",
    async () => (await import("./commands/import-telex.ts")).importTelex,
    {
      env: { help: "TELEX_* variables count too, above the file" },
      "allow-from": { value: "CIDR", help: "who may call the telex port beyond loopback", repeats: true },
    },
  ),
  row(
    "config import",
    "",
    none,
    "turn the variables of a replaced system into a configuration",
    async () => (await import("./commands/import-env.ts")).importEnv,
    {
      env: {
        help: "NODE_ID, LISTEN_HOST, LOG_LEVEL, YGGDRASIL_PEERS, AGENT_ID and others of the environment",
      },
    },
  ),
];
