/**
 * Earlier releases as binaries, built from this repository's own history: what is in the field must keep working beside
 * what is built now. `releases.json` names the commit of each, because a clone may come without tags. Builds in a
 * temporary folder and keeps the result in dist/releases.
 */
import { existsSync, mkdirSync } from "node:fs";
import { mkdtemp, rm, symlink } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import releases from "./releases.json" with { type: "json" };
import { root, run } from "./lib.ts";

export interface Release {
  readonly version: string;
  readonly commit: string;
}

/** The newest release before the code in this tree. */
export const previousRelease: Release = releases.at(-1)!;

/**
 * No release, and so not in `releases.json`: the last commit that called itself 0.2.0 with schema 2, mail named under the store's epoch
 * and no running time. What stands in the field under that number has such stores.
 */
export const lastOfSchemaTwo: Release = {
  version: "0.2.0",
  commit: "b1a59b7706b6b5a9d04767ef6c418995c92291c5",
};

const BUILD_TIMEOUT_MS = 180_000;

/** The binary of a release. Rejects when the commit is not in this clone and cannot be fetched, or does not build. */
export async function releaseBinary({ version, commit }: Release): Promise<string> {
  const outfile = join(root, "dist/releases", `${version}-${commit.slice(0, 12)}`, "godwit");
  if (existsSync(outfile)) return outfile;
  if (!(await isHere(commit))) await succeed(["git", "fetch", "--depth=1", "origin", commit], root);
  const dir = await mkdtemp(join(tmpdir(), "godwit-release-"));
  try {
    const archive = join(dir, "source.tar");
    await succeed(["git", "archive", `--output=${archive}`, commit], root);
    await succeed(["tar", "-xf", archive, "-C", dir], root);
    await succeed([process.execPath, "install", "--frozen-lockfile"], dir);
    mkdirSync(join(outfile, ".."), { recursive: true });
    await succeed([process.execPath, "scripts/build.ts", "--outfile", outfile], dir);
    return outfile;
  } finally {
    await rm(dir, { recursive: true, force: true });
  }
}

/** The code of a release in `dir`, to be imported beside that of this tree, whose packages it takes. Rejects as `releaseBinary` does. */
export async function releaseSource({ commit }: Release, dir: string): Promise<void> {
  if (!(await isHere(commit))) await succeed(["git", "fetch", "--depth=1", "origin", commit], root);
  const archive = join(dir, "source.tar");
  await succeed(["git", "archive", `--output=${archive}`, commit], root);
  await succeed(["tar", "-xf", archive, "-C", dir], root);
  await symlink(join(root, "node_modules"), join(dir, "node_modules"));
}

const isHere = async (commit: string): Promise<boolean> =>
  (await run(["git", "cat-file", "-e", `${commit}^{commit}`])).code === 0;

async function succeed(command: readonly string[], cwd: string): Promise<void> {
  const { code, output } = await run(command, { cwd, timeoutMs: BUILD_TIMEOUT_MS });
  if (code !== 0) throw new Error(`${command.join(" ")} ended with ${code}\n${output.slice(-2_000)}`);
}
