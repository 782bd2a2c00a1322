/**
 * The author's kit: the SDK as JavaScript with its declarations, its test kit, the types of Bun, and the templates of new
 * plugins. The binary carries it (`scripts/sdk.ts` makes it), so that an author needs no package manager and no network.
 * Owns the hidden folder `.godwit` in an author's folder, which it may write anew at any time; touches nothing beside it.
 */
import { createHash } from "node:crypto";
import { existsSync, mkdirSync, readFileSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { isCompiled } from "../../kernel/compiled.ts";
import { godwitError } from "../../kernel/errors.ts";

export const KIT_FOLDER = ".godwit";
const STAMP_FILE = "stamp";

/** `modules/...` goes below `node_modules` of the hidden folder, `template/...` is for `plugin new`, `manual/...` for `plugin docs`. */
export type KitFiles = Readonly<Record<string, string>>;

/** Computed, because a literal path would be resolved at build time, when the module need not be there. */
const kitUrl = isCompiled
  ? "file:///$bunfs/root/dist/author-kit.js"
  : new URL("../../dist/author-kit.js", import.meta.url).href;

export interface Kit {
  readonly files: KitFiles;
  /** Of its bytes, 16 hex digits. */
  readonly stamp: string;
}

/** Throws GODWIT_NOT_FOUND where Godwit runs from source and was never built. */
export async function openKit(): Promise<Kit> {
  let module: { readonly kit: string };
  try {
    module = (await import(kitUrl)) as { readonly kit: string };
  } catch (error) {
    throw godwitError("GODWIT_NOT_FOUND", "there is no author's kit here yet: bun run build makes it", error);
  }
  const packed = Buffer.from(module.kit, "base64");
  const files = JSON.parse(Bun.zstdDecompressSync(packed).toString()) as KitFiles;
  return { files, stamp: createHash("sha256").update(packed).digest("hex").slice(0, 16) };
}

/** Where the SDK's entry points lie in the hidden folder: what its own package.json exports, so that none is missing. */
function sdkPaths(files: KitFiles): Record<string, readonly string[]> {
  const { exports } = JSON.parse(files["modules/@godwit/sdk/package.json"]!) as {
    readonly exports: Readonly<Record<string, { readonly default: string }>>;
  };
  return Object.fromEntries(
    Object.entries(exports).map(([name, entry]) => [
      name.replace(".", "@godwit/sdk"),
      [entry.default.replace("./", "./node_modules/@godwit/sdk/").replace(/\.js$/, "")],
    ]),
  );
}

/** What the author's own tsconfig.json extends. */
const tsconfigOf = (files: KitFiles) => ({
  compilerOptions: {
    target: "ESNext",
    module: "Preserve",
    moduleResolution: "bundler",
    lib: ["ESNext"],
    types: ["bun"],
    typeRoots: ["./node_modules/@types"],
    strict: true,
    noUncheckedIndexedAccess: true,
    exactOptionalPropertyTypes: true,
    noImplicitOverride: true,
    verbatimModuleSyntax: true,
    erasableSyntaxOnly: true,
    allowImportingTsExtensions: true,
    resolveJsonModule: true,
    skipLibCheck: true,
    noEmit: true,
    paths: sdkPaths(files),
  },
  // For an author's folder without a tsconfig.json of its own, and for one that says nothing of it.
  include: ["../**/*.ts"],
  exclude: ["../**/node_modules"],
});

/** Writes the hidden folder unless this very kit is there already. */
export async function unpackKit(folder: string): Promise<void> {
  const target = join(folder, KIT_FOLDER);
  const { files, stamp: ofFiles } = await openKit();
  const tsconfig = `${JSON.stringify(tsconfigOf(files), undefined, 2)}\n`;
  // A Godwit that writes another tsconfig.json around the same SDK writes it anew as well.
  const stamp = createHash("sha256").update(ofFiles).update(tsconfig).digest("hex").slice(0, 16);
  if (stampOf(target) === stamp) return;
  // Beside it and moved: a kit that is half there would make a riddle of every error.
  const staged = join(folder, `${KIT_FOLDER}.${process.pid}.new`);
  try {
    for (const [path, text] of Object.entries(files))
      if (path.startsWith("modules/"))
        write(join(staged, "node_modules", path.slice("modules/".length)), text);
    write(join(staged, "tsconfig.json"), tsconfig);
    write(join(staged, ".gitignore"), "*\n");
    write(join(staged, STAMP_FILE), stamp);
    rmSync(target, { recursive: true, force: true });
    renameSync(staged, target);
  } catch (error) {
    const reason = error instanceof Error ? error.message : String(error);
    throw godwitError("GODWIT_STATE_UNUSABLE", `cannot write ${target}: ${reason}`, error);
  } finally {
    rmSync(staged, { recursive: true, force: true });
  }
}

function stampOf(target: string): string | undefined {
  const path = join(target, STAMP_FILE);
  return existsSync(path) ? readFileSync(path, "utf8") : undefined;
}

function write(path: string, text: string): void {
  mkdirSync(dirname(path), { recursive: true });
  writeFileSync(path, text);
}

export interface ToolRun {
  readonly code: number;
  /** What it said, where that was kept. */
  readonly output: string;
}

export interface ToolOptions {
  readonly more?: Readonly<Record<string, string>>;
  /** What it says is for whoever called, not for the terminal. */
  readonly isKept?: true;
}

/** Names that a tool of the author may see; not `BUN_OPTIONS`, which would change what it does. */
const passedOn = ["PATH", "HOME", "TMPDIR", "TERM", "LANG", "NO_COLOR", "FORCE_COLOR", "CI"];

/**
 * Runs Bun itself, which is inside of this very binary, in the author's folder. Its output is ours, unless it is to be kept.
 */
export async function runBun(
  folder: string,
  words: readonly string[],
  env: Readonly<Record<string, string | undefined>>,
  { more = {}, isKept }: ToolOptions = {},
): Promise<ToolRun> {
  const clean = Object.fromEntries(
    passedOn.flatMap((name) => (env[name] === undefined ? [] : [[name, env[name]]])),
  ) as Record<string, string>;
  const child = Bun.spawn([process.execPath, ...words], {
    cwd: folder,
    env: { ...clean, ...more, BUN_BE_BUN: "1", DO_NOT_TRACK: "1" },
    stdin: "ignore",
    stdout: isKept === true ? "pipe" : "inherit",
    stderr: isKept === true ? "pipe" : "inherit",
  });
  const onEnd = () => child.kill("SIGTERM");
  process.once("SIGINT", onEnd);
  process.once("SIGTERM", onEnd);
  try {
    const said = [child.stdout, child.stderr].map((stream) => new Response(stream ?? null).text());
    return { code: await child.exited, output: (await Promise.all(said)).join("") };
  } finally {
    process.off("SIGINT", onEnd);
    process.off("SIGTERM", onEnd);
  }
}
