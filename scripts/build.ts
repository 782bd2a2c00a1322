/**
 * `./scripts/build`: the one binary. Owns the flags of the compiler, the list of what goes in beside `main.ts`, and the
 * version. Must never produce a binary that reads a bunfig.toml or .env from its working directory: a node runs as root
 * and must not execute what lies in a folder (test/build/autoload.test.ts).
 *
 * Split into chunks, so that a command, a worker or a locked-in plugin loads what it needs and not the whole node. Worker
 * files are entry points of their own. Inside the binary `runtime/store/sqlite-worker.ts` is
 * `/$bunfs/root/store/sqlite-worker.js`, because `runtime/` is the root, and `import.meta.url` of a module is that of its
 * chunk, so `new URL("./x.ts", import.meta.url)` is right only from source (runtime/kernel/compiled.ts).
 */
import { existsSync, mkdirSync, readFileSync, renameSync, rmSync, statSync } from "node:fs";
import { homedir } from "node:os";
import { basename, dirname, join, relative } from "node:path";
import { parseArgs } from "node:util";
import { root, run } from "./lib.ts";
import { kitModule, writeKitModule } from "./sdk.ts";
import { Steps } from "./steps.ts";

/** Names of ours to those of Bun. The glibc builds are the ones that ship. */
export const targets = {
  x64: "bun-linux-x64",
  "x64-baseline": "bun-linux-x64-baseline",
  "x64-musl": "bun-linux-x64-musl",
  arm64: "bun-linux-arm64",
  "arm64-musl": "bun-linux-arm64-musl",
} as const;
export type Target = keyof typeof targets;

/** Files that `new Worker` loads; they exist in the binary only because they stand here. */
const workerEntries = ["runtime/store/sqlite-worker.ts", "runtime/plugin/guest/worker.ts"];
/** Loaded by name when an author's command needs it (runtime/cli/author/kit.ts). */
const kitEntry = relative(root, kitModule);

/** What keeps the binary from executing or reading what lies in its working directory. */
const autoloadFlags = [
  "--no-compile-autoload-bunfig",
  "--no-compile-autoload-dotenv",
  "--no-compile-autoload-tsconfig",
  "--no-compile-autoload-package-json",
];

/**
 * How many times more often than usual code runs before it is compiled, until runtime/kernel/start-code.ts says that the start is through: a
 * fifth of the processor time of a start went to compilers.
 */
const LATE_COMPILATION = 50;

export interface BuildOptions {
  /** Absolute; the first is the main file. All must lie below `entryRoot`. */
  readonly entries: readonly string[];
  readonly entryRoot: string;
  /** Absolute path of the binary. Its base name is part of the bytes: the same name gives the same binary. */
  readonly outfile: string;
  readonly target?: Target | undefined;
  readonly version: string;
  /** Only for the test that proves that the flags matter. */
  readonly dangerouslyAutoload?: boolean;
}

/** Compiles one binary, or throws with what the compiler said. Answers its size in bytes. */
export async function buildBinary(options: BuildOptions): Promise<number> {
  const { entries, entryRoot, outfile, target, version } = options;
  // Built in a folder of its own and moved: a failed or parallel build never leaves half a binary in place.
  const staging = join(dirname(outfile), `.build-${process.pid}-${basename(outfile)}`);
  mkdirSync(staging, { recursive: true });
  try {
    const built = join(staging, basename(outfile));
    const result = await run(
      [
        process.execPath,
        "build",
        "--compile",
        "--minify",
        "--bytecode",
        "--splitting",
        "--format=esm",
        `--compile-jit-policy=${LATE_COMPILATION}`,
        ...(options.dangerouslyAutoload === true ? [] : autoloadFlags),
        `--root=${entryRoot}`,
        `--define=GODWIT_VERSION=${JSON.stringify(version)}`,
        ...(target === undefined ? [] : [`--target=${targets[target]}`]),
        `--outfile=${built}`,
        ...entries,
      ],
      { cwd: root },
    );
    if (result.code !== 0 || !existsSync(built))
      throw new Error(`bun build failed with ${result.code}\n${result.output.trim()}`);
    if (target !== undefined)
      checkFetched(join(bunCache(), `${targets[target]}-v${Bun.version}`), targets[target]);
    renameSync(built, outfile);
    return statSync(outfile).size;
  } finally {
    rmSync(staging, { recursive: true, force: true });
  }
}

/** Where Bun keeps what it fetches, the runtimes of other machines too. */
export const bunCache = (): string =>
  process.env["BUN_INSTALL_CACHE_DIR"] ??
  join(process.env["BUN_INSTALL"] ?? join(homedir(), ".bun"), "install", "cache");

/**
 * Bun fetches the runtime that a binary for another machine is made of; without a file there it took its own. Throws, and removes it, where
 * scripts/bun.sha256 names other bytes.
 */
export function checkFetched(path: string, name: string): void {
  if (!existsSync(path)) return;
  const hash = new Bun.CryptoHasher("sha256").update(readFileSync(path)).digest("hex");
  const pinned = readFileSync(join(root, "scripts/bun.sha256"), "utf8");
  if (pinned.split("\n").includes(`${hash}  ${name}`)) return;
  rmSync(path);
  throw new Error(`${path} has the SHA-256 ${hash}, which scripts/bun.sha256 does not name: it was removed`);
}

/** `0.1.0` at its tag, `0.1.0+12.gabc1234` after it, `0.1.0+gabc1234.dirty` ... ; without git the plain number. */
export async function buildVersion(): Promise<string> {
  const { version } = (await Bun.file(join(root, "package.json")).json()) as { version: string };
  const described = await run(
    ["git", "--git-dir=.git", "describe", "--tags", "--always", "--long", "--dirty=.dirty"],
    {
      cwd: root,
    },
  ).catch(() => undefined);
  if (described === undefined || described.code !== 0) return version;
  const text = described.output.trim();
  const tagged = /^v?(.+)-(\d+)-g([0-9a-f]+)(\.dirty)?$/.exec(text);
  if (tagged === null) return `${version}+g${text}`;
  const [, , commits, hash, dirty = ""] = tagged;
  return commits === "0" && dirty === "" ? version : `${version}+${commits}.g${hash}${dirty}`;
}

/** What `./scripts/build` builds for one target. */
export async function buildGodwit(target: Target | undefined, outfile: string): Promise<number> {
  await writeKitModule();
  const entries = ["runtime/main.ts", ...workerEntries, kitEntry].map((entry) => join(root, entry));
  const missing = entries.filter((entry) => !existsSync(entry));
  if (missing.length > 0) throw new Error(`cannot build, missing: ${missing.join(", ")}`);
  const version = await buildVersion();
  return await buildBinary({ entries, entryRoot: join(root, "runtime"), outfile, target, version });
}

const USAGE = `usage: ./scripts/build [--target TARGET|all]... [--outfile PATH]
targets: ${Object.keys(targets).join(", ")}; without one, this machine. A target goes to dist/godwit-linux-TARGET.`;

async function main(): Promise<void> {
  const { values } = parseArgs({
    options: {
      target: { type: "string", multiple: true },
      outfile: { type: "string" },
      help: { type: "boolean" },
    },
  });
  if (values.help === true) return console.log(USAGE);
  const asked = (values.target ?? []).flatMap((name) =>
    name === "all" ? Object.keys(targets) : [name.replace(/^(bun-)?linux-/, "")],
  );
  const unknown = asked.find((name) => !Object.hasOwn(targets, name));
  if (unknown !== undefined || (asked.length > 1 && values.outfile !== undefined)) {
    console.error(unknown === undefined ? "--outfile goes with one target" : `no target ${unknown}`);
    console.error(USAGE);
    process.exitCode = 2;
    return;
  }
  const steps = new Steps(process.stderr);
  for (const target of asked.length === 0 ? [undefined] : (asked as Target[])) {
    const outfile =
      values.outfile ?? join(root, "dist", target === undefined ? "godwit" : `godwit-linux-${target}`);
    const startedMs = performance.now();
    let bytes: number;
    let zipped: number;
    try {
      steps.begin(`compiling${target === undefined ? "" : ` for ${target}`}`);
      bytes = await buildGodwit(target, outfile);
      steps.begin("measuring how small it packs");
      zipped = Bun.gzipSync(new Uint8Array(await Bun.file(outfile).arrayBuffer()), { level: 1 }).length;
    } finally {
      steps.end();
    }
    const mebibytes = (size: number) => `${(size / 2 ** 20).toFixed(1)} MiB`;
    const seconds = ((performance.now() - startedMs) / 1000).toFixed(1);
    console.log(`${outfile}  ${mebibytes(bytes)}, ${mebibytes(zipped)} as gzip, ${seconds} s`);
  }
}

if (import.meta.main) {
  try {
    await main();
  } catch (error) {
    console.error(error instanceof Error ? error.message : error);
    process.exitCode = 1;
  }
}
