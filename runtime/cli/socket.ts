/**
 * Where the node's socket is: --socket, GODWIT_SOCKET, or what the configuration says. Reads two keys and judges none,
 * so that a client command starts fast and still works while somebody is half way through editing the file; anything it
 * cannot understand goes to `runtime/config`, which explains it. `socket.test.ts` holds the two together.
 */
import { existsSync, readFileSync } from "node:fs";

type Environment = Readonly<Record<string, string | undefined>>;

export async function findSocket(
  socket: string | undefined,
  configPath: string | undefined,
  env: Environment,
): Promise<string> {
  const named = socket ?? (env["GODWIT_SOCKET"] || undefined);
  if (named !== undefined) return named;
  return quickSocket(configPath, env) ?? (await thoroughSocket(configPath, env));
}

/** Variables that say the socket or the folder of the state, and those in which it stands as it is: the others hold tables, or are written otherwise. */
const SAYS_IT = /^GODWIT_(?:API(?:__SOCKET)?|NODE(?:__STATE_DIR)?)$/i;
const PLAIN: ReadonlySet<string> = new Set(["GODWIT_API__SOCKET", "GODWIT_NODE__STATE_DIR"]);

/** Undefined when the file, or the environment, is not as simple as it should be. */
export function quickSocket(configPath: string | undefined, env: Environment): string | undefined {
  if (Object.keys(env).some((name) => SAYS_IT.test(name) && !PLAIN.has(name))) return undefined;
  const fromEnv = env["GODWIT_API__SOCKET"];
  const path = configPath ?? (env["GODWIT_CONFIG"] || defaultPaths(env).find(existsSync));
  let document: Record<string, Record<string, unknown> | undefined> = {};
  if (path !== undefined) {
    try {
      const text = readFileSync(path, "utf8");
      const isJson = path.endsWith(".json") || (!path.endsWith(".toml") && text.trimStart().startsWith("{"));
      const value: unknown = isJson ? JSON.parse(text) : Bun.TOML.parse(text);
      if (typeof value !== "object" || value === null) return undefined;
      document = value as typeof document;
    } catch {
      return undefined;
    }
  }
  const found = fromEnv ?? document["api"]?.["socket"];
  if (found !== undefined) return plainPath(found);
  const stateDir = env["GODWIT_NODE__STATE_DIR"] ?? document["node"]?.["state_dir"];
  const dir = stateDir === undefined ? defaultStateDir(env) : plainPath(stateDir);
  return dir === undefined ? undefined : `${dir}/godwit.sock`;
}

async function thoroughSocket(path: string | undefined, env: Environment): Promise<string> {
  const { loadConfig } = await import("../config/load.ts");
  return (await loadConfig({ path, env })).api.socket;
}

const plainPath = (value: unknown): string | undefined =>
  typeof value === "string" && value.startsWith("/") ? value : undefined;

function defaultPaths(env: Environment): string[] {
  const home = env["XDG_CONFIG_HOME"] || (env["HOME"] ? `${env["HOME"]}/.config` : undefined);
  return ["/etc/godwit/godwit.toml", ...(home === undefined ? [] : [`${home}/godwit/godwit.toml`])];
}

function defaultStateDir(env: Environment): string {
  const given = env["STATE_DIRECTORY"]?.split(":")[0];
  if (given?.startsWith("/") === true) return given;
  const home = env["XDG_STATE_HOME"] || (env["HOME"] ? `${env["HOME"]}/.local/state` : undefined);
  return process.getuid?.() === 0 || home === undefined ? "/var/lib/godwit" : `${home}/godwit`;
}
