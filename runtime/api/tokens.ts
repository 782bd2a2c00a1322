/**
 * API tokens. Owns the collection `token`, where only SHA-256 hashes lie: a stolen disk opens no door. Created secrets
 * carry 256 random bits, so a plain hash is enough; configured ones are refused when short enough to guess.
 */
import { createHash, timingSafeEqual } from "node:crypto";
import { type Clock, isoTime } from "../kernel/clock.ts";
import { godwitError } from "../kernel/errors.ts";
import { formatBase32, formatHex, parseHex } from "../kernel/ids.ts";
import type { Random } from "../kernel/random.ts";
import { loadSound } from "../store/sound.ts";
import type { Store } from "../store/types.ts";
import type { TokenScope, TokenStore } from "../view/contract/node.ts";
import { PAGES_SCOPE } from "./bounds.ts";

export const TOKENS_MAX = 256;
/** Bytes below which a configured secret is refused: 16 characters of anything random cannot be guessed over HTTP. */
export const CONFIGURED_SECRET_BYTES_MIN = 16;
const CONFIGURED_SECRET_BYTES_MAX = 512;
const SECRET_BYTES = 32;
const SECRET_PREFIX = "gwt_";
const HASH_BYTES = 32;

/** From `[[api.tokens]]`; the bytes are hashed at once and not kept. */
export interface ConfiguredToken {
  readonly secret: Uint8Array;
  readonly scopes: readonly TokenScope[];
  readonly label: string;
}

interface Entry {
  readonly id: string;
  readonly hash: Uint8Array;
  readonly scopes: readonly TokenScope[];
  readonly label: string;
  readonly createdAt: string | null;
  /** Told when it ends. Each belongs to a request that is being answered. */
  readonly ends: Set<() => void>;
}

/** Tokens of the store, and those of a configuration that may be read anew. */
export interface ConfiguredTokenStore extends TokenStore {
  /** Ends those that are not listed any more, or may do other things. Throws GODWIT_CONFIG_INVALID, and then nothing changed. */
  configure(configured: readonly ConfiguredToken[]): void;
}

export interface TokenStoreParts {
  readonly store: Store;
  readonly random: Random;
  readonly clock: Clock;
  readonly configured: readonly ConfiguredToken[];
}

/** Throws GODWIT_CONFIG_INVALID when a configured secret is too short or not printable. */
export async function openTokenStore(parts: TokenStoreParts): Promise<ConfiguredTokenStore> {
  const { store, random, clock } = parts;
  let fixed = parts.configured.map(entryOf);
  const entries = new Map(fixed.map((entry) => [entry.id, entry]));
  for (const entry of await loadSound(store, "token", ({ key, meta }) => parseEntry(key, meta)))
    if (entries.size < TOKENS_MAX) entries.set(entry.id, entry);
  /** All of them, every time: how long it takes says nothing about which one matched. */
  const find = (secret: string): Entry | undefined => {
    const hash = sha256(Buffer.from(secret));
    let found: Entry | undefined;
    for (const entry of entries.values()) if (timingSafeEqual(entry.hash, hash)) found = entry;
    return found;
  };

  return {
    configure(configured) {
      const next = configured.map(entryOf).map((entry) => {
        const same = fixed.find((one) => isSameRight(one, entry));
        // Whoever is being answered goes on.
        return same === undefined ? entry : { ...entry, ends: same.ends };
      });
      const ended = fixed.filter((entry) => !next.some(({ ends }) => ends === entry.ends));
      for (const { id } of fixed) entries.delete(id);
      for (const entry of next) entries.set(entry.id, entry);
      fixed = next;
      ended.forEach(tellEnd);
    },

    async create(scopes, label) {
      if (entries.size >= TOKENS_MAX)
        throw godwitError(
          "GODWIT_TOO_MANY_REQUESTS",
          `there are ${TOKENS_MAX} tokens already; revoke some: godwit token list`,
        );
      const secret = SECRET_PREFIX + formatBase32(random.bytes(SECRET_BYTES));
      const id = formatHex(random.bytes(6));
      const createdAt = isoTime(clock.wallMs());
      const hash = sha256(Buffer.from(secret));
      // In the map before the commit so that two calls cannot both take the last place; it opens nothing until told.
      entries.set(id, { id, hash, scopes: [...scopes], label, createdAt, ends: new Set() });
      const meta = JSON.stringify({ hash: formatHex(hash), scopes, label, created_at: createdAt });
      try {
        await store.commit([{ op: "put", in: "token", key: id, meta }]);
      } catch (error) {
        entries.delete(id);
        throw error;
      }
      return { id, secret };
    },

    list: () =>
      [...entries.values()].map(({ id, label, scopes, createdAt }) => ({
        id,
        label,
        scopes: [...scopes],
        created_at: createdAt,
      })),

    async revoke(id) {
      const entry = entries.get(id);
      if (entry === undefined) return false;
      if (entry.createdAt === null)
        throw godwitError(
          "GODWIT_FORBIDDEN",
          `token ${id} comes from the configuration: remove it from api.tokens there`,
        );
      // Shut before the commit: whoever revokes a token wants the door closed even if the disk is full.
      entries.delete(id);
      tellEnd(entry);
      await store.commit([{ op: "delete", in: "token", key: id }]);
      return true;
    },

    scopesOf: (secret) => find(secret)?.scopes,

    watch(secret, ended) {
      const ends = find(secret)?.ends;
      ends?.add(ended);
      return () => void ends?.delete(ended);
    },
  };
}

/** Throws GODWIT_CONFIG_INVALID. */
function entryOf(configured: ConfiguredToken, index: number): Entry {
  checkConfigured(configured, index);
  const { secret, scopes, label } = configured;
  return { id: `config-${index}`, hash: sha256(secret), scopes, label, createdAt: null, ends: new Set() };
}

const isSameRight = (a: Entry, b: Entry): boolean =>
  timingSafeEqual(a.hash, b.hash) && a.scopes.toSorted().join() === b.scopes.toSorted().join();

function tellEnd({ ends }: Entry): void {
  for (const ended of [...ends]) ended();
  ends.clear();
}

function checkConfigured({ secret, scopes }: ConfiguredToken, index: number): void {
  const path = `api.tokens[${index}]`;
  if (secret.length < CONFIGURED_SECRET_BYTES_MIN || secret.length > CONFIGURED_SECRET_BYTES_MAX)
    throw godwitError(
      "GODWIT_CONFIG_INVALID",
      `${path}.secret has ${secret.length} bytes; ${CONFIGURED_SECRET_BYTES_MIN} to ${CONFIGURED_SECRET_BYTES_MAX} ` +
        "are needed: openssl rand -hex 32",
    );
  if (secret.some((byte) => byte < 0x21 || byte > 0x7e))
    throw godwitError(
      "GODWIT_CONFIG_INVALID",
      `${path}.secret must be printable ASCII without spaces: it travels in an Authorization header`,
    );
  if (scopes.length === 0) throw godwitError("GODWIT_CONFIG_INVALID", `${path}.scopes is empty`);
}

const SCOPES: ReadonlySet<string> = new Set<TokenScope>(["read", "send", "operate", "admin"]);
const isScope = (value: unknown): value is TokenScope =>
  typeof value === "string" && (SCOPES.has(value) || PAGES_SCOPE.test(value));

function parseEntry(id: string, meta: string): Entry | undefined {
  try {
    const row = JSON.parse(meta) as Record<string, unknown>;
    const hash = typeof row["hash"] === "string" ? parseHex(row["hash"], HASH_BYTES) : undefined;
    const { scopes, label, created_at: createdAt } = row;
    if (hash === undefined || !Array.isArray(scopes) || typeof createdAt !== "string") return undefined;
    // A scope of a later version grants nothing here.
    return { id, hash, scopes: scopes.filter(isScope), label: String(label), createdAt, ends: new Set() };
  } catch {
    return undefined;
  }
}

const sha256 = (bytes: Uint8Array): Uint8Array => createHash("sha256").update(bytes).digest();
