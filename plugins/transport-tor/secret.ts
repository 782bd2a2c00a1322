/** Secrets that the configuration names (`file:/path`, `env:NAME`, `credential:NAME`). They print as `[secret]` whatever prints them. */
import { closeSync, constants, fstatSync, openSync, readSync } from "node:fs";

const BYTES_MAX = 256;
const HIDDEN = "[secret]";

/** A credential is a file of $CREDENTIALS_DIRECTORY, by a name that cannot lead out of it. */
const REFERENCE =
  /^(?:file:(\/.+)|env:([A-Za-z_][A-Za-z0-9_]*)|credential:([A-Za-z0-9_-][A-Za-z0-9._-]{0,254}))$/s;

export class HiddenText {
  readonly #text: string;

  constructor(text: string) {
    this.#text = text;
  }

  reveal(): string {
    return this.#text;
  }

  toString(): string {
    return HIDDEN;
  }

  toJSON(): string {
    return HIDDEN;
  }

  [Symbol.for("nodejs.util.inspect.custom")](): string {
    return HIDDEN;
  }
}

/** Answers the secret, or in words what was expected. One newline at the end is not part of it. */
export function readSecret(
  reference: string,
  env: Readonly<Record<string, string | undefined>>,
): HiddenText | { readonly expected: string } {
  const match = REFERENCE.exec(reference);
  if (match === null)
    return {
      expected:
        '"file:/path", "env:NAME" or "credential:NAME"; the password itself never stands in the configuration',
    };
  const [, path, variable, credential] = match;
  const text =
    path !== undefined
      ? readPrivateFile(path, 0o007)
      : variable !== undefined
        ? env[variable]
        : readCredential(credential!, env);
  if (text === undefined) return { expected: `the variable ${variable} to be set` };
  if (typeof text !== "string") return text;
  const line = text.replace(/\r?\n$/, "");
  if (line.length === 0 || line.length > BYTES_MAX || !/^[\x20-\x7e]+$/.test(line))
    return { expected: `one line of 1 to ${BYTES_MAX} printable ASCII characters there` };
  return new HiddenText(line);
}

/** Who may read the folder is its manager's doing, and container engines leave its files readable by all inside. */
function readCredential(name: string, env: Readonly<Record<string, string | undefined>>) {
  const folder = env["CREDENTIALS_DIRECTORY"];
  return folder?.startsWith("/") === true
    ? readPrivateFile(`${folder}/${name}`, 0o002)
    : { expected: `CREDENTIALS_DIRECTORY to be set, or "file:/path"` };
}

function readPrivateFile(path: string, forbidden: number): string | { readonly expected: string } {
  let handle: number | undefined;
  try {
    // NONBLOCK: a FIFO in that place must not hang the boot.
    handle = openSync(path, constants.O_RDONLY | constants.O_NONBLOCK);
    const stat = fstatSync(handle);
    if (!stat.isFile()) return { expected: "a plain file" };
    if ((stat.mode & forbidden) !== 0)
      return { expected: `a file that not everybody may read or write: chmod 600 ${path}` };
    const bytes = Buffer.alloc(BYTES_MAX + 3);
    return bytes.toString("latin1", 0, readSync(handle, bytes, 0, bytes.length, 0));
  } catch (error) {
    const why = error instanceof Error && "code" in error ? String(error.code) : String(error);
    return { expected: `a file that can be read (${why})` };
  } finally {
    if (handle !== undefined) closeSync(handle);
  }
}
