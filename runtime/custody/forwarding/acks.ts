/** Acknowledgements on their way to neighbours: those of one turn of the event loop share a frame. */
import type { BundleId, NodeId } from "../../kernel/ids.ts";
import { encodeCustodyAck } from "../../wire/bundle.ts";
import type { Carrier } from "../context.ts";

/** Acknowledgements that leave in one frame. */
const ACKS_PER_FRAME = 512;

export class Acks {
  readonly #carrier: Pick<Carrier, "send">;
  readonly #waiting = new Map<NodeId, BundleId[]>();

  constructor(carrier: Pick<Carrier, "send">) {
    this.#carrier = carrier;
  }

  tell(to: NodeId, id: BundleId): void {
    const waiting = this.#waiting.get(to);
    if (waiting === undefined) {
      this.#waiting.set(to, [id]);
      queueMicrotask(() => this.#flush(to));
      return;
    }
    waiting.push(id);
    if (waiting.length >= ACKS_PER_FRAME) this.#flush(to);
  }

  /** Its last link is gone. */
  forget(to: NodeId): void {
    this.#waiting.delete(to);
  }

  #flush(to: NodeId): void {
    const ids = this.#waiting.get(to);
    if (ids === undefined) return;
    this.#waiting.delete(to);
    this.#carrier.send(to, "control", encodeCustodyAck(ids));
  }
}
