/** Secrets that the configuration names (`file:/path`, `env:NAME`). They print as `[secret]` whatever prints them. */
import { closeSync, constants, fstatSync, openSync, readSync } from "node:fs";

const BYTES_MAX = 256;
const HIDDEN = "[secret]";

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
  const match = /^(?:file:(\/.+)|env:([A-Za-z_][A-Za-z0-9_]*))$/s.exec(reference);
  if (match === null)
    return { expected: '"file:/path" or "env:NAME"; the password itself never stands in the configuration' };
  const text = match[1] === undefined ? env[match[2]!] : readPrivateFile(match[1]);
  if (text === undefined) return { expected: `the variable ${match[2]} to be set` };
  if (typeof text !== "string") return text;
  const line = text.replace(/\r?\n$/, "");
  if (line.length === 0 || line.length > BYTES_MAX || !/^[\x20-\x7e]+$/.test(line))
    return { expected: `one line of 1 to ${BYTES_MAX} printable ASCII characters there` };
  return new HiddenText(line);
}

function readPrivateFile(path: string): string | { readonly expected: string } {
  let handle: number | undefined;
  try {
    // NONBLOCK: a FIFO in that place must not hang the boot.
    handle = openSync(path, constants.O_RDONLY | constants.O_NONBLOCK);
    const stat = fstatSync(handle);
    if (!stat.isFile()) return { expected: "a plain file" };
    if ((stat.mode & 0o007) !== 0)
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
