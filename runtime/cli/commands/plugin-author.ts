/** `godwit plugin new|dev|test|check`: what an author does before `pack`. The binary is the whole toolchain. */
import { existsSync, mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { godwitError } from "../../kernel/errors.ts";
import { systemRandom } from "../../kernel/random.ts";
import { runDevMesh } from "../author/dev.ts";
import { checkPermissions, checkTested, checkTypes, projectOf, untested } from "../author/checks.ts";
import { createPlugin } from "../author/create.ts";
import { openKit, runBun, unpackKit } from "../author/kit.ts";
import { lookUp, pagesOf } from "../author/manual.ts";
import { type CommandContext, type CommandModule, exitCodes } from "../command.ts";
import { safeText } from "../render.ts";
import type { PluginManifest } from "../../plugin/package/package.ts";
import { versionText } from "./version.ts";
import { bundleFolder, compareBundle, readFolderManifest } from "../../plugin/package/pack.ts";

/** The test kit writes the name of each conformance suite that it runs there (sdk/testkit/conformance/check.ts). */
const SUITES_VARIABLE = "GODWIT_CONFORMANCE_SUITES";

const folderOf = ({ args }: CommandContext): string => resolve(args[0] ?? ".");

/** The manifest of a folder for which there is a toolchain in here. Throws GODWIT_PLUGIN_PACKAGE, GODWIT_REQUEST_INVALID. */
function readModuleManifest(folder: string): PluginManifest {
  const manifest = readFolderManifest(folder);
  if (manifest.runtime === "exec")
    throw godwitError(
      "GODWIT_REQUEST_INVALID",
      `"${manifest.id}" is a program (runtime = "exec"), and check and test are for plugins in TypeScript; run tests of your own, then godwit plugin pack, which reads the manifest, and godwit plugin dev --trust untrusted`,
    );
  return manifest;
}

export const create: CommandModule = {
  async run({ io, args, option, isJson }) {
    const [id] = args;
    const kind = option("kind") ?? "service";
    const files = await createPlugin(process.cwd(), id!, kind);
    io.stdout(
      isJson
        ? `${JSON.stringify({ folder: resolve(id!), kind, files })}\n`
        : `${files.map((file) => `${id}/${file}\n`).join("")}next: cd ${id} && godwit plugin test\n`,
    );
    return exitCodes.fine;
  },
};

export const check: CommandModule = {
  async run(context) {
    const folder = folderOf(context);
    const manifest = readModuleManifest(folder);
    checkPermissions(manifest);
    await checkTypes(folder, context.env);
    const note = await compareBundle(await bundleFolder(folder), context.io.clock);
    if (note !== undefined) context.io.stderr(`${safeText(note)}\n`);
    checkTested(folder, manifest);
    context.io.stdout(`"${manifest.id}" ${manifest.version}: the manifest and the types are right\n`);
    return exitCodes.fine;
  },
};

export const test: CommandModule = {
  async run(context) {
    const folder = folderOf(context);
    const { namespace } = readModuleManifest(folder);
    await unpackKit(folder);
    const scratch = mkdtempSync(join(tmpdir(), "godwit-test-"));
    try {
      const suites = join(scratch, "suites");
      const pattern = context.option("name");
      const project = projectOf(folder);
      const tsconfig = project === undefined ? [] : [`--tsconfig-override=${project}`];
      const words = ["test", ...tsconfig, ...(pattern === undefined ? [] : ["--test-name-pattern", pattern])];
      const { code } = await runBun(folder, words, context.env, { more: { [SUITES_VARIABLE]: suites } });
      if (code !== 0) return exitCodes.failed;
      const ran = existsSync(suites) ? readFileSync(suites, "utf8").split("\n") : [];
      if (!ran.includes(`${namespace} conformance`)) throw untested(folder, namespace);
      return exitCodes.fine;
    } finally {
      rmSync(scratch, { recursive: true });
    }
  },
};

export const docs: CommandModule = {
  async run({ io, args, isJson }) {
    const [word] = args;
    const { files } = await openKit();
    if (word === undefined) {
      const pages = [...pagesOf(files)].map(([page, title]) => ({ page, title }));
      io.stdout(
        isJson
          ? `${JSON.stringify({ pages })}\n`
          : `${pages.map(({ page, title }) => `${page.padEnd(10)} ${title}\n`).join("")}godwit plugin docs WORD: a page, or what speaks of the word\n`,
      );
      return exitCodes.fine;
    }
    const { sections, isWhole } = lookUp(files, word);
    if (isJson) io.stdout(`${JSON.stringify({ sections })}\n`);
    else if (isWhole) io.stdout(sections.map(({ text }) => safeText(text)).join("\n"));
    else io.stdout(sections.map(({ page, heading }) => `${page}: ${safeText(heading)}\n`).join(""));
    return exitCodes.fine;
  },
};

const trustLevels = ["trusted", "contained", "untrusted"] as const;

export const dev: CommandModule = {
  async run(context) {
    const folder = folderOf(context);
    const asked = context.option("trust") ?? "trusted";
    const trust = trustLevels.find((level) => level === asked);
    if (trust === undefined)
      throw godwitError("GODWIT_USAGE", `--trust is one of ${trustLevels.join(", ")}, not "${asked}"`);
    readFolderManifest(folder);
    await unpackKit(folder);
    await runDevMesh({
      folder,
      trust,
      clock: context.io.clock,
      random: systemRandom,
      version: versionText(),
      say: (line) => context.io.stdout(`${safeText(line)}\n`),
      signal: context.io.signal,
    });
    return exitCodes.fine;
  },
};
