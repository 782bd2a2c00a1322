/**
 * The network secrets that are live: those of the configuration and those that came over the mesh, which are kept in
 * `<state_dir>/network-secrets.json` (0600). Owns which one is preferred, how long a replaced one still opens links,
 * and who may replace it. Must never let a secret reach a log, an error or the API: outside they go by their epoch id.
 * docs/protocol/link.md "Epochs", docs/closed-meshes.md.
 */
import type { Clock, Log, Timer } from "@godwit/sdk";
import { isSignedRotation, type Rotation } from "../identity/rotation.ts";
import type { Verify } from "../identity/record.ts";
import { godwitError } from "../kernel/errors.ts";
import { type NodeId } from "../kernel/ids.ts";
import { SECRETS_MAX } from "../link/constants.ts";
import { networkKeys } from "../link/hello.ts";
import type { NodeTime } from "../time/node-time.ts";
import type { SecretLife } from "../wire/join-messages.ts";
import { readStored, SECRETS_FILE, storedEpoch, type StoredFile, writeStored } from "./secrets-file.ts";

/** Epochs that were retired are remembered, so that a configuration that still lists one does not bring it back. */
const RETIRED_MAX = 64;
/** What is left of an overlap reaches the disk this often: only running time counts, because a clock may be wrong. */
const SAVE_EVERY_MS = 600_000;
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
  /** The configuration does not list it any more: it may come back by it, which an order's word forbids to others. */
  isTakenOut: boolean;
}

/** What a reload may change. */
export interface SecretSettings {
  /** Preferred first. */
  readonly configured: readonly Uint8Array[];
  readonly policy: RotatePolicy;
  /** How long a replaced secret still opens links, and how long an order may travel: then its recipient cannot link any more. */
  readonly overlapMs: number;
}

export interface NetworkSecretsOptions extends SecretSettings {
  readonly stateDir: string;
  readonly network: string;
  readonly authority: NodeId | undefined;
  readonly clock: Clock;
  readonly time: NodeTime;
  readonly log: Log;
  readonly verify: Verify;
}

export class NetworkSecrets {
  readonly #options: NetworkSecretsOptions;
  #settings: SecretSettings;
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
    this.#settings = options;
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
    const configured = options.configured.map((secret) => this.#configuredEpoch(secret));
    const takenOut = (stored?.takenOut ?? []).map(({ secret }) => ({
      ...this.#configuredEpoch(Buffer.from(secret, "base64")),
      isTakenOut: true,
    }));
    for (const epoch of [...rotated, ...configured, ...takenOut]) {
      if (this.#epochs.some(({ id }) => id === epoch.id) || this.#epochs.length >= SECRETS_MAX) continue;
      if (this.#isRetired(epoch)) continue;
      // Listed again meanwhile, it is good for as long as it is listed.
      if (!epoch.isTakenOut && takenOut.some(({ id }) => id === epoch.id)) {
        this.#epochs.push(epoch);
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

  get policy(): RotatePolicy {
    return this.#settings.policy;
  }

  get overlapMs(): number {
    return this.#settings.overlapMs;
  }

  /**
   * A configuration read anew. A secret that it does not list any more is replaced, as by an order: links under it stay, and it opens
   * further ones for the overlap. What came over the mesh outranks what is configured. Whatever it lists, an open mesh stays open and a closed
   * one closed. Durable when it returns. Throws GODWIT_STATE_UNUSABLE where it cannot be kept, and GODWIT_CONFIG_INVALID where no listed secret
   * may count any more; then nothing changed.
   */
  configure(settings: SecretSettings): void {
    this.#settle();
    if ((settings.configured.length === 0) !== (this.#epochs.length === 0)) {
      // That waits for a start, and only that.
      this.#settings = { ...settings, configured: this.#settings.configured };
      return;
    }
    const before = [this.#epochs.map((epoch) => ({ ...epoch })), this.#settings] as const;
    const isMesh = ({ source }: Epoch) => source === "mesh";
    const ordered = this.#epochs.filter(isMesh);
    const listed = settings.configured.flatMap((secret) => {
      const fresh = this.#configuredEpoch(secret);
      const known = this.#epochs.find(({ id }) => id === fresh.id);
      if (known !== undefined) return known.isTakenOut ? fresh : known;
      return this.#isRetired(fresh) ? [] : fresh;
    });
    const kept = [...ordered, ...listed.filter((epoch) => !isMesh(epoch))];
    if (kept.length === 0 && this.#epochs.length > 0)
      throw godwitError("GODWIT_CONFIG_INVALID", "every secret that node.network_secret lists was retired");
    const leaving = this.#epochs.filter(({ id }) => !kept.some((epoch) => epoch.id === id));
    for (const epoch of leaving) {
      if (epoch.retiresInMs !== undefined) continue;
      epoch.isTakenOut = true;
      this.#retireIn(epoch, settings.overlapMs);
    }
    const live = [...kept, ...leaving];
    if (live[0] !== undefined) this.#retireIn(live[0], undefined);
    const gone = live.slice(SECRETS_MAX).map(({ id }) => id);
    this.#epochs = live.slice(0, SECRETS_MAX);
    this.#settings = settings;
    const shown = (epochs: readonly Epoch[]) => epochs.map((each) => `${each.id} ${each.retiresInMs}`).join();
    if (shown(before[0]) === shown(this.#epochs)) return;
    try {
      this.#save();
    } catch (error) {
      [this.#epochs, this.#settings] = before;
      throw error;
    }
    this.#watch();
    const [preferred] = this.#epochs;
    if (preferred?.id !== before[0][0]?.id)
      this.#options.log.info("network secret replaced", { epoch: preferred?.id, by: "configuration" });
    else if (ordered.length > 0 && listed.some((epoch) => !isMesh(epoch)))
      this.#options.log.warn("network secret of the mesh outranks the configured one", {
        epoch: preferred?.id,
      });
    this.onChange(gone);
  }

  /**
   * Takes an order; durable when it returns. Answers whether it changed anything. Throws GODWIT_ROTATION_REFUSED when
   * its sender has no say, the mesh is open, or the order is older than what is in force; GODWIT_STATE_UNUSABLE when it
   * cannot be kept.
   */
  accept(order: Rotation): boolean {
    const { authority, network, verify } = this.#options;
    const { policy, overlapMs } = this.#settings;
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
    const forEver = { retiresInMs: undefined, retiresAtMs: undefined };
    return { id, secret, source, generation, signature, ...forEver, isTakenOut: false };
  }

  #configuredEpoch(secret: Uint8Array): Epoch {
    return this.#epochOf(secret, "configured", 0, undefined);
  }

  #isRetired({ id }: Epoch): boolean {
    if (!this.#retired.includes(id)) return false;
    const advice = "take it out of node.network_secret";
    this.#options.log.warn("configured network secret is retired", { epoch: id, advice });
    return true;
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
    const ended = this.#epochs.filter(({ id, isTakenOut }) => ids.includes(id) && !isTakenOut);
    this.#epochs = this.#epochs.filter(({ id }) => !ids.includes(id));
    this.#retired = [...this.#retired, ...ended.map(({ id }) => id)].slice(-RETIRED_MAX);
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
      takenOut: this.#epochs
        .filter(({ isTakenOut }) => isTakenOut)
        .map(({ secret }) => storedEpoch(secret, 0, undefined)),
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
  const rows = ordered.map(({ secret, life }) => storedEpoch(secret, life!.generation, life!.signature));
  // Without an order it was a configuration that replaced it, and the ones that are configured come first.
  const isOfOrder = ordered.some(({ life }) => life!.generation > 0);
  const stored: StoredFile = {
    version: 1,
    rotated: isOfOrder ? rows : [],
    takenOut: isOfOrder ? [] : rows,
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

/** The preferred first: the highest generation; of two equal ones the higher id, so that all nodes choose alike. */
const compareEpochs = (a: Epoch, b: Epoch): number =>
  b.generation - a.generation || (a.generation === 0 ? 0 : a.id < b.id ? 1 : -1);

const refused = (what: string) =>
  godwitError("GODWIT_ROTATION_REFUSED", `the network secret may not be replaced: ${what}`);
