/** Makes a package of an author's folder. */
import { createHash } from "node:crypto";
import { closeSync, openSync, readSync } from "node:fs";
import { isAbsolute, join, normalize } from "node:path";
import type { Identity } from "../../identity/keys.ts";
import type { Clock, Timer } from "../../kernel/clock.ts";
import { fileReason, godwitError } from "../../kernel/errors.ts";
import { writeWhole } from "../../kernel/whole-file.ts";
import { differencesOf, importDefault } from "./code.ts";
import {
  CODE_BYTES_MAX,
  encodePackage,
  MANIFEST_BYTES_MAX,
  MANIFEST_FILE,
  parseManifest,
  type PluginManifest,
} from "./package.ts";
import { sdkModules } from "./sdk-modules.ts";

/** For a module of an author to be loaded; it may wait for whatever it likes. */
const LOAD_MS = 10_000;

/** The manifest of an author's folder. Throws GODWIT_PLUGIN_PACKAGE. */
export function readFolderManifest(folder: string): PluginManifest {
  return parseManifest(manifestBytesOf(folder));
}

/** One byte more than is allowed is enough to say that it is too large: a file of a gigabyte is never read. */
function manifestBytesOf(folder: string): Uint8Array {
  const path = join(folder, MANIFEST_FILE);
  try {
    return readStart(path, MANIFEST_BYTES_MAX + 1);
  } catch (error) {
    const { code } = error as { readonly code?: unknown };
    const next =
      code === "ENOENT" || code === "ENOTDIR"
        ? "; name the folder of a plugin, or begin one with godwit plugin new"
        : "";
    throw godwitError("GODWIT_PLUGIN_PACKAGE", `cannot read ${path}: ${fileReason(error)}${next}`, error);
  }
}

/** What a package will hold, not yet signed. */
export interface Bundle {
  readonly manifest: PluginManifest;
  readonly manifestBytes: Uint8Array;
  readonly code: Uint8Array;
}

/** Makes one module of the folder's entry, the SDK left out; a program is taken as it is. Rejects with GODWIT_PLUGIN_PACKAGE. */
export async function bundleFolder(folder: string): Promise<Bundle> {
  const manifestBytes = manifestBytesOf(folder);
  const manifest = parseManifest(manifestBytes);
  const entry = normalize(manifest.entry);
  if (isAbsolute(entry) || entry.startsWith(".."))
    throw godwitError("GODWIT_PLUGIN_PACKAGE", `the entry ${manifest.entry} lies outside the folder`);
  if (manifest.runtime === "exec") return { manifest, manifestBytes, code: readProgram(join(folder, entry)) };
  const built = await Bun.build({
    entrypoints: [join(folder, entry)],
    target: "bun",
    format: "esm",
    // The node hands these out itself: one SDK, whatever the plugin was packed with.
    external: [...sdkModules],
    throw: false,
  });
  const [output] = built.outputs;
  if (!built.success || output === undefined)
    throw godwitError(
      "GODWIT_PLUGIN_PACKAGE",
      `cannot bundle ${manifest.entry}: ${built.logs.map(({ message }) => message).join("; ")}`,
    );
  return { manifest, manifestBytes, code: new Uint8Array(await output.arrayBuffer()) };
}

function readProgram(path: string): Uint8Array {
  try {
    return readStart(path, CODE_BYTES_MAX + 1);
  } catch (error) {
    const reason = `cannot read ${path}, the entry of ${MANIFEST_FILE}: ${fileReason(error)}`;
    throw godwitError("GODWIT_PLUGIN_PACKAGE", reason, error);
  }
}

/**
 * Runs the module of a bundle, which must be the author's own, as a trusting node would, and compares what it exports with its
 * manifest. Rejects with GODWIT_PLUGIN_PACKAGE where they disagree; answers why they could not be compared, if so.
 */
export async function compareBundle({ manifest, code }: Bundle, clock: Clock): Promise<string | undefined> {
  if (manifest.runtime === "exec") return undefined;
  let timer: Timer | undefined;
  const late = new Promise<never>((_, reject) => {
    timer = clock.after(LOAD_MS, () => reject(new Error(`it takes more than ${LOAD_MS / 1_000} s`)));
  });
  let plugin: unknown;
  try {
    const hash = createHash("sha256").update(code).digest("hex");
    plugin = await Promise.race([importDefault(code, hash), late]);
  } catch (error) {
    // It may need what only its node has.
    const reason = error instanceof Error ? error.message : String(error);
    return `${manifest.entry} cannot be loaded on this machine, so it was not compared with ${MANIFEST_FILE}: ${reason}`;
  } finally {
    timer?.cancel();
  }
  const differences = differencesOf(manifest, plugin);
  if (differences.length > 0)
    throw godwitError(
      "GODWIT_PLUGIN_PACKAGE",
      `${manifest.entry} and ${MANIFEST_FILE} disagree: ${differences.join("; ")}`,
    );
  return undefined;
}

/** Signs a bundle. Answers where the package lies. */
export function writePackage(bundle: Bundle, publisher: Identity, out?: string): string {
  const { manifest, manifestBytes, code } = bundle;
  const path = out ?? `${manifest.id}-${manifest.version}.gwp`;
  writeWhole(path, encodePackage(manifestBytes, code, publisher), 0o666 & ~process.umask());
  return path;
}

function readStart(path: string, bytesMax: number): Uint8Array {
  const file = openSync(path, "r");
  try {
    const bytes = new Uint8Array(bytesMax);
    let length = 0;
    for (let got = -1; got !== 0 && length < bytesMax; length += got)
      got = readSync(file, bytes, length, bytesMax - length, null);
    return bytes.subarray(0, length);
  } finally {
    closeSync(file);
  }
}
