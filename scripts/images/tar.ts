/** Archives of POSIX ustar (IEEE Std 1003.1, pax: "ustar Interchange Format"), the same bytes for the same entries. Pure. */

export type TarEntry = {
  /** Without a slash at the front; at most 100 bytes, ASCII. */
  readonly path: string;
  /** Permission bits; 0o644 for files and 0o755 for folders where absent. */
  readonly mode?: number;
  /** Of user and group alike; 0 where absent. */
  readonly owner?: number;
} & (
  | { readonly kind: "file"; readonly bytes: Uint8Array }
  | { readonly kind: "directory" }
  | { readonly kind: "link"; readonly target: string }
);

const BLOCK_BYTES = 512;
/** Two empty blocks end an archive. */
const END_BYTES = 2 * BLOCK_BYTES;
const NAME_BYTES_MAX = 100;
const typeFlags = { file: "0", link: "2", directory: "5" } as const;

const padded = (length: number): number => Math.ceil(length / BLOCK_BYTES) * BLOCK_BYTES;

/** Entries in the order given. `epochS`: the time of every file. Throws when a name does not fit. */
export function writeTar(entries: readonly TarEntry[], epochS: number): Uint8Array<ArrayBuffer> {
  const sizes = entries.map((entry) => (entry.kind === "file" ? entry.bytes.length : 0));
  const total = sizes.reduce((sum, size) => sum + BLOCK_BYTES + padded(size), END_BYTES);
  const out = new Uint8Array(total);
  let at = 0;
  for (const [index, entry] of entries.entries()) {
    out.set(header(entry, sizes[index]!, epochS), at);
    at += BLOCK_BYTES;
    if (entry.kind === "file") out.set(entry.bytes, at);
    at += padded(sizes[index]!);
  }
  return out;
}

function header(entry: TarEntry, size: number, epochS: number): Uint8Array {
  const block = new Uint8Array(BLOCK_BYTES);
  const text = (at: number, length: number, value: string) => {
    const bytes = new TextEncoder().encode(value);
    if (bytes.length > length) throw new Error(`does not fit into a tar header: ${value}`);
    block.set(bytes, at);
  };
  const octal = (at: number, length: number, value: number) =>
    text(at, length, `${value.toString(8).padStart(length - 1, "0")}\0`);
  const { kind, path, owner = 0, mode = kind === "file" ? 0o644 : 0o755 } = entry;
  text(0, NAME_BYTES_MAX, kind === "directory" ? `${path}/` : path);
  octal(100, 8, mode);
  octal(108, 8, owner);
  octal(116, 8, owner);
  octal(124, 12, size);
  octal(136, 12, epochS);
  // The sum counts its own field as blanks.
  text(148, 8, "        ");
  text(156, 1, typeFlags[kind]);
  if (kind === "link") text(157, NAME_BYTES_MAX, entry.target);
  text(257, 8, "ustar\u000000");
  const sum = block.reduce((total, byte) => total + byte, 0);
  text(148, 8, `${sum.toString(8).padStart(6, "0")}\0 `);
  return block;
}

/** The folders above each path that nobody named, so that unpacking does not have to invent them. */
export function withFolders(entries: readonly TarEntry[]): TarEntry[] {
  const named = new Set(entries.map(({ path }) => path));
  const folders = new Set<string>();
  for (const { path } of entries)
    for (let end = path.lastIndexOf("/"); end > 0; end = path.lastIndexOf("/", end - 1))
      if (!named.has(path.slice(0, end))) folders.add(path.slice(0, end));
  const all = [...[...folders].map((path): TarEntry => ({ path, kind: "directory" })), ...entries];
  return all.sort((a, b) => (a.path < b.path ? -1 : a.path > b.path ? 1 : 0));
}
