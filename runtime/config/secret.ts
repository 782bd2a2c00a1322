/**
 * Secrets: bytes that must never reach a log, an error, a dump or the API. The configuration holds references
 * (`file:/path`, `env:NAME`, `credential:NAME`); the bytes are read once at load.
 */
import { closeSync, constants, fstatSync, openSync, readSync } from "node:fs";
import { isAbsolute } from "node:path";

const HIDDEN = "[secret]";

/** Prints as `[secret]` whatever prints it. */
export class Secret {
  readonly #bytes: Uint8Array;

  /** Copies `bytes`. */
  constructor(bytes: Uint8Array) {
    this.#bytes = bytes.slice();
  }

  get byteLength(): number {
    return this.#bytes.length;
  }

  /** A copy, owned by the caller. */
  reveal(): Uint8Array {
    return this.#bytes.slice();
  }

  equals(other: Secret): boolean {
    return Buffer.compare(this.#bytes, other.#bytes) === 0;
  }

  toString(): string {
    return HIDDEN;
  }

  toJSON(): string {
    return HIDDEN;
  }

  [Symbol.toPrimitive](): string {
    return HIDDEN;
  }

  [Symbol.for("nodejs.util.inspect.custom")](): string {
    return HIDDEN;
  }
}

export type Environment = Readonly<Record<string, string | undefined>>;

/** What went wrong with a reference: words for `found`, and what to do about it. */
export interface SecretFault {
  readonly found: string;
  readonly suggestion?: string;
}

export const SECRET_BYTES_MIN = 16;
/** A key file is short; anything longer is the wrong file. */
const SECRET_BYTES_MAX = 4_096;

/** A credential is a file of $CREDENTIALS_DIRECTORY (systemd.exec(5)), by a name that cannot lead out of it. */
export const SECRET_REFERENCE =
  /^(file:\/.+|env:[A-Za-z_][A-Za-z0-9_]*|credential:[A-Za-z0-9_-][A-Za-z0-9._-]{0,254})$/s;

/**
 * Reads what `reference` names. One trailing newline is not part of the secret. A file that others on the machine may
 * read or write is refused: whoever can read it is in the mesh.
 */
export function readSecret(reference: string, env: Environment): Secret | SecretFault {
  const bytes = readReference(reference, env);
  if (!(bytes instanceof Uint8Array)) return bytes;
  const trimmed = bytes.subarray(0, trimmedLength(bytes));
  if (trimmed.length < SECRET_BYTES_MIN)
    return {
      found: `${reference} with ${trimmed.length} bytes`,
      suggestion: "make one with: head -c 32 /dev/urandom | base64",
    };
  return new Secret(trimmed);
}

function readReference(reference: string, env: Environment): Uint8Array | SecretFault {
  const name = reference.slice(reference.indexOf(":") + 1);
  if (reference.startsWith("env:")) return readEnvironment(name, env);
  if (reference.startsWith("file:")) return readFile(name, 0o007);
  const folder = env["CREDENTIALS_DIRECTORY"];
  return folder === undefined || !isAbsolute(folder)
    ? {
        found: `${reference}, and no CREDENTIALS_DIRECTORY`,
        suggestion: `give the unit LoadCredential=${name}:/path, or use file:/path`,
      }
    : // Who may read the folder is its manager's doing, and container engines leave its files readable by all inside.
      readFile(`${folder}/${name}`, 0o002);
}

function readEnvironment(name: string, env: Environment): Uint8Array | SecretFault {
  const text = env[name];
  return text === undefined
    ? { found: `env:${name}, which is not set`, suggestion: `set ${name}, or use file:/path` }
    : new TextEncoder().encode(text);
}

/** `forbidden`: bits of the mode that must not be set. */
function readFile(path: string, forbidden: number): Uint8Array | SecretFault {
  if (!isAbsolute(path)) return { found: `file:${path}`, suggestion: "write the path from / on" };
  let handle: number;
  try {
    // NONBLOCK: a FIFO in that place must not hang the boot.
    handle = openSync(path, constants.O_RDONLY | constants.O_NONBLOCK);
  } catch (error) {
    return { found: `file:${path}, which cannot be opened (${reasonOf(error)})` };
  }
  try {
    const stat = fstatSync(handle);
    if (!stat.isFile()) return { found: `file:${path}, which is not a plain file` };
    if ((stat.mode & forbidden) !== 0)
      return { found: `file:${path}, which everybody may read or write`, suggestion: `chmod 600 ${path}` };
    if (stat.size > SECRET_BYTES_MAX)
      return { found: `file:${path} with ${stat.size} bytes, more than ${SECRET_BYTES_MAX}` };
    const bytes = new Uint8Array(SECRET_BYTES_MAX);
    let length = 0;
    for (;;) {
      const got = readSync(handle, bytes, length, bytes.length - length, null);
      if (got === 0) return bytes.subarray(0, length);
      length += got;
    }
  } catch (error) {
    return { found: `file:${path}, which cannot be read (${reasonOf(error)})` };
  } finally {
    closeSync(handle);
  }
}

function trimmedLength(bytes: Uint8Array): number {
  let length = bytes.length;
  if (bytes[length - 1] === 0x0a) length--;
  if (length < bytes.length && bytes[length - 1] === 0x0d) length--;
  return length;
}

const reasonOf = (error: unknown): string =>
  error instanceof Error && "code" in error ? String(error.code) : String(error);
