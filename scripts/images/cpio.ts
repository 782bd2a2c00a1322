/**
 * Writes the archive that the kernel unpacks as its first root (cpio "newc", Documentation/driver-api/early-userspace/
 * buffer-format.rst of the kernel). Owns order and every field, so that the same tree always gives the same bytes; needs no
 * root, because device nodes are just entries.
 */

export type CpioEntry =
  | { readonly path: string; readonly kind: "directory"; readonly mode?: number }
  /** `bytes` is borrowed until the archive is made. */
  | { readonly path: string; readonly kind: "file"; readonly bytes: Uint8Array; readonly mode?: number }
  | { readonly path: string; readonly kind: "link"; readonly target: string }
  | {
      readonly path: string;
      readonly kind: "character device";
      readonly major: number;
      readonly minor: number;
      readonly mode?: number;
    };

const MAGIC = "070701";
const TYPE = { directory: 0o040000, file: 0o100000, link: 0o120000, "character device": 0o020000 } as const;
const DEFAULT_MODE = { directory: 0o755, file: 0o644, link: 0o777, "character device": 0o600 } as const;
const TRAILER = "TRAILER!!!";
/** Headers and contents start at multiples of this. */
const ALIGN = 4;
/** The whole is padded to this, as cpio(1) does. */
const BLOCK = 512;

const utf8 = new TextEncoder();

/**
 * Paths have no leading slash. Folders above an entry are added where they are missing; entries are sorted, so that a
 * folder comes before what lies in it. Throws on two entries of one path.
 */
export function writeCpio(entries: readonly CpioEntry[], epochS: number): Uint8Array {
  const byPath = new Map<string, CpioEntry>();
  for (const entry of entries) {
    if (byPath.has(entry.path)) throw new Error(`two entries for ${entry.path}`);
    if (!isPlain(entry.path)) throw new Error(`not a plain path: ${entry.path}`);
    byPath.set(entry.path, entry);
  }
  for (const path of [...byPath.keys()])
    for (let at = path.indexOf("/"); at > 0; at = path.indexOf("/", at + 1)) {
      const folder = path.slice(0, at);
      if (!byPath.has(folder)) byPath.set(folder, { path: folder, kind: "directory" });
    }
  const sorted = [...byPath.values()].sort((a, b) => (a.path < b.path ? -1 : 1));
  const parts: Uint8Array[] = [];
  let length = 0;
  const push = (bytes: Uint8Array, align: number) => {
    parts.push(bytes);
    length += bytes.length;
    const padding = (align - (length % align)) % align;
    if (padding > 0) parts.push(new Uint8Array(padding));
    length += padding;
  };
  sorted.forEach((entry, index) => {
    const contents =
      entry.kind === "file"
        ? entry.bytes
        : entry.kind === "link"
          ? utf8.encode(entry.target)
          : new Uint8Array();
    const mode =
      TYPE[entry.kind] |
      ("mode" in entry ? (entry.mode ?? DEFAULT_MODE[entry.kind]) : DEFAULT_MODE[entry.kind]);
    const isDevice = entry.kind === "character device";
    push(
      header({
        inode: index + 1,
        mode,
        links: entry.kind === "directory" ? 2 : 1,
        epochS,
        bytes: contents.length,
        major: isDevice ? entry.major : 0,
        minor: isDevice ? entry.minor : 0,
        path: entry.path,
      }),
      ALIGN,
    );
    push(contents, ALIGN);
  });
  push(
    header({ inode: 0, mode: 0, links: 1, epochS: 0, bytes: 0, major: 0, minor: 0, path: TRAILER }),
    BLOCK,
  );
  const out = new Uint8Array(length);
  let at = 0;
  for (const part of parts) {
    out.set(part, at);
    at += part.length;
  }
  return out;
}

/** Below the root, by names alone. */
const isPlain = (path: string): boolean => path.split("/").every((part) => !["", ".", ".."].includes(part));

interface Header {
  readonly inode: number;
  readonly mode: number;
  readonly links: number;
  readonly epochS: number;
  readonly bytes: number;
  readonly major: number;
  readonly minor: number;
  readonly path: string;
}

/** Magic and 13 numbers of 8 hexadecimal digits, then the name with its end mark. */
function header({ inode, mode, links, epochS, bytes, major, minor, path }: Header): Uint8Array {
  const name = utf8.encode(`${path}\0`);
  const numbers = [
    inode,
    mode,
    0, // owner
    0, // group
    links,
    epochS,
    bytes,
    0, // device that the file lies on
    0,
    major,
    minor,
    name.length,
    0, // checksum, not used in this kind
  ];
  const digits = numbers.map((value) => value.toString(16).toUpperCase().padStart(8, "0")).join("");
  const head = utf8.encode(MAGIC + digits);
  const out = new Uint8Array(head.length + name.length);
  out.set(head);
  out.set(name, head.length);
  return out;
}
