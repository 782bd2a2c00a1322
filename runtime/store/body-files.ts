/**
 * Bodies too large for the log and for pages: each is written once, to a file of its own, or one after the other to that of their group, and
 * durable before the row that names its place. Owns the folder beside the database whose name ends in `-bodies`. A file goes when no row
 * names a place in it any more. Must never change a byte that a row may name.
 */
import { closeSync, constants, existsSync, openSync, readdirSync, readSync, rmSync } from "node:fs";
import { mkdir, open, type FileHandle } from "node:fs/promises";
import { dirname, join } from "node:path";
import { syncFolder } from "../kernel/whole-file.ts";
import { bodySum } from "./sums.ts";
import type { BodyHead } from "./types.ts";

/** A body beyond this size has a place in a file; the store of the bodies of a transfer has its chunks there. */
export const FILE_BODY_BYTES = 24 * 1024;
/** Places are numbered: the file, then the byte in it. As large as the largest body. */
const FILE_BYTES_MAX = 2 ** 26;
/** Groups whose files are still written to; the oldest is given up, and gets another file should more of it come. */
const GROUPS_MAX = 64;

/** In place of the sum of a body that nobody held at once. */
export const NO_SUM = -1;

/** Where a body lies. */
export interface BodyPlace {
  readonly id: number;
  readonly bytes: number;
  readonly sum: number;
}

interface Group {
  readonly file: number;
  bytes: number;
  /** So many lie there, each behind the one before from the first on; `undefined`: others as well, or not in this order. */
  inOrder: number | undefined;
}

export interface NewBody {
  readonly body: Uint8Array;
  /** Bodies of one group share a file. */
  readonly group?: string | undefined;
  /** Which of its group it is. The first, 0, begins another group, whatever was there of that name. */
  readonly index?: number | undefined;
  /** Group whose bodies this one goes on from; `hasHead` says whether all of them, and nothing else, lie in a row. */
  readonly head?: BodyHead | undefined;
}

export const bodyFolder = (path: string): string => `${path}-bodies`;
export const fileOf = (id: number): number => Math.floor(id / FILE_BYTES_MAX);
const pathOf = (folder: string, file: number): string => join(folder, file.toString(16).padStart(12, "0"));
const placeId = (file: number, offset: number): number => file * FILE_BYTES_MAX + offset;
const offsetOf = (id: number): number => id % FILE_BYTES_MAX;

/**
 * The bytes at a place, undefined where there are not so many. What is read is not judged. Throws the operating system's error where they
 * cannot be read now: that says nothing about what is there.
 */
export function readPlace(folder: string, id: number, bytes: number): Uint8Array | undefined {
  let handle: number;
  try {
    handle = openSync(pathOf(folder, fileOf(id)), "r");
  } catch (error) {
    if (isMissing(error)) return undefined;
    throw error;
  }
  try {
    const body = new Uint8Array(bytes);
    for (let at = 0; at < bytes;) {
      const read = readSync(handle, body, at, bytes - at, offsetOf(id) + at);
      if (read === 0) return undefined;
      at += read;
    }
    return body;
  } finally {
    closeSync(handle);
  }
}

export class BodyFiles {
  readonly #folder: string;
  readonly #files: Set<number>;
  readonly #groups = new Map<string, Group>();
  /** Written for rows that are not there yet. */
  readonly #fresh = new Set<number>();
  #next: number;

  /** Throws the operating system's error. */
  constructor(path: string) {
    this.#folder = bodyFolder(path);
    const all = existsSync(this.#folder) ? readdirSync(this.#folder) : [];
    const names = all.filter((name) => /^[0-9a-f]{12}$/.test(name));
    this.#files = new Set(names.map((name) => Number.parseInt(name, 16)));
    this.#next = Math.max(0, ...this.#files) + 1;
  }

  get isEmpty(): boolean {
    return this.#files.size === 0;
  }

  /** Makes bodies durable; one call at a time. `kept` says when rows name them. Rejects with the operating system's error. */
  async write(bodies: readonly NewBody[]): Promise<BodyPlace[]> {
    const places: BodyPlace[] = [];
    const handles = new Map<number, FileHandle>();
    const handleOf = async (file: number): Promise<FileHandle> => {
      const handle = handles.get(file) ?? (await this.#open(file));
      handles.set(file, handle);
      return handle;
    };
    const nextBefore = this.#next;
    try {
      for (const { body, group, index, head } of bodies) {
        if (index === 0) this.#groups.delete(group!);
        const of = head === undefined ? this.#fileFor(group, body.length) : this.#takeGroup(head);
        const at = head === undefined ? of.bytes : 0;
        await writeWhole(await handleOf(of.file), body, of.bytes);
        of.bytes += body.length;
        of.inOrder = index !== undefined && of.inOrder === index ? index + 1 : undefined;
        const sum = head === undefined ? bodySum(body) : NO_SUM;
        places.push({ id: placeId(of.file, at), bytes: of.bytes - at, sum });
      }
      for (const handle of handles.values()) await handle.datasync();
      if (this.#next !== nextBefore) await this.#syncNames();
      return places;
    } catch (error) {
      // A full disk is not to be kept full by what came of it.
      for (const file of this.#fresh) if (file >= nextBefore) this.#remove(file);
      this.#fresh.clear();
      throw error;
    } finally {
      for (const handle of handles.values()) await handle.close();
    }
  }

  /** Rows name these places by now, or never will. */
  kept(places: readonly BodyPlace[]): void {
    for (const { id } of places) this.#fresh.delete(fileOf(id));
  }

  /** Whether all bodies of this group, and nothing else, lie one after the other in a file. */
  hasHead({ of, bytes }: BodyHead): boolean {
    const group = this.#groups.get(of);
    return group?.inOrder !== undefined && group.bytes === bytes;
  }

  /** Undefined when it is not what was written. */
  async read({ id, bytes, sum }: BodyPlace): Promise<Uint8Array | undefined> {
    const body = await this.readPart(id, bytes);
    return body !== undefined && (sum === NO_SUM || bodySum(body) === sum) ? body : undefined;
  }

  /** The bytes from there on, not judged; undefined where there are not so many. */
  async readPart(id: number, bytes: number): Promise<Uint8Array | undefined> {
    try {
      const handle = await open(pathOf(this.#folder, fileOf(id)), "r");
      try {
        const body = new Uint8Array(bytes);
        for (let at = 0; at < bytes;) {
          const { bytesRead } = await handle.read(body, at, bytes - at, offsetOf(id) + at);
          if (bytesRead === 0) return undefined;
          at += bytesRead;
        }
        return body;
      } finally {
        await handle.close();
      }
    } catch {
      return undefined;
    }
  }

  /** `live`: every file that a row names a place in. */
  sweep(live: ReadonlySet<number>): void {
    for (const file of this.#files) if (!live.has(file) && !this.#fresh.has(file)) this.#remove(file);
  }

  #remove(file: number): void {
    for (const [name, group] of this.#groups) if (group.file === file) this.#groups.delete(name);
    rmSync(pathOf(this.#folder, file), { force: true });
    this.#files.delete(file);
  }

  /** Nothing is added to the group any more: its file is the beginning of a body now. Throws when another try wrote to the group meanwhile. */
  #takeGroup({ of, bytes }: BodyHead): Group {
    const group = this.#groups.get(of);
    if (group === undefined || !this.hasHead({ of, bytes }))
      throw new Error("the chunks of a body lie in no file of their own any more");
    this.#groups.delete(of);
    this.#fresh.add(group.file);
    return group;
  }

  #fileFor(name: string | undefined, bytes: number): Group {
    const known = name === undefined ? undefined : this.#groups.get(name);
    const isFresh = known === undefined || known.bytes + bytes > FILE_BYTES_MAX;
    const of = isFresh ? { file: this.#next++, bytes: 0, inOrder: 0 } : known;
    this.#files.add(of.file);
    this.#fresh.add(of.file);
    if (name === undefined) return of;
    this.#groups.delete(name);
    this.#groups.set(name, of);
    if (this.#groups.size > GROUPS_MAX) this.#groups.delete(this.#groups.keys().next().value!);
    return of;
  }

  /** The name of a file is durable only with its folder. */
  async #syncNames(): Promise<void> {
    const folder = await open(this.#folder, "r");
    try {
      await folder.sync();
    } finally {
      await folder.close();
    }
  }

  async #open(file: number): Promise<FileHandle> {
    const flags = constants.O_RDWR | constants.O_CREAT;
    try {
      return await open(pathOf(this.#folder, file), flags, 0o600);
    } catch (error) {
      if (!isMissing(error)) throw error;
      await mkdir(this.#folder, { recursive: true, mode: 0o700 });
      syncFolder(dirname(this.#folder));
      return open(pathOf(this.#folder, file), flags, 0o600);
    }
  }
}

const isMissing = (error: unknown): boolean =>
  error instanceof Error && "code" in error && error.code === "ENOENT";

async function writeWhole(handle: FileHandle, body: Uint8Array, position: number): Promise<void> {
  for (let at = 0; at < body.length;) {
    const { bytesWritten } = await handle.write(body, at, body.length - at, position + at);
    at += bytesWritten;
  }
}
