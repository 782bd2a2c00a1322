/**
 * Onion addresses that a discovery named and that led to a node: who is there, and by whose word. Such a node stays a member that is dialled for
 * ever when it was good for long enough; that is about dialling and gives no right. Bounded; owns no timer and tells what it notes.
 */
import { BoundedMap } from "@godwit/sdk/bounded";
import { placeOf } from "../kernel/address-kind.ts";
import type { NodeId } from "../kernel/ids.ts";
import type { Peer } from "../peer/peer.ts";

const ONIONS_MAX = 1_024;

export interface Onion {
  readonly endpoint: string;
  /** The discovery, as hints name their sources. */
  readonly source: string;
}

/** A node behind an onion address is considered for being dialled for ever. */
export interface OnionEvents {
  onionConsidered: { readonly id: NodeId; readonly onion: Onion; readonly reason: string };
}

export interface OnionsDeps {
  /** The discovery that names the endpoint now; undefined: none does, or the operator does as well. */
  discoveryNaming(endpoint: string): string | undefined;
  considered(id: NodeId, onion: Onion): void;
}

export class Onions {
  readonly #deps: OnionsDeps;
  readonly #onions = new BoundedMap<NodeId, Onion>({
    name: "onions that a discovery named",
    max: ONIONS_MAX,
  });

  constructor(deps: OnionsDeps) {
    this.#deps = deps;
  }

  get(id: NodeId): Onion | undefined {
    return this.#onions.get(id);
  }

  /** Has a link: the first onion among its links counts, for as long as it is remembered. */
  note({ id, links }: Pick<Peer, "id" | "links">): void {
    const known = this.#onions.get(id);
    if (known !== undefined) return void this.#onions.renew(id, known);
    for (const { session } of links) {
      const endpoint = session.remoteEndpoint;
      if (!isOnion(endpoint)) continue;
      const source = this.#deps.discoveryNaming(endpoint);
      if (source === undefined) continue;
      const onion = { endpoint, source };
      this.#onions.renew(id, onion);
      return this.#deps.considered(id, onion);
    }
  }
}

const isOnion = (endpoint: string): boolean => placeOf(endpoint)?.host.endsWith(".onion") === true;
