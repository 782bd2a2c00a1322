/**
 * Secrets that a configuration names instead of holding them: `file:/path`, `env:NAME` or `credential:NAME`. Owns the grammar,
 * who may read such a file, and the value that prints as `[secret]`. Must never put a secret, nor text that may be one, into
 * a fault.
 */
import { createHash, timingSafeEqual } from "node:crypto";
import { closeSync, constants, fstatSync, openSync, readSync } from "node:fs";
import { isAbsolute } from "node:path";

const HIDDEN = "[secret]";

/** Bytes, or text, that print as `[secret]` whatever prints them. */
export class Secret {
  readonly #bytes: Uint8Array;

  /** Copies bytes; text is kept as its UTF-8. */
  constructor(value: Uint8Array | string) {
    this.#bytes = typeof value === "string" ? new TextEncoder().encode(value) : Uint8Array.from(value);
  }

  get byteLength(): number {
    return this.#bytes.length;
  }

  /** A copy, owned by the caller. */
  reveal(): Uint8Array {
    return this.#bytes.slice();
  }

  /** The same as text; what is no UTF-8 becomes U+FFFD. */
  revealText(): string {
    return new TextDecoder("utf-8", { ignoreBOM: true }).decode(this.#bytes);
  }

  /** Takes as long for a near miss as for anything else of that length. Nothing equals no secret. */
  equals(other: Secret | Uint8Array | string | undefined): boolean {
    if (other === undefined) return false;
    return timingSafeEqual(digestOf(this.#bytes), digestOf(other instanceof Secret ? other.#bytes : other));
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

const digestOf = (data: Uint8Array | string): Uint8Array => createHash("sha256").update(data).digest();

/** Variables of the process, such as `process.env`. */
export type Environment = Readonly<Record<string, string | undefined>>;

/** What went wrong with a reference: words for "found ...", and what to do about it. Never the secret. */
export interface SecretFault {
  readonly found: string;
  readonly suggestion?: string;
}

/** What a secret must be like. Sizes are bytes without the newline at the end. */
export interface SecretBounds {
  /** 1 to `bytesMax`. */
  readonly bytesMin: number;
  /** Up to 65,536: a secret is short, anything longer is the wrong file. */
  readonly bytesMax: number;
  /** Says what else is wrong with the bytes, in words that complete "found", such as `with control characters`. Must not repeat or keep them. */
  readonly judge?: (bytes: Uint8Array) => string | undefined;
  /** What to do about one that is missing, too short or judged wrong, such as a command that makes one. */
  readonly suggestion?: string;
}

/**
 * The three forms of a reference. A credential is a file of $CREDENTIALS_DIRECTORY (systemd.exec(5)), by a name that cannot lead
 * out of it.
 */
export const SECRET_REFERENCE =
  /^(file:\/.+|env:[A-Za-z_][A-Za-z0-9_]*|credential:[A-Za-z0-9_-][A-Za-z0-9._-]{0,254})$/s;

/** Bits of a file's mode that must not be set: whoever else on the machine can read it is in. */
const OTHERS = 0o007;
/** Who may read the folder of credentials is its manager's doing, and container engines leave its files readable by all inside. */
const OTHERS_WRITE = 0o002;
/** The newline at the end. */
const NEWLINE_BYTES_MAX = 2;

/**
 * Reads what `reference` names, once, synchronously. One newline at the end (LF or CR LF) is not part of the secret. A file that
 * others on the machine may read or write is refused, and whatever is no plain file. Never throws.
 */
export function readSecret(reference: string, env: Environment, bounds: SecretBounds): Secret | SecretFault {
  if (!SECRET_REFERENCE.test(reference))
    return {
      found: "something else (not shown, it may be the secret)",
      suggestion: '"file:/path", "env:NAME" or "credential:NAME"',
    };
  const read = readReference(reference, env, bounds);
  if (!(read instanceof Uint8Array)) return read;
  const bytes = read.subarray(0, trimmedLength(read));
  const wrong =
    bytes.length < bounds.bytesMin
      ? `with ${bytes.length} bytes`
      : bytes.length > bounds.bytesMax
        ? tooLong(bounds.bytesMax)
        : bounds.judge?.(bytes);
  if (wrong === undefined) return new Secret(bytes);
  const { suggestion } = bounds;
  return { found: `${reference} ${wrong}`, ...(suggestion === undefined ? {} : { suggestion }) };
}

const tooLong = (bytesMax: number): string => `with more than ${bytesMax} bytes`;

function readReference(reference: string, env: Environment, bounds: SecretBounds): Uint8Array | SecretFault {
  const name = reference.slice(reference.indexOf(":") + 1);
  if (reference.startsWith("env:")) return readEnvironment(name, env);
  if (reference.startsWith("file:")) return readFile(name, OTHERS, bounds);
  const folder = env["CREDENTIALS_DIRECTORY"];
  return folder === undefined || !isAbsolute(folder)
    ? {
        found: `${reference}, and no CREDENTIALS_DIRECTORY`,
        suggestion: `give the unit LoadCredential=${name}:/path, or use file:/path`,
      }
    : readFile(`${folder}/${name}`, OTHERS_WRITE, bounds);
}

function readEnvironment(name: string, env: Environment): Uint8Array | SecretFault {
  const text = env[name];
  return text === undefined
    ? { found: `env:${name}, which is not set`, suggestion: `set ${name}, or use file:/path` }
    : new TextEncoder().encode(text);
}

/** `forbidden`: bits of the mode that must not be set. */
function readFile(
  path: string,
  forbidden: number,
  { bytesMax, suggestion }: SecretBounds,
): Uint8Array | SecretFault {
  let handle: number;
  try {
    // NONBLOCK: a FIFO in that place must not hang the boot.
    handle = openSync(path, constants.O_RDONLY | constants.O_NONBLOCK);
  } catch (error) {
    const reason = reasonOf(error);
    return {
      found: `file:${path}, which cannot be opened (${reason})`,
      ...(reason === "ENOENT" && suggestion !== undefined ? { suggestion } : {}),
    };
  }
  try {
    const stat = fstatSync(handle);
    if (!stat.isFile()) return { found: `file:${path}, which is not a plain file` };
    if ((stat.mode & forbidden) !== 0)
      return { found: `file:${path}, which everybody may read or write`, suggestion: `chmod 600 ${path}` };
    // One byte more than may be there, so that what is cut off is never taken for the whole.
    const bytes = new Uint8Array(bytesMax + NEWLINE_BYTES_MAX + 1);
    let length = 0;
    for (let got = 1; got > 0 && length < bytes.length; length += got)
      got = readSync(handle, bytes, length, bytes.length - length, null);
    return length === bytes.length
      ? { found: `file:${path} ${tooLong(bytesMax)}` }
      : bytes.subarray(0, length);
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
