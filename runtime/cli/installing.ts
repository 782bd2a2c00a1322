/**
 * What `godwit install --systemd` puts on a machine or into the tree of an image, and how it goes away again. Owns the
 * list of files and the record of what was written, by which the undo removes exactly that and nothing that somebody
 * changed since. Every path is below `root`; nothing is run here but what `reload` hands in.
 */
import {
  chmodSync,
  copyFileSync,
  existsSync,
  lstatSync,
  mkdirSync,
  readFileSync,
  readlinkSync,
  realpathSync,
  renameSync,
  rmdirSync,
  rmSync,
  symlinkSync,
} from "node:fs";
import { basename, dirname, join } from "node:path";
import * as z from "zod";
import service from "../../images/systemd/godwit.service" with { type: "text" };
import socket from "../../images/systemd/godwit.socket" with { type: "text" };
import { godwitError } from "../kernel/errors.ts";
import { writeWhole } from "../kernel/whole-file.ts";
import { starterConfig } from "./starter.ts";

export const places = {
  binary: "/usr/local/bin/godwit",
  config: "/etc/godwit/godwit.toml",
  service: "/etc/systemd/system/godwit.service",
  socket: "/etc/systemd/system/godwit.socket",
  serviceWanted: "/etc/systemd/system/multi-user.target.wants/godwit.service",
  manual: "/usr/local/share/man/man1/godwit.1",
  socketWanted: "/etc/systemd/system/sockets.target.wants/godwit.socket",
  /** What was written, for the undo. */
  record: "/usr/local/lib/godwit/installed.json",
} as const;

/** What an undo with --purge takes along: the configuration, the identity, every message. */
export const purged = ["/etc/godwit", "/var/lib/private/godwit", "/var/lib/godwit"] as const;

const recordSchema = z.strictObject({
  version: z.literal(1),
  entries: z
    .array(
      z.strictObject({
        path: z.string().regex(/^\/[^\0]+$/),
        /** SHA-256 in hex of a file, the target of a link, or "folder". */
        what: z.string(),
        /** Where the file lies that stood there before, for the undo to put it back. */
        before: z.string().optional(),
      }),
    )
    .max(64),
});
type Entry = z.output<typeof recordSchema>["entries"][number];

export type Change =
  | "write"
  | "replace"
  | "keep"
  | "keep, because it was changed"
  | "link"
  | "remove"
  | "put back what was there before"
  | "remove with all in it"
  | "gone already";

/** Said for each path, in order, before it happens. */
export interface Step {
  readonly change: Change;
  /** Without the root. */
  readonly path: string;
}

export interface InstallWish {
  /** Absolute; "/" is this machine. */
  readonly root: string;
  /** The binary that is to run. */
  readonly binary: string;
  /** The manual page. */
  readonly manual: string;
  readonly withSocket: boolean;
  /** Says what would be done, and does nothing. */
  readonly isDryRun: boolean;
}

interface Wanted {
  readonly path: string;
  readonly mode: number;
  readonly content: () => Uint8Array | string;
  /** Somebody's own from the first moment: never replaced, never removed by the undo. */
  readonly isTheirs?: true;
}

/** Throws GODWIT_STATE_UNUSABLE when something cannot be written; run again, it goes on where it stopped. */
export function install(wish: InstallWish): Step[] {
  const { root, binary, manual, withSocket, isDryRun } = wish;
  for (const path of Object.values(places)) refuseWayOut(root, path);
  const record = new Record(root, isDryRun);
  const steps: Step[] = [];
  const files: Wanted[] = [
    { path: places.binary, mode: 0o755, content: () => readFileSync(binary) },
    { path: places.manual, mode: 0o644, content: () => manual },
    { path: places.service, mode: 0o644, content: () => service },
    ...(withSocket ? [{ path: places.socket, mode: 0o644, content: () => socket }] : []),
    { path: places.config, mode: 0o644, content: defaultConfig, isTheirs: true },
  ];
  for (const { path, mode, content, isTheirs } of files) {
    const target = join(root, path);
    const isThere = existsSync(target);
    if (isThere && isTheirs === true) {
      steps.push({ change: "keep", path });
      continue;
    }
    const bytes = asBytes(content());
    const here = isThere ? hashOf(readFileSync(target)) : undefined;
    const isOurs = record.get(path) !== undefined;
    if (here === hashOf(bytes)) {
      steps.push({ change: "keep", path });
      if (isOurs) record.add(path, hashOf(bytes));
    } else if (isOurs && here !== undefined && record.get(path) !== here)
      steps.push({ change: "keep, because it was changed", path });
    else {
      steps.push({ change: isThere ? "replace" : "write", path });
      if (isDryRun) continue;
      const before = isThere && !isOurs ? record.setAside(path) : undefined;
      record.makeFolders(dirname(path));
      // A cut in between must leave neither a file without its line, nor a line that makes our file look changed.
      if (!isOurs && isTheirs !== true) record.add(path, hashOf(bytes), before);
      replace(target, bytes, mode);
      if (isOurs) record.add(path, hashOf(bytes));
    }
  }
  const links = [
    [places.serviceWanted, places.service],
    ...(withSocket ? [[places.socketWanted, places.socket]] : []),
  ] as [string, string][];
  for (const [path, target] of links) {
    const isThere = linkTarget(join(root, path)) === target;
    steps.push({ change: isThere ? "keep" : "link", path });
    if (!isThere && !isDryRun) {
      record.makeFolders(dirname(path));
      rmSync(join(root, path), { force: true });
      symlinkSync(target, join(root, path));
    }
    record.add(path, target);
  }
  return steps;
}

/** The reverse. Configuration and state stay, unless `isPurge`. Throws GODWIT_USAGE when nothing is installed there. */
export function uninstall(wish: {
  readonly root: string;
  readonly isPurge: boolean;
  readonly isDryRun: boolean;
}): Step[] {
  const { root, isPurge, isDryRun } = wish;
  for (const path of [...Object.values(places), ...purged]) refuseWayOut(root, path);
  const entries = readRecord(root);
  if (entries.length === 0)
    throw godwitError(
      "GODWIT_USAGE",
      `nothing is installed below ${root}: there is no ${places.record}, which the installation leaves`,
    );
  const steps: Step[] = [];
  for (const { path, what, before } of entries) {
    if (what === "folder") continue;
    const target = join(root, path);
    const here = stateOf(target);
    const isOurs = here === what;
    if (isOurs && before !== undefined) steps.push({ change: "put back what was there before", path });
    else if (isOurs) steps.push({ change: "remove", path });
    else steps.push({ change: here === undefined ? "gone already" : "keep, because it was changed", path });
    if (!isOurs || isDryRun) continue;
    if (before === undefined) rmSync(target);
    else renameSync(join(root, before), target);
  }
  for (const path of isPurge ? purged : []) {
    if (lstatSync(join(root, path), { throwIfNoEntry: false }) === undefined) continue;
    steps.push({ change: "remove with all in it", path });
    if (!isDryRun) rmSync(join(root, path), { recursive: true, force: true });
  }
  if (isDryRun) return steps;
  rmSync(join(root, places.record));
  const folders = entries.filter(({ what }) => what === "folder").map(({ path }) => path);
  // The deepest first.
  for (const path of folders.sort((a, b) => b.length - a.length)) removeIfEmpty(join(root, path));
  return steps;
}

/** A link in the tree of an image may lead out of it, to the machine that builds the image. */
function refuseWayOut(root: string, path: string): void {
  let folder = join(root, dirname(path));
  while (!existsSync(folder)) folder = dirname(folder);
  const real = realpathSync(folder);
  const base = realpathSync(root);
  if (base !== "/" && real !== base && !real.startsWith(`${base}/`))
    throw godwitError("GODWIT_STATE_UNUSABLE", `${folder} leads to ${real}, which is outside of ${root}`);
}

const defaultConfig = (): string => starterConfig({ peers: [], socket: "/run/godwit/godwit.sock" });

const asBytes = (content: Uint8Array | string): Uint8Array =>
  typeof content === "string" ? new TextEncoder().encode(content) : content;
const hashOf = (bytes: Uint8Array): string => new Bun.CryptoHasher("sha256").update(bytes).digest("hex");

function linkTarget(path: string): string | undefined {
  const stat = lstatSync(path, { throwIfNoEntry: false });
  return stat?.isSymbolicLink() === true ? readlinkSync(path) : undefined;
}

function stateOf(path: string): string | undefined {
  const stat = lstatSync(path, { throwIfNoEntry: false });
  if (stat === undefined) return undefined;
  if (stat.isSymbolicLink()) return readlinkSync(path);
  return stat.isFile() ? hashOf(readFileSync(path)) : "folder";
}

function replace(path: string, bytes: Uint8Array, mode: number): void {
  try {
    writeWhole(path, bytes, mode);
  } catch (error) {
    const reason = error instanceof Error ? error.message : String(error);
    throw godwitError("GODWIT_STATE_UNUSABLE", `cannot write ${path}: ${reason}`, error);
  }
}

function removeIfEmpty(path: string): void {
  try {
    rmdirSync(path);
  } catch {
    // Somebody else's files lie in it, or it is gone.
  }
}

function readRecord(root: string): Entry[] {
  const path = join(root, places.record);
  if (!existsSync(path)) return [];
  try {
    return recordSchema.parse(JSON.parse(readFileSync(path, "utf8"))).entries;
  } catch (error) {
    throw godwitError(
      "GODWIT_STATE_UNUSABLE",
      `${path} is damaged; remove it and install again to make it anew`,
      error,
    );
  }
}

/** Everything that was written so far, on disk after each step: an installation that stops half way can be undone. */
class Record {
  readonly #root: string;
  readonly #isDryRun: boolean;
  readonly #entries: Map<string, Entry>;

  constructor(root: string, isDryRun: boolean) {
    this.#root = root;
    this.#isDryRun = isDryRun;
    this.#entries = new Map(readRecord(root).map((entry) => [entry.path, entry]));
  }

  get(path: string): string | undefined {
    return this.#entries.get(path)?.what;
  }

  add(path: string, what: string, before?: string): void {
    if (this.#isDryRun) return;
    this.makeFolders(dirname(places.record));
    const kept = before ?? this.#entries.get(path)?.before;
    this.#entries.set(path, { path, what, ...(kept === undefined ? {} : { before: kept }) });
    const entries = [...this.#entries.values()];
    replace(
      join(this.#root, places.record),
      asBytes(`${JSON.stringify({ version: 1, entries }, null, 2)}\n`),
      0o644,
    );
  }

  /** Makes what is missing, and remembers it with the next file. */
  makeFolders(path: string): void {
    const target = join(this.#root, path);
    if (path === "/" || existsSync(target)) return;
    this.makeFolders(dirname(path));
    mkdirSync(target);
    chmodSync(target, 0o755);
    this.#entries.set(path, { path, what: "folder" });
  }

  /** A copy of somebody else's file, mode and all; answers where it lies. */
  setAside(path: string): string {
    this.makeFolders(dirname(places.record));
    const before = join(dirname(places.record), `before-${basename(path)}`);
    copyFileSync(join(this.#root, path), join(this.#root, before));
    return before;
  }
}
