/**
 * What an operator would find out when a plugin is loaded, found out by its author: names of permissions that mean nothing, types that are
 * wrong, no test of what Godwit expects. Whether the code is what its manifest says is plugin/package/pack.ts.
 */
import { existsSync, readFileSync } from "node:fs";
import { join, relative } from "node:path";
import { nearest } from "../../config/suggest.ts";
import { godwitError } from "../../kernel/errors.ts";
import { MANIFEST_FILE, type PluginManifest } from "../../plugin/package/package.ts";
import { parsePermission, permissionWords } from "../../plugin/permissions.ts";
import { runBun, unpackKit } from "./kit.ts";

/** Files looked through for the call of a suite. */
const TEST_FILES_MAX = 10_000;

type Environment = Readonly<Record<string, string | undefined>>;

/** `transportConformance` */
export const suiteOf = (namespace: string): string =>
  `${namespace.replace(/-(\w)/g, (_, letter: string) => letter.toUpperCase())}Conformance`;

export const untested = (folder: string, namespace: string) =>
  godwitError(
    "GODWIT_PLUGIN_UNTESTED",
    `no test of ${relative(process.cwd(), folder) || "this folder"} runs the ${namespace} conformance suite: call ${suiteOf(namespace)} of @godwit/sdk/testkit`,
  );

/** A node would take it for one that nobody can grant. Throws GODWIT_PLUGIN_PACKAGE. */
export function checkPermissions({ permissions }: PluginManifest): void {
  const problems = permissions
    .filter((text) => parsePermission(text) === undefined)
    .map((text) => {
      const [kind = ""] = text.split(":");
      const known = permissionWords.map((word) => word.split(":")[0]!);
      const form = permissionWords.find((word) => word.split(":")[0] === kind);
      const near = nearest(kind, known);
      if (form !== undefined) return `"${text}" is to be ${form}`;
      return `"${text}" is none${near === undefined ? "" : `; did you mean ${near}?`}`;
    });
  if (problems.length > 0)
    throw godwitError(
      "GODWIT_PLUGIN_PACKAGE",
      `permissions in ${MANIFEST_FILE}: ${problems.join("; ")} (godwit plugin docs permissions)`,
    );
}

/** Looks for the call and runs nothing: `godwit plugin test` does. Throws GODWIT_PLUGIN_UNTESTED. */
export function checkTested(folder: string, { namespace }: PluginManifest): void {
  const call = new RegExp(`\\b${suiteOf(namespace)}\\s*\\(`);
  let left = TEST_FILES_MAX;
  for (const path of new Bun.Glob("**/*.test.{ts,tsx,js,jsx,mts,mjs}").scanSync({ cwd: folder })) {
    if (path.split("/").includes("node_modules")) continue;
    if (call.test(readFileSync(join(folder, path), "utf8"))) return;
    if (--left === 0) break;
  }
  throw untested(folder, namespace);
}

/** The compiler's project, where the folder has none of its own: the kit's, which says what the node can run. */
export const projectOf = (folder: string): string | undefined =>
  existsSync(join(folder, "tsconfig.json")) ? undefined : ".godwit/tsconfig.json";

/** Rejects with GODWIT_PLUGIN_PACKAGE, and what the compiler said; with GODWIT_NOT_FOUND where there is no kit. */
export async function checkTypes(folder: string, env: Environment): Promise<void> {
  await unpackKit(folder);
  const project = projectOf(folder);
  const words = ["check", "--no-script", "--no-pretty", ...(project === undefined ? [] : ["-p", project])];
  const { code, output } = await runBun(folder, words, env, { isKept: true });
  if (code !== 0) throw godwitError("GODWIT_PLUGIN_PACKAGE", `the types are not right:\n${output.trim()}`);
}
