/**
 * This node's own signed record: made anew, under a higher and durable sequence number, whenever something in it
 * changed. Changes that come close together make one record.
 */
import type { Clock, Log } from "@godwit/sdk";
import { encodeRecord, type NameProof, PROTOCOL_CAPABILITIES } from "../identity/record.ts";
import type { NodeId } from "../kernel/ids.ts";

/** The node's own changes wait this long for more of them, ms. */
const COALESCE_MS = 50;
/** What could not be made durable, for the disk was full, say, is tried again after this, ms: others may hold a higher number by now. */
export const RETRY_MS = 10_000;

export interface OwnRecordDeps {
  readonly identity: { readonly id: NodeId; sign(bytes: Uint8Array): Uint8Array };
  readonly network: string;
  readonly callsign: string | undefined;
  readonly location: string | undefined;
  readonly tags: readonly string[];
  readonly clock: Clock;
  readonly log: Log;
  /** Higher than any before it, over restarts too. */
  nextSequence(): Promise<number>;
  prekey(): { readonly keyId: number; readonly publicKey: Uint8Array };
  /** The authority's word for the callsign, so far. */
  readonly nameProof: NameProof | undefined;
  /** Aborts when the node stops: nothing is published after. */
  readonly signal: AbortSignal;
  /** Signed and ready to be told to the mesh. */
  published(bytes: Uint8Array): void;
}

export class OwnRecord {
  readonly #deps: OwnRecordDeps;
  #bytes: Uint8Array = new Uint8Array(0);
  #endpoints: readonly string[] = [];
  #isStale = false;
  #isPublishing = false;
  /** The last try, and told of. */
  #isFailing = false;
  #nameProof: NameProof | undefined;

  constructor(deps: OwnRecordDeps) {
    this.#deps = deps;
    this.#nameProof = deps.nameProof;
  }

  /** Empty before the first `publish`. */
  get bytes(): Uint8Array {
    return this.#bytes;
  }

  get endpoints(): readonly string[] {
    return this.#endpoints;
  }

  get nameProof(): NameProof | undefined {
    return this.#nameProof;
  }

  /** The authority gave its word for the callsign. */
  adoptName(proof: NameProof): void {
    this.#nameProof = proof;
    this.changed();
  }

  /** Where this node is reachable changed. */
  setEndpoints(endpoints: readonly string[]): void {
    if (endpoints.join(" ") === this.#endpoints.join(" ")) return;
    this.#endpoints = endpoints;
    this.changed();
  }

  /** Something in the record, or the floor of its numbers, changed. */
  changed(): void {
    this.#isStale = true;
    if (!this.#isPublishing) this.#publishIn(COALESCE_MS);
  }

  #publishIn(delayMs: number): void {
    this.#isPublishing = true;
    this.#deps.clock.after(delayMs, () => void this.#publishNow());
  }

  async #publishNow(): Promise<void> {
    try {
      await this.publish();
      this.#isFailing = false;
    } catch (error) {
      if (!this.#isFailing) this.#deps.log.error("own record not published", { error: String(error) });
      this.#isFailing = true;
      this.#isStale = true;
    }
    this.#isPublishing = false;
    if (this.#isStale) this.#publishIn(this.#isFailing ? RETRY_MS : COALESCE_MS);
  }

  /** Rejects when the sequence number cannot be made durable: the old record stays. */
  async publish(): Promise<void> {
    this.#isStale = false;
    const { identity, network, callsign, location, tags } = this.#deps;
    const bytes = encodeRecord(
      identity,
      {
        sequence: await this.#deps.nextSequence(),
        callsign,
        location,
        endpoints: this.#endpoints,
        capabilities: [...PROTOCOL_CAPABILITIES, ...tags],
        prekey: this.#deps.prekey(),
        nameProof: this.#nameProof,
        withBrief: true,
      },
      network,
    );
    if (this.#deps.signal.aborted) return;
    this.#bytes = bytes;
    this.#deps.published(bytes);
  }
}
