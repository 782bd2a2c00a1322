/**
 * What an image target is, and what all of them share: machines, the moment that stands in every file, the binary, and the
 * table of sizes. A target is a file of its own beside this one and a row in scripts/image.ts.
 */
import { existsSync, mkdirSync, statSync } from "node:fs";
import { join } from "node:path";
import { buildGodwit, type Target } from "../build.ts";
import { root, run } from "../lib.ts";
import type { Steps } from "../steps.ts";

export type ImageArch = "x64" | "arm64";

export interface ImageOptions {
  readonly arch: ImageArch;
  /** Absolute; exists. */
  readonly out: string;
  /** Seconds since 1970: the time of every file in the image, and the earliest that its clock may show. */
  readonly epochS: number;
  /** The target's own options, as parseArgs gives them. */
  readonly values: Readonly<Record<string, string | boolean | readonly (string | boolean)[] | undefined>>;
  /** For whoever waits. */
  readonly steps: Steps;
}

/** One line of the table of sizes. */
export interface SizeRow {
  readonly what: string;
  readonly bytes: number;
  /** True for a file that was left in `out`; false for a part of one. */
  readonly isFile: boolean;
}

export interface ImageTarget {
  /** For the help. */
  readonly summary: string;
  /** For parseArgs, beside --out and --arch; `help` completes the usage. */
  readonly options: Readonly<
    Record<
      string,
      { readonly type: "string" | "boolean"; readonly multiple?: boolean; readonly help: string }
    >
  >;
  /** Leaves files in `out`. The same inputs give the same bytes. Throws with what to do. */
  build(options: ImageOptions): Promise<readonly SizeRow[]>;
}

/** What is downloaded and unpacked for images; safe to remove. */
export const imageCache = join(root, ".cache", "image");

/** Debian's names. */
export const debianArch: Readonly<Record<ImageArch, string>> = { x64: "amd64", arm64: "arm64" };
/** Debian's folder of libraries, and where programs expect the loader. */
export const libraryFolder: Readonly<Record<ImageArch, string>> = {
  x64: "lib/x86_64-linux-gnu",
  arm64: "lib/aarch64-linux-gnu",
};
export const loaderPath: Readonly<Record<ImageArch, string>> = {
  x64: "lib64/ld-linux-x86-64.so.2",
  arm64: "lib/ld-linux-aarch64.so.1",
};
/** What the binary needs of glibc, beside the loader. */
export const libraries = ["libc.so.6", "libm.so.6", "libpthread.so.0", "libdl.so.2"] as const;

/** Baseline: an image must start on any processor of its kind. */
const binaryTarget: Readonly<Record<ImageArch, Target>> = { x64: "x64-baseline", arm64: "arm64" };

/** Builds the binary for an image; answers its path. Its base name is part of its bytes, so it is always `godwit`. */
export async function imageBinary(arch: ImageArch): Promise<string> {
  const folder = join(imageCache, "binary", arch);
  mkdirSync(folder, { recursive: true });
  const path = join(folder, "godwit");
  await buildGodwit(binaryTarget[arch], path);
  return path;
}

/**
 * SOURCE_DATE_EPOCH where it is set, else the time of the checked-out commit, so that the same sources give the same
 * image on any day.
 */
export async function sourceEpochS(): Promise<number> {
  const given = process.env["SOURCE_DATE_EPOCH"];
  if (given !== undefined && /^\d{1,11}$/.test(given)) return Number(given);
  const commit = await run(["git", "--git-dir=.git", "log", "-1", "--format=%ct"], { cwd: root }).catch(
    () => undefined,
  );
  if (commit?.code === 0 && /^\d+$/.test(commit.output.trim())) return Number(commit.output.trim());
  const path = join(root, "package.json");
  return existsSync(path) ? Math.floor(statSync(path).mtimeMs / 1000) : 0;
}

const mebibytes = (bytes: number) => `${(bytes / 2 ** 20).toFixed(bytes < 2 ** 20 ? 2 : 1)} MiB`;

/** Largest first within parts and files, files last. */
export function formatSizes(rows: readonly SizeRow[]): string {
  const sorted = [...rows].sort((a, b) => Number(a.isFile) - Number(b.isFile) || b.bytes - a.bytes);
  const width = Math.max(...rows.map(({ what }) => what.length));
  return sorted
    .map(
      ({ what, bytes, isFile }) =>
        `${isFile ? "file " : "part "} ${what.padEnd(width)}  ${mebibytes(bytes).padStart(11)}\n`,
    )
    .join("");
}
