/** The loader and the four libraries that the binary needs, out of Debian's libc6. */
import { lstatSync, readFileSync, readlinkSync, realpathSync } from "node:fs";
import { join } from "node:path";
import { type ImageArch, libraries, libraryFolder, loaderPath } from "./target.ts";

export interface LibraryFile {
  /** In the image, without a slash at the front. */
  readonly path: string;
  readonly bytes: Uint8Array;
}

/** `folder`: libc6, unpacked. */
export function glibcFiles(folder: string, arch: ImageArch): LibraryFile[] {
  const paths = [loaderPath[arch], ...libraries.map((name) => `${libraryFolder[arch]}/${name}`)];
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
