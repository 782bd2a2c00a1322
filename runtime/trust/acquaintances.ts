/**
 * Whom this node knows for a reason that no stranger can make: the configuration, its operator, the authority, or mail that it
 * sent. Tables that anybody can fill ask here who keeps a place and by whose word others have theirs. Owns the list of whom
 * this node wrote to; gives no right. Time linked, names pinned at sight and addresses never count. docs/threat-model.md "Tables".
 */
import { BoundedMap } from "@godwit/sdk/bounded";
import type { NodeId } from "../kernel/ids.ts";
import type { Regard, Share, Worth } from "../kernel/room.ts";
import { NO_ADDRESS, sourceOf } from "../kernel/source.ts";
import type { Store } from "../store/types.ts";

/** Nodes that this one wrote to; whom it wrote to longest ago is forgotten first. */
export const CORRESPONDENTS_MAX = 2_048;
const KEY_PREFIX = "wrote/";

export interface AcquaintancesDeps {
  readonly self: NodeId;
  readonly store: Store;
  /** Trusted by the configuration or the operator, never by the peer manager or a rule. */
  isTrusted(id: NodeId): boolean;
  /** Bound to a name by the configuration or by the authority's signature. */
  isNamed(id: NodeId): boolean;
  /** Endpoint of the far end of one of its links; undefined: it is no neighbour. */
  linkedFrom(id: NodeId): string | undefined;
  isReachable(id: NodeId): boolean;
}

export class Acquaintances implements Regard {
  readonly #deps: AcquaintancesDeps;
  readonly #written: BoundedMap<NodeId, true>;

  constructor(deps: AcquaintancesDeps) {
    this.#deps = deps;
    this.#written = new BoundedMap({
      name: "correspondents",
      max: CORRESPONDENTS_MAX,
      evicted: (id) => this.#keep(id, false),
    });
  }

  async load(): Promise<void> {
    for (const { key } of await this.#deps.store.load("setting"))
      if (key.startsWith(KEY_PREFIX)) this.#written.set(key.slice(KEY_PREFIX.length) as NodeId, true);
  }

  /** Mail of this node is for it. Losing the note costs a place in a flood, so nobody waits for it. */
  wrote(id: NodeId): void {
    const isNew = !this.#written.has(id);
    this.#written.renew(id, true);
    if (isNew && id !== this.#deps.self) this.#keep(id, true);
  }

  /** Configured, trusted by the operator, signed by the authority, or written to. */
  isKnown(id: NodeId): boolean {
    const { self, isTrusted, isNamed } = this.#deps;
    return id === self || this.#written.has(id) || isTrusted(id) || isNamed(id);
  }

  worthOf(id: NodeId): Worth {
    if (this.#deps.linkedFrom(id) !== undefined || this.isKnown(id)) return "kept";
    return this.#deps.isReachable(id) ? "used" : "none";
  }

  shareOf(teller: NodeId): Share {
    if (this.isKnown(teller)) return { by: teller, isKnown: true };
    const endpoint = this.#deps.linkedFrom(teller);
    return { by: endpoint === undefined ? NO_ADDRESS : sourceOf(endpoint), isKnown: false };
  }

  #keep(id: NodeId, isWritten: boolean): void {
    const key = `${KEY_PREFIX}${id}`;
    this.#deps.store
      .commit([
        isWritten ? { op: "put", in: "setting", key, meta: "" } : { op: "delete", in: "setting", key },
      ])
      .catch(() => {});
  }
}
