/** The loader and the four libraries that the binary needs, out of Debian's libc6, and more where programs go with it. */
import { lstatSync, readFileSync, readlinkSync, realpathSync } from "node:fs";
import { join } from "node:path";
import { type ImageArch, libraries, libraryFolder, loaderPath } from "./target.ts";

export interface LibraryFile {
  /** In the image, without a slash at the front. */
  readonly path: string;
  readonly bytes: Uint8Array;
}

/** What programs of Debian need of glibc beside what Godwit needs. */
export const PROGRAM_LIBRARIES = ["librt.so.1", "libresolv.so.2"] as const;

/** `folder`: libc6, unpacked. `more`: names of libraries beside those of the binary. */
export function glibcFiles(folder: string, arch: ImageArch, more: readonly string[] = []): LibraryFile[] {
  const names = [...libraries, ...more];
  const paths = [loaderPath[arch], ...names.map((name) => `${libraryFolder[arch]}/${name}`)];
  return paths.map((path) => ({ path, bytes: new Uint8Array(readFileSync(resolveInside(folder, path))) }));
}

/** Links of a package may be absolute, and then mean the root that it will be unpacked to. */
function resolveInside(folder: string, path: string): string {
  let at = join(folder, path);
  for (let i = 0; i < 8 && lstatSync(at).isSymbolicLink(); i++) {
    const target = readlinkSync(at);
    at = target.startsWith("/") ? join(folder, target) : join(at, "..", target);
  }
  return realpathSync(at);
}
