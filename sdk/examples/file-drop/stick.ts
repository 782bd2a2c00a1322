/**
 * Files on a stick, which may be pulled at any moment and may have been anywhere. Names are checked, links are not
 * followed, a letter is replaced as a whole. Every function rejects with the system's error when the stick goes.
 */
import { constants } from "node:fs";
import { chmod, mkdir, open, readdir, rename, rm } from "node:fs/promises";
import { join } from "node:path";
import { LETTER_BYTES_MAX } from "./letter.ts";

export const NAME = /^[a-z0-9][a-z0-9-]{0,31}$/;
const LETTER = /^([a-z0-9][a-z0-9-]{0,31})\.([0-9a-f]{16})\.letter$/;
/** A note by which others see that a station listens and uses this stick. */
const HERE = "here";
/** Of a folder full of letters the rest waits. */
const LETTERS_MAX = 256;

export interface LetterName {
  readonly from: string;
  readonly to: string;
  /** 16 hex digits, chosen by the opener. */
  readonly connection: string;
}

const pathOf = (folder: string, { from, to, connection }: LetterName): string =>
  join(folder, to, `${from}.${connection}.letter`);

/** Stations with a note. Rejects when the stick is not there. */
export async function stationsOn(folder: string): Promise<Set<string>> {
  const found = new Set<string>();
  for (const { name } of await foldersOn(folder)) {
    const names = await readdir(join(folder, name)).catch((): string[] => []);
    if (names.includes(HERE)) found.add(name);
  }
  return found;
}

const foldersOn = async (folder: string) =>
  (await readdir(folder, { withFileTypes: true })).filter((one) => one.isDirectory() && NAME.test(one.name));

/**
 * Stations are different users on different machines; on most sticks nobody owns anything, and here it is the same. Where
 * a plugin may not say so (an untrusted one may not), whoever made the stick has made the folders.
 */
async function openFolder(path: string): Promise<void> {
  const isNew = await mkdir(path).then(
    () => true,
    () => false,
  );
  if (isNew) await chmod(path, 0o777).catch(() => {});
}

/** The folder of the stick itself is never made: it would be made on the disk below, where nobody looks. */
export async function leaveNote(folder: string, name: string): Promise<void> {
  await openFolder(join(folder, name));
  await (await open(join(folder, name, HERE), "a")).close();
}

export const takeNote = (folder: string, name: string): Promise<void> =>
  rm(join(folder, name, HERE), { force: true });

export async function lettersTo(folder: string, to: string): Promise<LetterName[]> {
  const names = (await readdir(join(folder, to))).toSorted().slice(0, LETTERS_MAX);
  return names.flatMap((name) => {
    const [, from, connection] = LETTER.exec(name) ?? [];
    return from === undefined ? [] : [{ from, to, connection: connection! }];
  });
}

/** What this station wrote in an earlier life: nobody will ever add to it. */
export async function lettersFrom(folder: string, from: string): Promise<LetterName[]> {
  const found: LetterName[] = [];
  for (const { name: to } of await foldersOn(folder))
    found.push(...(await lettersTo(folder, to)).filter((letter) => letter.from === from));
  return found;
}

/** Undefined for what is larger than any letter, or gone. */
export async function readLetter(folder: string, name: LetterName): Promise<Uint8Array | undefined> {
  const file = await open(pathOf(folder, name), constants.O_RDONLY | constants.O_NOFOLLOW).catch(
    () => undefined,
  );
  if (file === undefined) return undefined;
  try {
    const stat = await file.stat();
    return stat.isFile() && stat.size <= LETTER_BYTES_MAX ? await file.readFile() : undefined;
  } finally {
    await file.close();
  }
}

export async function writeLetter(folder: string, name: LetterName, bytes: Uint8Array): Promise<void> {
  await openFolder(join(folder, name.to));
  const staged = join(folder, name.to, `${name.from}.${name.connection}.new`);
  const file = await open(staged, "w");
  try {
    await file.writeFile(bytes);
    await file.sync();
  } finally {
    await file.close();
  }
  await rename(staged, pathOf(folder, name));
}

export const removeLetter = (folder: string, name: LetterName): Promise<void> =>
  rm(pathOf(folder, name), { force: true });
