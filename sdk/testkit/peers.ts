import { PEER_MESSAGE_BYTES_MAX, type PeerFacts, type Peers } from "../src/index.ts";

/** Other nodes that a test sets. What is sent lands in `sent`; `join` makes two of them talk. */
export class FakePeers implements Peers {
  readonly self: Peers["self"];
  readonly sent: { readonly to: string; readonly message: Uint8Array }[] = [];
  #facts: readonly PeerFacts[] = [];
  readonly #changed = new Set<() => void>();
  readonly #heard = new Set<(from: string, message: Uint8Array) => void>();
  readonly #linked = new Map<string, FakePeers>();

  constructor(self: Partial<Peers["self"]> = {}) {
    this.self = { id: "a".repeat(52), callsign: undefined, network: "test", ...self };
  }

  /** Both can send to each other from now on. */
  static join(a: FakePeers, b: FakePeers): void {
    a.#linked.set(b.self.id, b);
    b.#linked.set(a.self.id, a);
  }

  get listenerCount(): number {
    return this.#changed.size + this.#heard.size;
  }

  list(): readonly PeerFacts[] {
    return this.#facts;
  }

  onChange(fn: () => void): void {
    this.#changed.add(fn);
  }

  onMessage(fn: (from: string, message: Uint8Array) => void): void {
    this.#heard.add(fn);
  }

  send(to: string, message: Uint8Array): boolean {
    const far = this.#linked.get(to);
    if (far === undefined || message.length > PEER_MESSAGE_BYTES_MAX) return false;
    const copy = new Uint8Array(message);
    this.sent.push({ to, message: copy });
    queueMicrotask(() => far.receive(this.self.id, copy));
    return true;
  }

  /** Replaces all facts and tells who listens. */
  set(facts: readonly PeerFacts[]): void {
    this.#facts = facts;
    for (const listener of [...this.#changed]) listener();
  }

  receive(from: string, message: Uint8Array): void {
    for (const listener of [...this.#heard]) listener(from, new Uint8Array(message));
  }

  /** The plugin stopped: the host forgets its listeners. */
  stop(): void {
    this.#changed.clear();
    this.#heard.clear();
  }
}
