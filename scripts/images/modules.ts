/**
 * Kernel modules for an image: a named few with all that they need, in an order in which they can be loaded. Reads the
 * `.modinfo` of the modules themselves, because Debian's packages bring no modules.dep (depmod makes it at installation).
 * Compressed ones, which kernels after 6.1 have, go into the image as they are loaded: as they were before.
 */
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { gunzipSync } from "node:zlib";

export interface KernelModule {
  /** With underscores, as the kernel writes it. */
  readonly name: string;
  /** Below lib/modules/VERSION, without the suffix of a compression. */
  readonly path: string;
  /** Names of those that must be there before. */
  readonly needs: readonly string[];
  readonly bytes: Uint8Array;
}

/** Of a kernel's modules the largest have some MiB. */
const MODULE_BYTES_MAX = 64 * 2 ** 20;

const decompress: Readonly<Record<string, (packed: Uint8Array) => Uint8Array>> = {
  "": (bytes) => bytes,
  ".gz": (packed) => gunzipSync(packed, { maxOutputLength: MODULE_BYTES_MAX }),
  ".zst": (packed) => Bun.zstdDecompressSync(packed),
  ".xz": (packed) => {
    const xz = Bun.which("xz");
    if (xz === null)
      throw new Error(
        "the modules of this kernel are compressed with xz, which is not here: apt-get install xz-utils",
      );
    const ran = Bun.spawnSync([xz, "--decompress", "--stdout"], {
      stdin: packed,
      maxBuffer: MODULE_BYTES_MAX,
    });
    if (!ran.success) throw new Error(`xz: ${ran.stderr.toString().trim()}`);
    return ran.stdout;
  },
};
const MODULE = /\.ko(\.\w+)?$/;

const nameOf = (path: string): string => path.split("/").at(-1)!.replace(MODULE, "").replaceAll("-", "_");

/** Finds modules of one kernel by name; `has` also knows those that are part of the kernel itself. */
export class ModuleTree {
  readonly #folder: string;
  readonly #paths = new Map<string, string>();
  readonly #builtin: ReadonlySet<string>;

  /** `folder` is lib/modules/VERSION of an unpacked package. Throws where it has no module: an image without any is not what was asked for. */
  constructor(folder: string) {
    this.#folder = folder;
    for (const path of readdirSync(folder, { recursive: true }).map(String).sort())
      if (MODULE.test(path)) this.#paths.set(nameOf(path), path);
    if (this.#paths.size === 0) throw new Error(`there are no kernel modules in ${folder}`);
    const builtin = readFileSync(join(folder, "modules.builtin"), "utf8");
    this.#builtin = new Set(builtin.split("\n").filter(Boolean).map(nameOf));
  }

  /** Undefined for one that this kernel has not, or has built in. Throws for one that is packed in a way that is not known here. */
  read(name: string): KernelModule | undefined {
    const path = this.#paths.get(name);
    if (path === undefined) return undefined;
    const packing = MODULE.exec(path)?.[1] ?? "";
    const unpack = decompress[packing];
    if (unpack === undefined) throw new Error(`${path}: nobody here knows how to unpack ${packing}`);
    const bytes = new Uint8Array(unpack(new Uint8Array(readFileSync(join(this.#folder, path)))));
    return { name, path: path.slice(0, path.length - packing.length), needs: neededBy(bytes), bytes };
  }

  isBuiltin(name: string): boolean {
    return this.#builtin.has(name);
  }

  /**
   * The wanted ones that this kernel has as modules, each after what it needs. `missing` are those that it has neither as
   * module nor built in. Iterative, by depth first search, in the order of the list.
   */
  closure(wanted: readonly string[]): { modules: KernelModule[]; missing: string[] } {
    const done = new Map<string, KernelModule>();
    const missing: string[] = [];
    const pending = [...wanted].reverse();
    const entered = new Set<string>();
    while (pending.length > 0) {
      const name = pending.at(-1)!;
      const module = done.has(name) ? undefined : this.read(name);
      const open = module?.needs.filter((need) => !done.has(need) && !entered.has(need)) ?? [];
      if (module !== undefined && open.length > 0 && !entered.has(name)) {
        entered.add(name);
        pending.push(...[...open].reverse());
        continue;
      }
      pending.pop();
      if (module !== undefined) done.set(name, module);
      else if (!done.has(name) && !this.isBuiltin(name) && !missing.includes(name)) missing.push(name);
    }
    return { modules: [...done.values()], missing };
  }
}

/** Of `depends=a,b` in the section `.modinfo`, which is a run of strings with end marks. */
export function neededBy(module: Uint8Array): string[] {
  const text = Buffer.from(module.buffer, module.byteOffset, module.byteLength);
  const mark = Buffer.from("\0depends=");
  const at = text.indexOf(mark);
  if (at < 0) return [];
  const end = text.indexOf(0, at + mark.length);
  return text
    .subarray(at + mark.length, end)
    .toString("latin1")
    .split(",")
    .filter(Boolean)
    .map((name) => name.replaceAll("-", "_"));
}

/**
 * modules.dep as depmod(8) writes it, for those that are in the image: `path: paths of all it needs`, read from the end each
 * comes after what it needs itself. `modules` must be in an order in which they can be loaded, as `closure` gives them.
 */
export function formatModulesDep(modules: readonly KernelModule[]): string {
  const byName = new Map(modules.map((module, index) => [module.name, { ...module, index }]));
  return modules
    .map(({ path, needs }) => {
      const all = new Map<string, number>();
      const pending = [...needs];
      while (pending.length > 0) {
        const need = byName.get(pending.pop()!);
        if (need === undefined || all.has(need.path)) continue;
        all.set(need.path, need.index);
        pending.push(...need.needs);
      }
      const sorted = [...all].sort(([, a], [, b]) => b - a).map(([one]) => ` ${one}`);
      return `${path}:${sorted.join("")}\n`;
    })
    .join("");
}
