/** The password of the console: named by a reference, never written in the configuration, compared in constant time. */
import { createHash, timingSafeEqual } from "node:crypto";
import { closeSync, constants, fstatSync, openSync, readSync } from "node:fs";

/** People type it, perhaps on a teletype; guesses are slow and few. */
export const PASSWORD_BYTES_MIN = 8;
const PASSWORD_BYTES_MAX = 256;

/** A credential is a file of $CREDENTIALS_DIRECTORY, by a name that cannot lead out of it. */
const REFERENCE =
  /^(?:file:(\/.+)|env:([A-Za-z_][A-Za-z0-9_]*)|credential:([A-Za-z0-9_-][A-Za-z0-9._-]{0,254}))$/s;

export interface PasswordProblem {
  readonly expected: string;
}

/** One newline at the end is not part of it. A file that everybody may read or write is refused. */
export function readPassword(
  reference: string,
  env: Readonly<Record<string, string | undefined>>,
): Uint8Array | PasswordProblem {
  const match = REFERENCE.exec(reference);
  if (match === null)
    return {
      expected:
        '"file:/path", "env:NAME" or "credential:NAME"; the password itself never stands in the configuration',
    };
  const [, path, variable, credential] = match;
  const read =
    path !== undefined
      ? readFile(path, 0o007)
      : variable !== undefined
        ? readVariable(variable, env)
        : readCredential(credential!, env);
  if (!(read instanceof Uint8Array)) return read;
  const bytes = read.subarray(0, lengthWithoutNewline(read));
  if (bytes.length < PASSWORD_BYTES_MIN || bytes.length > PASSWORD_BYTES_MAX)
    return {
      expected: `a password of ${PASSWORD_BYTES_MIN} to ${PASSWORD_BYTES_MAX} bytes there; it has ${bytes.length}`,
    };
  if (bytes.some((byte) => byte < 0x20 || byte === 0x7f))
    return { expected: "a password of one line without control characters there" };
  // A line that begins so is a program's.
  if (bytes[0] === 0x7b) return { expected: "a password that does not begin with a brace there" };
  return bytes.slice();
}

/** Takes as long for a near miss as for anything else. */
export function isSamePassword(given: string, wanted: Uint8Array): boolean {
  const digest = (data: string | Uint8Array) => createHash("sha256").update(data).digest();
  return timingSafeEqual(digest(given), digest(wanted));
}

function readVariable(name: string, env: Readonly<Record<string, string | undefined>>) {
  const value = env[name];
  return value === undefined
    ? { expected: `the variable ${name} to be set, or "file:/path"` }
    : new TextEncoder().encode(value);
}

/** Who may read the folder is its manager's doing, and container engines leave its files readable by all inside. */
function readCredential(name: string, env: Readonly<Record<string, string | undefined>>) {
  const folder = env["CREDENTIALS_DIRECTORY"];
  return folder?.startsWith("/") === true
    ? readFile(`${folder}/${name}`, 0o002)
    : { expected: `CREDENTIALS_DIRECTORY to be set, or "file:/path"` };
}

function readFile(path: string, forbidden: number): Uint8Array | PasswordProblem {
  let handle: number;
  try {
    // NONBLOCK: a FIFO in that place must not hang the boot.
    handle = openSync(path, constants.O_RDONLY | constants.O_NONBLOCK);
  } catch (error) {
    return { expected: `a file that can be opened (${reasonOf(error)})` };
  }
  try {
    const stat = fstatSync(handle);
    if (!stat.isFile()) return { expected: "a plain file" };
    if ((stat.mode & forbidden) !== 0)
      return { expected: `a file that not everybody may read or write: chmod 600 ${path}` };
    const bytes = new Uint8Array(PASSWORD_BYTES_MAX + 2);
    let length = 0;
    for (let got = 1; got > 0 && length < bytes.length; length += got)
      got = readSync(handle, bytes, length, bytes.length - length, null);
    return bytes.subarray(0, length);
  } catch (error) {
    return { expected: `a file that can be read (${reasonOf(error)})` };
  } finally {
    closeSync(handle);
  }
}

function lengthWithoutNewline(bytes: Uint8Array): number {
  let length = bytes.length;
  if (bytes[length - 1] === 0x0a) length--;
  if (length < bytes.length && bytes[length - 1] === 0x0d) length--;
  return length;
}

const reasonOf = (error: unknown): string =>
  error instanceof Error && "code" in error ? String(error.code) : String(error);
