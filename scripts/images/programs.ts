/**
 * Programs of Debian packages for an image that has no package manager: what the kernel can execute, and the shared libraries
 * that it is linked to. Scripts stay behind, for there is no shell; so do documentation, services and settings.
 */
import { existsSync, lstatSync, readdirSync, readFileSync, readlinkSync } from "node:fs";
import { join } from "node:path";
import type { CpioEntry } from "./cpio.ts";
import type { DebianPackage, PackageRoot } from "./packages.ts";
import { type ImageArch, libraryFolder } from "./target.ts";

const PROGRAM_FOLDERS = ["bin", "sbin", "usr/bin", "usr/sbin"] as const;
/** By its name, as Debian's policy (8.1) has it; zlib alone has another. */
const LIBRARY_PACKAGE = /^(?:lib.*\d.*|zlib1g)$/;
const GLIBC = "libc6";
const PACKAGES_MAX = 100;

/** The packages and, of all that they depend on, those that hold shared libraries; glibc apart. In order of their names. */
export async function withLibraries(
  root: PackageRoot,
  names: readonly string[],
): Promise<readonly DebianPackage[]> {
  const found = new Map<string, DebianPackage>();
  for (let wanted = [...names]; wanted.length > 0;) {
    const name = wanted.shift()!;
    if (found.has(name)) continue;
    if (found.size >= PACKAGES_MAX)
      throw new Error(`${names.join(", ")} need more than ${PACKAGES_MAX} packages`);
    found.set(name, await root.get(name));
    const needed = await root.dependencies(name);
    wanted = [...wanted, ...needed.filter((one) => one !== GLIBC && LIBRARY_PACKAGE.test(one))];
  }
  return [...found.values()].sort((a, b) => (a.name < b.name ? -1 : 1));
}

/** What those packages bring. */
export function programEntries(packages: readonly DebianPackage[], arch: ImageArch): readonly CpioEntry[] {
  const folders = [...PROGRAM_FOLDERS, libraryFolder[arch], `usr/${libraryFolder[arch]}`];
  return packages.flatMap(({ folder }) => folders.flatMap((path) => filesOf(folder, path, isElf)));
}

/** Files that `isWanted`, and links to others beside them. Folders inside are not looked at. */
function filesOf(root: string, path: string, isWanted: (file: string) => boolean): CpioEntry[] {
  if (!existsSync(join(root, path))) return [];
  return readdirSync(join(root, path)).flatMap((name): CpioEntry[] => {
    const at = join(root, path, name);
    const stat = lstatSync(at);
    if (stat.isSymbolicLink()) {
      const target = readlinkSync(at);
      const end = join(root, target.startsWith("/") ? target : join(path, target));
      return existsSync(end) && isWanted(end) ? [{ path: `${path}/${name}`, kind: "link", target }] : [];
    }
    if (!stat.isFile() || !isWanted(at)) return [];
    return [{ path: `${path}/${name}`, kind: "file", bytes: new Uint8Array(readFileSync(at)), mode: 0o755 }];
  });
}

function isElf(file: string): boolean {
  return lstatSync(file).isFile() && readFileSync(file).subarray(0, 4).toString("latin1") === "\u007fELF";
}
