/**
 * `@godwit/sdk` as a package: `sdk/dist` with JavaScript and declarations (what `bun pm pack` ships), and the author's kit,
 * the same with zod and the types of Bun inside, which the binary carries so that `godwit plugin test` and `check` need
 * nothing but it. Owns both layouts; must never write outside of the folder that it is given.
 */
import { createHash } from "node:crypto";
import { existsSync, mkdirSync, mkdtempSync, readFileSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { root, run } from "./lib.ts";

/** Entry points of the package: what stands in `exports`, below `sdk/`. */
export const sdkEntries = {
  "@godwit/sdk": "src/index",
  "@godwit/sdk/bounded": "src/bounded",
  "@godwit/sdk/errors": "src/errors",
  "@godwit/sdk/listening": "src/listening",
  "@godwit/sdk/netlink": "src/netlink/index",
  "@godwit/sdk/places": "src/places",
  "@godwit/sdk/process": "src/process/index",
  "@godwit/sdk/secret": "src/secret",
  "@godwit/sdk/serial": "src/serial/index",
  "@godwit/sdk/tcp": "src/tcp/index",
  "@godwit/sdk/testkit": "testkit/index",
} as const;

const sdkFolder = join(root, "sdk");

/**
 * Declarations of the SDK by path below `sdk/`, such as `src/pipe.d.ts`, from `.cache` when nothing that they are made of has
 * changed. Throws with what the compiler said.
 */
export async function declarations(): Promise<Map<string, string>> {
  const sources = [...new Bun.Glob("{src,testkit}/**/*.ts").scanSync(sdkFolder)];
  const kept = join(root, ".cache/sdk-types");
  const file = join(kept, `${hashOf(sources)}.json`);
  if (existsSync(file))
    return new Map(JSON.parse(readFileSync(file, "utf8")) as readonly (readonly [string, string])[]);
  const found = await compiled();
  mkdirSync(kept, { recursive: true });
  for (const old of new Bun.Glob("*.json").scanSync(kept)) rmSync(join(kept, old), { force: true });
  moveInto(file, JSON.stringify([...found]));
  return found;
}

/** Moved into place: two builds side by side must not see half of it. */
function moveInto(path: string, text: string): void {
  const staged = `${path}.${process.pid}.new`;
  writeFileSync(staged, text);
  renameSync(staged, path);
}

/** Of files below `sdk/`, of the locked packages, and of how things are made of them. */
function hashOf(sources: readonly string[]): string {
  const hash = createHash("sha256");
  const paths = [...sources].sort().map((path) => join("sdk", path));
  for (const path of [...paths, "scripts/sdk.ts", "bun.lock", "tsconfig.json"])
    hash
      .update(`${path}\0`)
      .update(readFileSync(join(root, path)))
      .update("\0");
  return hash.digest("hex");
}

async function compiled(): Promise<Map<string, string>> {
  const out = mkdtempSync(join(root, "node_modules/.sdk-types-"));
  try {
    const project = join(out, "tsconfig.json");
    const compilerOptions = {
      noEmit: false,
      declaration: true,
      emitDeclarationOnly: true,
      outDir: join(out, "out"),
      rootDir: sdkFolder,
      paths: {},
      typeRoots: [join(root, "node_modules/@types")],
    };
    const files = Object.values(sdkEntries).map((entry) => join(sdkFolder, `${entry}.ts`));
    writeFileSync(
      project,
      JSON.stringify({ extends: join(root, "tsconfig.json"), compilerOptions, include: [], files }),
    );
    const { code, output } = await run([
      process.execPath,
      join(root, "node_modules/.bin/tsc"),
      "-p",
      project,
    ]);
    if (code !== 0) throw new Error(`tsc failed with ${code}\n${output}`);
    const found = new Map<string, string>();
    for (const path of [...new Bun.Glob("**/*.d.ts").scanSync(join(out, "out"))].sort()) {
      const text = readFileSync(join(out, "out", path), "utf8");
      found.set(path, text.replace(/(from |import\()"(\.[^"]*)\.ts"/g, '$1"$2.js"'));
    }
    return found;
  } finally {
    rmSync(out, { recursive: true });
  }
}

/** JavaScript of the SDK by path, pieces that its entry points share included. */
async function scripts(hasZodInside: boolean): Promise<Map<string, string>> {
  const built = await Bun.build({
    entrypoints: Object.values(sdkEntries).map((entry) => join(sdkFolder, `${entry}.ts`)),
    root: sdkFolder,
    target: "bun",
    format: "esm",
    splitting: true,
    naming: { entry: "[dir]/[name].js", chunk: "chunks/[name]-[hash].js" },
    external: hasZodInside ? [] : ["zod"],
  });
  const found = new Map<string, string>();
  for (const output of built.outputs) found.set(output.path.replace(/^\.\//, ""), await output.text());
  return found;
}

/** What `bun pm pack` puts into the tarball. */
export async function writeDist(folder = join(sdkFolder, "dist")): Promise<void> {
  rmSync(folder, { recursive: true, force: true });
  write(folder, await scripts(false));
  write(folder, await declarations());
}

function write(folder: string, files: ReadonlyMap<string, string>): void {
  for (const [path, text] of files) {
    mkdirSync(dirname(join(folder, path)), { recursive: true });
    writeFileSync(join(folder, path), text);
  }
}

/** Packages whose declarations an author's type check reads: Bun's, Node's, and zod for `z`. */
const typePackages = ["@types/bun", "@types/node", "bun-types", "undici-types", "zod"] as const;

/** The author's kit: `modules/...` for `node_modules` of the hidden folder, `template/...` for new plugins, `manual/...` to be read. */
export async function kitFiles(): Promise<Map<string, string>> {
  const files = new Map<string, string>();
  const prefix = "modules/@godwit/sdk";
  for (const [path, text] of [...(await scripts(true)), ...(await declarations())])
    files.set(`${prefix}/${path}`, text);
  files.set(
    `${prefix}/package.json`,
    readFileSync(join(sdkFolder, "package.json"), "utf8").replaceAll("./dist/", "./"),
  );
  files.set(`${prefix}/LICENSE`, readFileSync(join(sdkFolder, "LICENSE"), "utf8"));
  for (const name of typePackages) {
    const folder = join(root, "node_modules", name);
    for (const path of [...new Bun.Glob("**/{*.d.ts,package.json,LICENSE}").scanSync(folder)].sort())
      if (
        !/(^|\/)(docs|src|v3|v4-mini|locales\/(?!index|en\.))\//.test(path) &&
        !/\blocales\/(?!index|en)\w/.test(path)
      )
        files.set(`modules/${name}/${path}`, readFileSync(join(folder, path), "utf8"));
  }
  const templates = join(sdkFolder, "template");
  for (const path of [...new Bun.Glob("**/*").scanSync({ cwd: templates, dot: true })].sort())
    files.set(`template/${path}`, readFileSync(join(templates, path), "utf8"));
  for (const [name, path] of Object.entries(manualPages))
    files.set(`manual/${name}.md`, readFileSync(join(root, path), "utf8"));
  return files;
}

/** What `godwit plugin docs` shows, by name: how to begin, what an operator decides, the SDK, then each of its entry points. */
const manualPages: Readonly<Record<string, string>> = {
  authors: "docs/plugin-authors.md",
  plugins: "docs/plugins.md",
  guide: "sdk/README.md",
  ...Object.fromEntries(
    ["sdk", ...Object.keys(sdkEntries).flatMap((name) => name.split("/")[2] ?? [])].map((name) => [
      name,
      `sdk/docs/${name}.md`,
    ]),
  ),
};

/** Where `./scripts/build` leaves the module that the binary embeds, and a node from source looks for it. */
export const kitModule = join(root, "runtime/dist/author-kit.js");

/** Of everything that the kit is made of: the SDK's sources, the locked packages, and how it is made. */
function kitInputs(): string {
  const sources = [...new Bun.Glob("{src,testkit,template}/**/*").scanSync({ cwd: sdkFolder, dot: true })];
  const pages = Object.values(manualPages).map((path) => join("..", path));
  return hashOf([
    "package.json",
    "LICENSE",
    ...sources.filter((path) => !path.endsWith(".test.ts")),
    ...pages,
  ]);
}

/** One string of text in base64: JSON of path to text, as zstd. Nothing is done where it is there already. */
export async function writeKitModule(): Promise<void> {
  const head = `// ${kitInputs()}\n`;
  if (existsSync(kitModule) && readFileSync(kitModule, "utf8").startsWith(head)) return;
  const files = await kitFiles();
  const json = JSON.stringify(Object.fromEntries(files));
  const packed = Bun.zstdCompressSync(Buffer.from(json), { level: 19 });
  const text = `${head}export const kit = "${Buffer.from(packed).toString("base64")}";\n`;
  mkdirSync(dirname(kitModule), { recursive: true });
  moveInto(kitModule, text);
}

if (import.meta.main) await writeDist();
