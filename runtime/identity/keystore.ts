/**
 * The identity key file `<state_dir>/identity.key`. Owns how a key reaches the disk (whole or not at all, mode 0600) and
 * when a file is refused. Must never make a new identity where a damaged or doubtful one lies: a node that silently
 * becomes somebody else loses its mail and its name. Specified by docs/protocol/records.md, "The key file".
 */
import { createHash } from "node:crypto";
import {
  closeSync,
  constants,
  fstatSync,
  fsyncSync,
  linkSync,
  lstatSync,
  mkdirSync,
  openSync,
  readdirSync,
  readSync,
  renameSync,
  unlinkSync,
  writeSync,
} from "node:fs";
import { dirname, join } from "node:path";
import { godwitError, type GodwitError } from "../kernel/errors.ts";
import { syncFolder } from "../kernel/whole-file.ts";
import { formatHex, parseHex } from "../kernel/ids.ts";
import type { Random } from "../kernel/random.ts";
import { judgeStateFolder } from "./state-folder.ts";
import { generateIdentity, identityFromSeed, SEED_BYTES, type Identity } from "./keys.ts";

export const KEY_FILE = "identity.key";
const TEMPORARY_PREFIX = `${KEY_FILE}.new-`;
/** What a key is for: an authority's is never taken for a node's, nor the other way round. */
export type KeyKind = "identity" | "authority" | "publisher";
const firstLineOf = (kind: KeyKind): string => `godwit ${kind} key 1`;
const CHECK_BYTES = 8;
/** Longer than any key file of this version; what is longer is none. */
const FILE_BYTES_MAX = 1_024;

/**
 * The identity in `stateDir`, made there (0700, 0600) if there is none. Throws GODWIT_STATE_UNUSABLE when the folder or
 * file cannot be made or everybody may write there, GODWIT_KEY_EXPOSED when others may read or replace it, GODWIT_KEY_CORRUPT when it is damaged.
 */
export function loadOrCreateIdentity(
  stateDir: string,
  random: Random,
): { readonly identity: Identity; readonly created: boolean } {
  const { refusal } = judgeStateFolder(stateDir);
  if (refusal !== undefined) throw godwitError("GODWIT_STATE_UNUSABLE", refusal);
  const found = readIdentity(stateDir);
  if (found !== undefined) {
    removeLeftovers(stateDir);
    return { identity: found, created: false };
  }
  const identity = generateIdentity(random);
  const created = writeIdentity(stateDir, identity, random);
  // Another process may have been faster; then its key is the one that counts.
  const held = readIdentity(stateDir);
  if (held === undefined) throw unusable(stateDir, "the key file vanished while it was made");
  removeLeftovers(stateDir);
  return { identity: held, created };
}

/** As `loadOrCreateIdentity`, but throws GODWIT_STATE_UNUSABLE when there is none and changes nothing. */
export function loadIdentity(stateDir: string): Identity {
  const identity = readIdentity(stateDir);
  if (identity === undefined) throw unusable(stateDir, "there is no identity in it; `godwit init` makes one");
  return identity;
}

/** The authority's key at `path`. Throws as `loadIdentity` does. */
export function loadAuthority(path: string): Identity {
  const found = readKey(path, dirname(path), "authority");
  if (found === undefined)
    throw unusable(dirname(path), `there is no ${path}; \`godwit authority init\` makes one`);
  return found;
}

/** Makes an authority's key at `path` (0600), which must not exist. Throws GODWIT_STATE_UNUSABLE. */
export function createAuthority(path: string, random: Random): Identity {
  const identity = generateIdentity(random);
  if (!writeKey(path, dirname(path), formatKeyFile(identity, "authority"), random))
    throw unusable(dirname(path), `${path} is there already; an authority's key is never replaced`);
  return identity;
}

/** The key at `path` that signs plugin packages, made there (0600) if there is none. Throws as `loadIdentity` does. */
export function loadOrCreatePublisher(
  path: string,
  random: Random,
): { readonly identity: Identity; readonly created: boolean } {
  const folder = dirname(path);
  const found = readKey(path, folder, "publisher");
  if (found !== undefined) return { identity: found, created: false };
  const created = writeKey(path, folder, formatKeyFile(generateIdentity(random), "publisher"), random);
  const held = readKey(path, folder, "publisher");
  if (held === undefined) throw unusable(folder, "the key file vanished while it was made");
  return { identity: held, created };
}

/** The text of a key file. Secret: nothing but the file may get it. */
export function formatKeyFile(identity: Identity, kind: KeyKind = "identity"): string {
  const body = `${firstLineOf(kind)}\nid ${identity.id}\nseed ${formatHex(identity.seed)}\n`;
  return `${body}check ${checksum(body)}\n`;
}

/** Throws GODWIT_KEY_CORRUPT; the message names `path` and never quotes the text. */
export function parseKeyFile(text: string, path: string, kind: KeyKind = "identity"): Identity {
  if (!text.startsWith(`godwit ${kind} key `)) throw corrupt(`it is not an ${kind} key file of Godwit`, path);
  if (!text.startsWith(`${firstLineOf(kind)}\n`))
    throw corrupt("it has a format this version does not know", path);
  const match = /^[^\n]*\nid ([a-z2-7]{52})\nseed ([0-9a-f]{64})\ncheck ([0-9a-f]{16})\n$/.exec(text);
  if (match === null) throw corrupt("it is cut short or altered", path);
  const [, id, seedHex, check] = match;
  if (checksum(text.slice(0, text.lastIndexOf("check "))) !== check)
    throw corrupt("its checksum is wrong", path);
  let identity: Identity;
  try {
    identity = identityFromSeed(parseHex(seedHex!, SEED_BYTES)!);
  } catch {
    throw corrupt("its seed is no node's key", path);
  }
  if (identity.id !== id) throw corrupt("its id and its seed do not belong together", path);
  return identity;
}

const checksum = (body: string): string =>
  createHash("sha256")
    .update(body)
    .digest("hex")
    .slice(0, 2 * CHECK_BYTES);

/** Undefined only when nothing at all lies at the path. */
const readIdentity = (stateDir: string): Identity | undefined =>
  readKey(join(stateDir, KEY_FILE), stateDir, "identity");

function readKey(path: string, stateDir: string, kind: KeyKind): Identity | undefined {
  let handle: number;
  try {
    // Without following a link, and without hanging on a named pipe.
    handle = openSync(path, constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK);
  } catch (error) {
    const code = errnoOf(error);
    if (code === "ENOENT") return undefined;
    if (code === "ELOOP" || code === "EMLINK") throw corrupt("it is a symbolic link, not a file", path);
    if (code === "ENOTDIR") throw unusable(stateDir, "it is not a folder");
    throw unusable(
      stateDir,
      `${KEY_FILE} cannot be read (${code}); it must belong to the user that runs the node`,
    );
  }
  try {
    const stat = fstatSync(handle);
    if (!stat.isFile()) throw corrupt("it is not a regular file", path);
    const user = process.geteuid?.();
    if (user !== undefined && stat.uid !== user && user !== 0)
      throw exposed(path, "it belongs to another user; chown it to the user that runs the node");
    if ((stat.mode & 0o077) !== 0)
      throw exposed(
        path,
        `its mode is ${(stat.mode & 0o777).toString(8)}; if nobody else can have read it: chmod 600 ${path}`,
      );
    if (stat.size > FILE_BYTES_MAX) throw corrupt("it is far too long", path);
    const bytes = new Uint8Array(FILE_BYTES_MAX);
    const length = readSync(handle, bytes, 0, bytes.length, 0);
    return parseKeyFile(Buffer.from(bytes.buffer, 0, length).toString("latin1"), path, kind);
  } finally {
    closeSync(handle);
  }
}

/** Writes beside, syncs, publishes in one step that replaces nothing. False when another process was faster. */
const writeIdentity = (stateDir: string, identity: Identity, random: Random): boolean =>
  writeKey(join(stateDir, KEY_FILE), stateDir, formatKeyFile(identity), random);

function writeKey(path: string, stateDir: string, text: string, random: Random): boolean {
  const temporary = join(stateDir, `${TEMPORARY_PREFIX}${formatHex(random.bytes(8))}`);
  try {
    mkdirSync(stateDir, { recursive: true, mode: 0o700 });
    const handle = openSync(temporary, "wx", 0o600);
    try {
      writeSync(handle, text);
      fsyncSync(handle);
    } finally {
      closeSync(handle);
    }
    const isFirst = publish(temporary, path);
    syncFolder(stateDir);
    return isFirst;
  } catch (error) {
    throw unusable(stateDir, error instanceof Error ? error.message : String(error));
  } finally {
    tryUnlink(temporary);
  }
}

/** A hard link fails where something exists already, which a rename would replace. */
function publish(temporary: string, path: string): boolean {
  try {
    linkSync(temporary, path);
    return true;
  } catch (error) {
    if (errnoOf(error) === "EEXIST") return false;
    // Another start cleaned up after it had published its own.
    if (errnoOf(error) === "ENOENT" && exists(path)) return false;
    if (errnoOf(error) === "ENOENT") throw error;
  }
  // A file system without hard links; the lock on the store keeps a second node away.
  if (exists(path)) return false;
  renameSync(temporary, path);
  return true;
}

/** What a power cut left beside the key: it holds a secret that is no node's. Best effort. */
function removeLeftovers(stateDir: string): void {
  try {
    for (const name of readdirSync(stateDir))
      if (name.startsWith(TEMPORARY_PREFIX)) tryUnlink(join(stateDir, name));
  } catch {
    // The key was read; an unreadable folder is no reason to stop.
  }
}

function tryUnlink(path: string): void {
  try {
    unlinkSync(path);
  } catch {
    // Gone already.
  }
}

function exists(path: string): boolean {
  try {
    lstatSync(path);
    return true;
  } catch {
    return false;
  }
}

const errnoOf = (error: unknown): string =>
  error instanceof Error && "code" in error ? String(error.code) : String(error);

const ADVICE =
  "no new identity is made in its place; restore it from a backup, or move it away if this node shall become a new one";

const corrupt = (what: string, path: string): GodwitError =>
  godwitError("GODWIT_KEY_CORRUPT", `the identity key ${path} cannot be used: ${what}. ${ADVICE}`);

const exposed = (path: string, what: string): GodwitError =>
  godwitError("GODWIT_KEY_EXPOSED", `the identity key ${path} is not safe: ${what}`);

const unusable = (stateDir: string, what: string): GodwitError =>
  godwitError("GODWIT_STATE_UNUSABLE", `the state folder ${stateDir} cannot be used: ${what}`);
