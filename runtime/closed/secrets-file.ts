/**
 * `<state_dir>/network-secrets.json` (0600): what of the network secrets outlives a life of the node. Written whole or not at all; what
 * is read is judged field by field. Must never quote its text.
 */
import { readFileSync, statSync } from "node:fs";
import { ROTATION_SECRET_BYTES_MIN } from "../identity/rotation.ts";
import { godwitError } from "../kernel/errors.ts";
import { writeWhole } from "../kernel/whole-file.ts";

export const SECRETS_FILE = "network-secrets.json";
const FILE_BYTES_MAX = 64 * 1024;

export interface StoredEpoch {
  readonly secret: string;
  readonly generation: number;
  readonly signature: string | null;
}

export interface StoredFile {
  readonly version: 1;
  readonly rotated: readonly StoredEpoch[];
  /** Epoch id to running ms left. */
  readonly retiring: Readonly<Record<string, number>>;
  /** Epoch id to the wall clock of its end; none by earlier releases. */
  readonly retiringAt?: Readonly<Record<string, number>>;
  readonly retired: readonly string[];
  /** Taken out of the configuration by a reload, and good for a while yet; none by earlier releases, which pass over them. */
  readonly takenOut?: readonly StoredEpoch[];
}

export const storedEpoch = (
  secret: Uint8Array,
  generation: number,
  signature: Uint8Array | undefined,
): StoredEpoch => ({
  secret: Buffer.from(secret).toString("base64"),
  generation,
  signature: signature === undefined ? null : Buffer.from(signature).toString("base64"),
});

/** Whole or not at all. Throws GODWIT_STATE_UNUSABLE. */
export function writeStored(path: string, stored: StoredFile): void {
  try {
    writeWhole(path, `${JSON.stringify(stored)}\n`, 0o600);
  } catch (error) {
    throw unusable(path, codeOf(error));
  }
}

/** Undefined: none. Throws GODWIT_STATE_UNUSABLE. */
export function readStored(path: string): StoredFile | undefined {
  let text: string;
  try {
    const stat = statSync(path);
    if ((stat.mode & 0o077) !== 0) throw unusable(path, `others may read it; chmod 600 ${path}`);
    if (stat.size > FILE_BYTES_MAX) throw unusable(path, "it is far too long");
    text = readFileSync(path, "utf8");
  } catch (error) {
    if (codeOf(error) === "ENOENT") return undefined;
    throw codeOf(error) === "GODWIT_STATE_UNUSABLE" ? error : unusable(path, codeOf(error));
  }
  try {
    const stored = JSON.parse(text) as unknown;
    if (isStoredFile(stored)) return stored;
  } catch {
    // Said below; its text is never quoted.
  }
  throw unusable(
    path,
    "it is damaged; restore it, or remove it and set node.network_secret to the newest secret",
  );
}

const isObject = (value: unknown): value is Record<string, unknown> =>
  typeof value === "object" && value !== null && !Array.isArray(value);

/** Every field that is read later is judged here: what is damaged must not look like a fault of the program. */
function isStoredFile(value: unknown): value is StoredFile {
  if (!isObject(value) || value["version"] !== 1) return false;
  const { rotated, retiring, retiringAt = {}, retired, takenOut = [] } = value;
  return (
    Array.isArray(rotated) &&
    rotated.every(isStoredEpoch) &&
    Array.isArray(takenOut) &&
    takenOut.every(isStoredEpoch) &&
    Array.isArray(retired) &&
    retired.every((id) => typeof id === "string") &&
    isObject(retiring) &&
    Object.values(retiring).every((left) => typeof left === "number" && left >= 0) &&
    isObject(retiringAt) &&
    Object.values(retiringAt).every((at) => typeof at === "number")
  );
}

function isStoredEpoch(value: unknown): value is StoredEpoch {
  if (!isObject(value)) return false;
  const { secret, generation, signature } = value;
  const bytes = typeof secret === "string" ? Buffer.from(secret, "base64").length : 0;
  return (
    bytes >= ROTATION_SECRET_BYTES_MIN &&
    typeof generation === "number" &&
    Number.isSafeInteger(generation) &&
    generation >= 0 &&
    (signature === null || (typeof signature === "string" && isSignature(signature)))
  );
}

const SIGNATURE_BYTES = 64;
const isSignature = (base64: string): boolean => Buffer.from(base64, "base64").length === SIGNATURE_BYTES;

const codeOf = (error: unknown): string =>
  error instanceof Error && "code" in error ? String(error.code) : String(error);

const unusable = (path: string, what: string) =>
  godwitError("GODWIT_STATE_UNUSABLE", `the network secrets ${path} cannot be used: ${what}`);
