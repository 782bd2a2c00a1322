/** Kernel modules in the order of modules.dep(5): each after all that it needs. */
import { existsSync, readFileSync } from "node:fs";
import { type Sys, SysError } from "./sys.ts";

/** Lines of a modules.dep; a distribution's whole one has 5,000. */
const LINES_MAX = 20_000;

/** Path of a module to the paths that it needs, nearest first. */
export type ModulesDep = ReadonlyMap<string, readonly string[]>;

/** Lines `path: path path`. What is no such line is left out. */
export function parseModulesDep(text: string): ModulesDep {
  const found = new Map<string, readonly string[]>();
  for (const line of text.split("\n").slice(0, LINES_MAX)) {
    const at = line.indexOf(":");
    if (at > 0)
      found.set(
        line.slice(0, at),
        line
          .slice(at + 1)
          .split(" ")
          .filter(Boolean),
      );
  }
  return found;
}

const nameOf = (path: string): string =>
  path
    .split("/")
    .at(-1)!
    .replace(/\.ko(?:\.\w+)?$/, "")
    .replaceAll("-", "_");

/** Paths to load for these names, each once and after what it needs. `unknown` are those that modules.dep has not. */
export function planModules(
  dep: ModulesDep,
  names: readonly string[],
): { paths: string[]; unknown: string[] } {
  const byName = new Map([...dep.keys()].map((path) => [nameOf(path), path]));
  const paths = new Set<string>();
  const unknown: string[] = [];
  for (const name of names) {
    const path = byName.get(name.replaceAll("-", "_"));
    if (path === undefined) {
      unknown.push(name);
      continue;
    }
    // Nearest first, so what is needed by the others stands last.
    for (const need of [...(dep.get(path) ?? [])].reverse()) paths.add(need);
    paths.add(path);
  }
  return { paths: [...paths], unknown };
}

/** EEXIST: loaded already. ENODEV: its hardware is not in this machine, which is no fault. */
const FINE: ReadonlySet<string> = new Set(["EEXIST", "ENODEV"]);

/** Loads them; answers what failed. A missing driver must not stop a machine that may not need it. */
export function loadModules(
  sys: Pick<Sys, "loadModule">,
  folder: string,
  names: readonly string[],
): string[] {
  if (names.length === 0 || !existsSync(`${folder}/modules.dep`)) return [];
  const dep = parseModulesDep(readFileSync(`${folder}/modules.dep`, "utf8"));
  const { paths, unknown } = planModules(dep, names);
  const absent = new Set<string>();
  const failed = paths.flatMap((path) => {
    // What needs the bus of another machine is of no use either, and the kernel would complain of its symbols.
    if (dep.get(path)?.some((need) => absent.has(need)) === true) {
      absent.add(path);
      return [];
    }
    try {
      sys.loadModule(`${folder}/${path}`);
      return [];
    } catch (error) {
      if (error instanceof SysError && error.errno === "EEXIST") return [];
      absent.add(path);
      if (error instanceof SysError && FINE.has(error.errno)) return [];
      return [error instanceof Error ? error.message : String(error)];
    }
  });
  return [...failed, ...unknown.map((name) => `no module ${name}`)];
}
