/**
 * Who was found: the newest item of each node, and the hints that follow from them. Owns what is believed of an item: that its node signed it, that it
 * was sealed by a member, and that it is not older than one seen before. Whether anybody is there, and who, the handshake alone proves.
 */
import { itemMessage, itemSalt, type PluginContext } from "@godwit/sdk";
import { BoundedMap } from "@godwit/sdk/bounded";
import { isSigned, type SignedItem } from "./client.ts";
import { formatId, type MeshKeys, PLUGIN } from "./keys.ts";
import { decodeRecord } from "./record.ts";

/** With four endpoints each below the host's bound of live hints. */
export const NODES_MAX = 1_000;
const ENDPOINTS_HINTED_MAX = 4;
/** As long as an item may be kept after its last put. */
const HINT_LIFETIME_MS = 7_200_000;

export type Verdict = "new" | "known" | "stale" | "forged" | "unsealed";

interface Found {
  readonly item: SignedItem;
  readonly endpoints: readonly string[];
}

export class Board {
  readonly #ctx: PluginContext;
  readonly #found: BoundedMap<string, Found>;
  readonly #verdicts;
  /** By endpoint: of the nodes that name it. */
  readonly #hinted = new Map<string, Set<string>>();

  constructor(ctx: PluginContext) {
    this.#ctx = ctx;
    this.#verdicts = ctx.counter("items", "Items of nodes that were read, by what they were worth", [
      "verdict",
    ]);
    this.#found = new BoundedMap<string, Found>({
      name: "nodes found",
      max: NODES_MAX,
      evicted: (id, { endpoints }) => this.#withdraw(id, endpoints),
    });
  }

  get size(): number {
    return this.#found.size;
  }

  isGood(id: string): boolean {
    return this.#found.has(id);
  }

  /** Items that others may have, in the order in which they were found. */
  get items(): readonly SignedItem[] {
    return [...this.#found].map(([, { item }]) => item);
  }

  /** One item of a node, from whomever it came. Hints at it where it is worth that. */
  judge(item: SignedItem, keys: MeshKeys): Verdict {
    const verdict = this.#judge(item, keys);
    this.#verdicts.add(1, { verdict });
    return verdict;
  }

  #judge(item: SignedItem, keys: MeshKeys): Verdict {
    const id = formatId(item.key);
    const salt = itemSalt(PLUGIN, keys.label);
    const known = this.#found.get(id);
    const isSalted = Buffer.from(salt).equals(item.salt);
    if (!isSalted || !isSigned(item.key, itemMessage(salt, item.seq, item.value), item.signature))
      return "forged";
    if (known !== undefined && item.seq < known.item.seq) return "stale";
    const plain = keys.open(placeOf(item.key, salt), item.value);
    const record = plain === undefined ? undefined : decodeRecord(plain);
    if (record === undefined) return "unsealed";
    const endpoints = record.endpoints.slice(0, ENDPOINTS_HINTED_MAX);
    this.#withdraw(
      id,
      (known?.endpoints ?? []).filter((endpoint) => !endpoints.includes(endpoint)),
    );
    this.#found.renew(id, { item, endpoints });
    for (const endpoint of endpoints) this.#hint(endpoint, id);
    return known === undefined ? "new" : "known";
  }

  /** Where two nodes name one place, one of them is wrong: whoever is there will do. */
  #hint(endpoint: string, id: string): void {
    const ids = this.#hinted.get(endpoint) ?? new Set();
    this.#hinted.set(endpoint, ids.add(id));
    const nodeId = ids.size === 1 ? { nodeId: id } : {};
    this.#ctx.discovery.hint({ endpoint, ...nodeId, lifetimeMs: HINT_LIFETIME_MS });
  }

  #withdraw(id: string, endpoints: readonly string[]): void {
    for (const endpoint of endpoints) {
      const ids = this.#hinted.get(endpoint);
      if (ids?.delete(id) !== true) continue;
      const [left] = ids;
      if (left !== undefined) {
        if (ids.size === 1) this.#hint(endpoint, left);
        continue;
      }
      this.#hinted.delete(endpoint);
      this.#ctx.discovery.withdraw(endpoint);
    }
  }
}

/** Where an item stands, as its seal has it. */
export const placeOf = (key: Uint8Array, salt: Uint8Array): Uint8Array => Buffer.concat([key, salt]);
