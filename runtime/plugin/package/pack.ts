/** Makes a package of an author's folder. */
import { closeSync, openSync, readFileSync, readSync } from "node:fs";
import { isAbsolute, join, normalize } from "node:path";
import type { Identity } from "../../identity/keys.ts";
import { godwitError } from "../../kernel/errors.ts";
import { writeWhole } from "../../kernel/whole-file.ts";
import {
  encodePackage,
  MANIFEST_BYTES_MAX,
  MANIFEST_FILE,
  parseManifest,
  type PluginManifest,
  type PluginPackage,
} from "./package.ts";
import { sdkModules } from "./sdk-modules.ts";

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
    const reason = error instanceof Error ? error.message : String(error);
    throw godwitError("GODWIT_PLUGIN_PACKAGE", `cannot read ${path}: ${reason}`, error);
  }
}

/** Bundles the folder's entry into one module, the SDK left out, and signs it. Answers where the package lies. */
export async function packFolder(folder: string, publisher: Identity, out?: string): Promise<string> {
  const manifestBytes = manifestBytesOf(folder);
  const manifest = parseManifest(manifestBytes);
  const entry = normalize(manifest.entry);
  if (isAbsolute(entry) || entry.startsWith(".."))
    throw godwitError("GODWIT_PLUGIN_PACKAGE", `the entry ${manifest.entry} lies outside the folder`);
  if (manifest.runtime === "exec")
    return await writePackage(
      manifest,
      encodePackage(manifestBytes, readFileSync(join(folder, entry)), publisher),
      out,
    );
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
  const bytes = encodePackage(manifestBytes, new Uint8Array(await output.arrayBuffer()), publisher);
  return await writePackage(manifest, bytes, out);
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

async function writePackage(
  manifest: PluginPackage["manifest"],
  bytes: Uint8Array,
  out: string | undefined,
): Promise<string> {
  const path = out ?? `${manifest.id}-${manifest.version}.gwp`;
  writeWhole(path, bytes, 0o666 & ~process.umask());
  return path;
}
