/**
 * Looks for secrets where none may be. Each is looked for in every form that somebody might print it in: bytes, hex, both
 * kinds of base64. Knows nothing of who keeps which; tests tell it.
 */
import { copyFileSync, lstatSync, mkdtempSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { silentLog } from "../../runtime/kernel/log.ts";
import { openSqliteStore } from "../../runtime/store/sqlite.ts";

/** Larger ones hold no text of ours. */
const FILE_BYTES_MAX = 64 * 1024 * 1024;

export interface Secret {
  readonly name: string;
  readonly bytes: Uint8Array;
}

interface Needle {
  readonly name: string;
  readonly form: string;
  readonly text: Buffer;
}

function needlesOf({ name, bytes }: Secret): Needle[] {
  const held = Buffer.from(bytes);
  const base64 = held.toString("base64").replace(/=+$/, "");
  const forms = {
    bytes: held,
    hex: Buffer.from(held.toString("hex")),
    HEX: Buffer.from(held.toString("hex").toUpperCase()),
    // The last character of what is no multiple of three depends on what follows.
    base64: Buffer.from(base64.slice(0, -1)),
    base64url: Buffer.from(held.toString("base64url").slice(0, -1)),
  };
  return Object.entries(forms).map(([form, text]) => ({ name, form, text }));
}

export class Search {
  readonly #needles: readonly Needle[];

  constructor(secrets: readonly Secret[]) {
    for (const { name, bytes } of secrets)
      if (bytes.length < 8) throw new Error(`${name} is too short to be looked for`);
    this.#needles = secrets.flatMap(needlesOf);
  }

  /** Which secrets stand in it, and how: "the onion key as hex". */
  in(content: string | Uint8Array): string[] {
    const bytes = Buffer.from(content as string);
    return this.#needles
      .filter(({ text }) => bytes.includes(text))
      .map(({ name, form }) => `${name} as ${form}`);
  }

  /** Files below the folder that hold a secret, with their modes. */
  filesIn(
    folder: string,
  ): { readonly path: string; readonly mode: number; readonly found: readonly string[] }[] {
    return filesBelow(folder).flatMap((path) => {
      try {
        const { mode, size } = lstatSync(path);
        if (size > FILE_BYTES_MAX) return [];
        const found = this.in(readFileSync(path));
        return found.length > 0 ? [{ path, mode: mode & 0o777, found }] : [];
      } catch {
        // Gone meanwhile.
        return [];
      }
    });
  }
}

/** Plain files only: sockets and FIFOs would be waited for. */
function filesBelow(folder: string): string[] {
  const files: string[] = [];
  const waiting = [folder];
  for (let at = waiting.pop(); at !== undefined; at = waiting.pop()) {
    let entries;
    try {
      entries = readdirSync(at, { withFileTypes: true });
    } catch {
      continue;
    }
    for (const entry of entries)
      if (entry.isDirectory()) waiting.push(join(at, entry.name));
      else if (entry.isFile()) files.push(join(at, entry.name));
  }
  return files;
}

/** Arguments of every process of the machine, as everybody can read them. */
export function processArguments(): string[] {
  return readdirSync("/proc").flatMap((pid) => {
    try {
      return /^\d+$/.test(pid) ? [readFileSync(`/proc/${pid}/cmdline`, "latin1").replaceAll("\0", " ")] : [];
    } catch {
      return [];
    }
  });
}

/** What an instance of a plugin keeps in the store of a node, which may run: its files are copied first. */
export async function storedOf(stateDir: string, instance: string, key: string): Promise<Uint8Array> {
  const folder = mkdtempSync(join(tmpdir(), "godwit-store-"));
  try {
    for (const name of readdirSync(stateDir).filter((each) => /^godwit\.db(?:-wal|-log)?$/.test(each)))
      copyFileSync(join(stateDir, name), join(folder, name));
    const store = await openSqliteStore({ path: join(folder, "godwit.db"), log: silentLog });
    try {
      const body = await store.body("plugin", `${instance}/${key}`);
      if (body === undefined) throw new Error(`${instance} keeps no ${key}`);
      return body;
    } finally {
      await store.close();
    }
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}
