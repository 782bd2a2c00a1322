/**
 * The network secrets that are live: those of the configuration and those that came over the mesh, which are kept in
 * `<state_dir>/network-secrets.json` (0600). Owns which one is preferred, how long a replaced one still opens links,
 * and who may replace it. Must never let a secret reach a log, an error or the API: outside they go by their epoch id.
 * docs/protocol/link.md "Epochs", docs/closed-meshes.md.
 */
import { readFileSync, statSync } from "node:fs";
import type { Clock, Log, Timer } from "@godwit/sdk";
import { isSignedRotation, ROTATION_SECRET_BYTES_MIN, type Rotation } from "../identity/rotation.ts";
import type { Verify } from "../identity/record.ts";
import { godwitError } from "../kernel/errors.ts";
import { writeWhole } from "../kernel/whole-file.ts";
import { type NodeId } from "../kernel/ids.ts";
import { SECRETS_MAX } from "../link/constants.ts";
import { networkKeys } from "../link/hello.ts";
import type { NodeTime } from "../time/node-time.ts";
import type { SecretLife } from "../wire/join-messages.ts";

export const SECRETS_FILE = "network-secrets.json";
/** Epochs that were retired are remembered, so that a configuration that still lists one does not bring it back. */
const RETIRED_MAX = 64;
/** What is left of an overlap reaches the disk this often: only running time counts, because a clock may be wrong. */
const SAVE_EVERY_MS = 600_000;
const FILE_BYTES_MAX = 64 * 1024;
/** Generations that an order without signature may skip: one member cannot use the numbers up. */
const UNSIGNED_LEAP_MAX = 64;

export type RotatePolicy = "authority" | "members" | "nobody";

export interface Epoch {
  /** 8 hex digits. */
  readonly id: string;
  readonly secret: Uint8Array;
  readonly source: "configured" | "mesh";
  /** 0 for a configured one. */
  readonly generation: number;
  readonly signature: Uint8Array | undefined;
  /** Running time until it opens no link any more; undefined while it is not replaced. */
  retiresInMs: number | undefined;
  /** The same by the wall clock, ms since 1970. */
  retiresAtMs: number | undefined;
}

export interface NetworkSecretsOptions {
  readonly stateDir: string;
  readonly network: string;
  /** Preferred first. */
  readonly configured: readonly Uint8Array[];
  readonly authority: NodeId | undefined;
  readonly policy: RotatePolicy;
  readonly overlapMs: number;
  readonly clock: Clock;
  readonly time: NodeTime;
  readonly log: Log;
  readonly verify: Verify;
}

interface StoredEpoch {
  readonly secret: string;
  readonly generation: number;
  readonly signature: string | null;
}

interface StoredFile {
  readonly version: 1;
  readonly rotated: readonly StoredEpoch[];
  /** Epoch id to running ms left. */
  readonly retiring: Readonly<Record<string, number>>;
  /** Epoch id to the wall clock of its end; none by earlier releases. */
  readonly retiringAt?: Readonly<Record<string, number>>;
  readonly retired: readonly string[];
}

export class NetworkSecrets {
  readonly #options: NetworkSecretsOptions;
  /** Live ones, the preferred first; at most SECRETS_MAX. */
  #epochs: Epoch[] = [];
  #retired: string[] = [];
  #timer: Timer | undefined;
  #timerStartedMs = 0;
  #isStopped = false;
  /** Ids of those that the wall clock shut. */
  #shut: readonly string[] = [];
  /** After every change of what is live or preferred, with the ids that are no longer live. Set by the node. */
  onChange: (retired: readonly string[]) => void = () => {};

  /** Throws GODWIT_STATE_UNUSABLE where the file is there and cannot be used: to go on without it could open or split the mesh. */
  constructor(options: NetworkSecretsOptions) {
    this.#options = options;
    const stored = readStored(this.#path);
    this.#retired = [...(stored?.retired ?? [])].slice(-RETIRED_MAX);
    const rotated = (stored?.rotated ?? []).map(({ secret, generation, signature }) =>
      this.#epochOf(
        Buffer.from(secret, "base64"),
        "mesh",
        generation,
        signature === null ? undefined : Buffer.from(signature, "base64"),
      ),
    );
    rotated.sort(compareEpochs);
    const configured = options.configured.map((secret) => this.#epochOf(secret, "configured", 0, undefined));
    for (const epoch of [...rotated, ...configured]) {
      if (this.#epochs.some(({ id }) => id === epoch.id) || this.#epochs.length >= SECRETS_MAX) continue;
      if (this.#retired.includes(epoch.id)) {
        options.log.warn("configured network secret is retired", {
          epoch: epoch.id,
          advice: "take it out of node.network_secret",
        });
        continue;
      }
      this.#retireIn(epoch, stored?.retiring[epoch.id], stored?.retiringAt?.[epoch.id]);
      this.#epochs.push(epoch);
    }
    if (this.#epochs[0] !== undefined) this.#retireIn(this.#epochs[0], undefined);
    this.#shut = this.#shutNow();
    this.#watch();
  }

  /** For handshakes: the preferred first; none in an open mesh. */
  get live(): Uint8Array[] {
    return this.#epochs.filter((epoch) => !this.#isShut(epoch)).map(({ secret }) => secret);
  }

  get preferred(): Epoch | undefined {
    return this.#epochs[0];
  }

  /** A copy of the list of those that open links; retiresInMs as of now. */
  get epochs(): readonly Epoch[] {
    const passedMs = this.#timer === undefined ? 0 : this.#options.clock.monotonicMs() - this.#timerStartedMs;
    return this.#epochs
      .filter((epoch) => !this.#isShut(epoch))
      .map((epoch) => ({
        ...epoch,
        retiresInMs: epoch.retiresInMs === undefined ? undefined : Math.max(0, epoch.retiresInMs - passedMs),
      }));
  }

  get generation(): number {
    return Math.max(0, ...this.#epochs.map(({ generation }) => generation));
  }

  /** The newest order that came over the mesh, to pass on; undefined before the first. */
  get order(): Rotation | undefined {
    const [first] = this.#epochs;
    return first === undefined || first.source === "configured" ? undefined : first;
  }

  /**
   * Takes an order; durable when it returns. Answers whether it changed anything. Throws GODWIT_ROTATION_REFUSED when
   * its sender has no say, the mesh is open, or the order is older than what is in force; GODWIT_STATE_UNUSABLE when it
   * cannot be kept.
   */
  accept(order: Rotation): boolean {
    const { policy, authority, network, verify, overlapMs } = this.#options;
    if (this.#epochs.length === 0)
      throw refused("this mesh is open; set node.network_secret on every node first");
    const isSigned = authority !== undefined && isSignedRotation(order, authority, network, verify);
    if (!isSigned && policy !== "members")
      throw refused(
        authority === undefined
          ? 'without network.authority nobody may; change the files by hand, or set network.rotate = "members"'
          : "the order is not signed by the network's authority",
      );
    if (policy === "nobody") throw refused('network.rotate is "nobody"');
    const fresh = this.#epochOf(order.secret.slice(), "mesh", order.generation, order.signature);
    if (this.#epochs.some(({ id, source }) => id === fresh.id && source === "mesh")) return false;
    if (this.#retired.includes(fresh.id)) throw refused("the secret of the order was retired already");
    if (order.generation < this.generation)
      throw refused(`generation ${order.generation} is older than ${this.generation}, which is in force`);
    if (!isSigned && order.generation > this.generation + UNSIGNED_LEAP_MAX)
      throw refused(`generation ${order.generation} is too far above ${this.generation}`);
    this.#settle();
    // Copies: what follows gives epochs an end, and one that stays preferred after all must not keep it.
    const before = [this.#epochs.map((epoch) => ({ ...epoch })), this.#retired] as const;
    const kept = this.#epochs.filter(({ id }) => id !== fresh.id);
    const live = [fresh, ...kept].sort(compareEpochs);
    for (const epoch of live.slice(1)) if (epoch.retiresInMs === undefined) this.#retireIn(epoch, overlapMs);
    const gone = live.slice(SECRETS_MAX).map(({ id }) => id);
    this.#epochs = live.slice(0, SECRETS_MAX);
    this.#retired = [...this.#retired, ...gone].slice(-RETIRED_MAX);
    try {
      this.#save();
    } catch (error) {
      [this.#epochs, this.#retired] = before;
      throw error;
    }
    this.#watch();
    this.#options.log.info("network secret replaced", { epoch: fresh.id, generation: fresh.generation });
    this.onChange(gone);
    return true;
  }

  /** Ends the overlap now: only the preferred secret stays. Answers the epochs that went. */
  retire(): string[] {
    this.#settle();
    return this.#drop(this.#epochs.slice(1).map(({ id }) => id));
  }

  stop(): void {
    if (this.#isStopped) return;
    this.#settle();
    this.#isStopped = true;
    this.#timer?.cancel();
    try {
      if (this.#epochs.some(({ retiresInMs }) => retiresInMs !== undefined)) this.#save();
    } catch {
      // The overlap then lasts a little longer after the next start.
    }
  }

  get #path(): string {
    return `${this.#options.stateDir}/${SECRETS_FILE}`;
  }

  #epochOf(
    secret: Uint8Array,
    source: Epoch["source"],
    generation: number,
    signature: Uint8Array | undefined,
  ): Epoch {
    const id = networkKeys(this.#options.network, secret).epoch!;
    return { id, secret, source, generation, signature, retiresInMs: undefined, retiresAtMs: undefined };
  }

  #retireIn(epoch: Epoch, leftMs: number | undefined, atMs?: number): void {
    epoch.retiresInMs = leftMs;
    epoch.retiresAtMs = leftMs === undefined ? undefined : (atMs ?? this.#options.time.end(leftMs).wallMs);
  }

  /**
   * The wall clock says that its time is over. It opens nothing then, and goes for good only when running time says so too: the
   * clock may be wrong today. Never the preferred one: a closed mesh without a secret would be an open one.
   */
  #isShut(epoch: Epoch): boolean {
    const { retiresAtMs: wallMs } = epoch;
    if (wallMs === undefined || epoch === this.#epochs[0]) return false;
    return this.#options.time.isGrantOver({ wallMs, runMs: Number.POSITIVE_INFINITY });
  }

  #shutNow(): string[] {
    return this.#epochs.filter((epoch) => this.#isShut(epoch)).map(({ id }) => id);
  }

  /** Tells of what the wall clock shut or opened since last time. */
  #noteShut(): void {
    const before = this.#shut;
    this.#shut = this.#shutNow();
    if (before.join(" ") !== this.#shut.join(" ")) this.onChange(this.#shut);
  }

  /** Books the running time that passed. */
  #settle(): void {
    if (this.#timer === undefined) return;
    const nowMs = this.#options.clock.monotonicMs();
    for (const epoch of this.#epochs)
      if (epoch.retiresInMs !== undefined) epoch.retiresInMs -= nowMs - this.#timerStartedMs;
    this.#timerStartedMs = nowMs;
  }

  #watch(): void {
    this.#timer?.cancel();
    this.#timer = undefined;
    const left = this.#epochs.flatMap(({ retiresInMs }) => (retiresInMs === undefined ? [] : [retiresInMs]));
    if (left.length === 0 || this.#isStopped) return;
    this.#timerStartedMs = this.#options.clock.monotonicMs();
    const { clock, time } = this.#options;
    const ends = this.#epochs.flatMap(({ retiresAtMs }) => (retiresAtMs === undefined ? [] : [retiresAtMs]));
    const soon = ends.map((atMs) => time.leftMs(atMs)).filter((leftMs) => leftMs > 0);
    this.#timer = clock.after(Math.max(1, Math.min(...left, ...soon, SAVE_EVERY_MS)), () => {
      this.#settle();
      this.#noteShut();
      // Never the preferred one: a closed mesh without a secret would be an open one.
      const due = this.#epochs
        .slice(1)
        .filter(({ retiresInMs }) => retiresInMs !== undefined && retiresInMs <= 0);
      try {
        this.#drop(due.map(({ id }) => id));
      } catch (error) {
        this.#options.log.warn("network secrets not saved", { error: String(error) });
        this.#watch();
      }
    });
  }

  #drop(ids: readonly string[]): string[] {
    this.#epochs = this.#epochs.filter(({ id }) => !ids.includes(id));
    this.#retired = [...this.#retired, ...ids].slice(-RETIRED_MAX);
    try {
      this.#save();
    } finally {
      // In force here whether or not it could be kept: links under what went are closed.
      this.#watch();
      if (ids.length > 0) {
        this.#options.log.info("network secret retired", { epochs: ids.join(" ") });
        this.onChange(ids);
      }
    }
    return [...ids];
  }

  #save(): void {
    const stored: StoredFile = {
      version: 1,
      rotated: this.#epochs
        .filter(({ source }) => source === "mesh")
        .map(({ secret, generation, signature }) => storedEpoch(secret, generation, signature)),
      retiring: Object.fromEntries(
        this.#epochs.flatMap(({ id, retiresInMs }) =>
          retiresInMs === undefined ? [] : [[id, Math.max(1, Math.floor(retiresInMs))]],
        ),
      ),
      retiringAt: Object.fromEntries(
        this.#epochs.flatMap(({ id, retiresAtMs }) =>
          retiresAtMs === undefined ? [] : [[id, Math.floor(retiresAtMs)]],
        ),
      ),
      retired: this.#retired,
    };
    writeStored(this.#path, stored);
  }
}

/**
 * What a newcomer was told of its secrets goes to where its node will look for it: which came by an order, and how long
 * replaced ones are good for. Answers the secrets that belong into the configuration; the others stand in the file.
 */
export function keepGranted(
  { stateDir, network }: Pick<NetworkSecretsOptions, "stateDir" | "network">,
  secrets: readonly Uint8Array[],
  lives: readonly SecretLife[],
): readonly Uint8Array[] {
  const known = secrets.map((secret, index) => ({ secret, life: lives[index] }));
  const isOrdered = ({ life }: (typeof known)[number]) =>
    life !== undefined && (life.generation > 0 || life.retiresInMs !== undefined);
  const ordered = known.filter(isOrdered);
  if (ordered.length === 0) return secrets;
  const stored: StoredFile = {
    version: 1,
    rotated: ordered.map(({ secret, life }) => storedEpoch(secret, life!.generation, life!.signature)),
    retiring: Object.fromEntries(
      ordered.flatMap(({ secret, life }) =>
        life!.retiresInMs === undefined
          ? []
          : [[networkKeys(network, secret).epoch!, life!.retiresInMs] as const],
      ),
    ),
    retired: [],
  };
  writeStored(`${stateDir}/${SECRETS_FILE}`, stored);
  // The newest stands in both: a configuration without any would be one of an open mesh.
  return known.filter((each, index) => index === 0 || !isOrdered(each)).map(({ secret }) => secret);
}

const storedEpoch = (
  secret: Uint8Array,
  generation: number,
  signature: Uint8Array | undefined,
): StoredEpoch => ({
  secret: Buffer.from(secret).toString("base64"),
  generation,
  signature: signature === undefined ? null : Buffer.from(signature).toString("base64"),
});

/** Whole or not at all. Throws GODWIT_STATE_UNUSABLE. */
function writeStored(path: string, stored: StoredFile): void {
  try {
    writeWhole(path, `${JSON.stringify(stored)}\n`, 0o600);
  } catch (error) {
    throw unusable(path, codeOf(error));
  }
}

/** The preferred first: the highest generation; of two equal ones the higher id, so that all nodes choose alike. */
const compareEpochs = (a: Epoch, b: Epoch): number =>
  b.generation - a.generation || (a.generation === 0 ? 0 : a.id < b.id ? 1 : -1);

function readStored(path: string): StoredFile | undefined {
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
  const { rotated, retiring, retiringAt = {}, retired } = value;
  return (
    Array.isArray(rotated) &&
    rotated.every(isStoredEpoch) &&
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

const refused = (what: string) =>
  godwitError("GODWIT_ROTATION_REFUSED", `the network secret may not be replaced: ${what}`);
