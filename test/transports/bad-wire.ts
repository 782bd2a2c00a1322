/**
 * A bad UDP path between two nodes, on loopback: loses, repeats and reorders datagrams, drops those above a size, and can
 * change the address from which it speaks for the dialler, as a NAT does that forgot. Never looks into what it carries.
 */
import type { udp } from "bun";

export interface Faults {
  /** Shares of datagrams, 0 to 1. */
  loss: number;
  repeat: number;
  /** Held back by up to 5 ms. */
  late: number;
  /** Larger datagrams are dropped, bytes. */
  mtu: number;
}

export class BadWire {
  readonly faults: Faults = { loss: 0, repeat: 0, late: 0, mtu: 65_535 };
  readonly #target: number;
  #near!: udp.Socket<"buffer">;
  readonly #far = new Map<number, udp.Socket<"buffer">>();
  readonly #timers = new Set<ReturnType<typeof setTimeout>>();
  #isClosed = false;
  datagrams = 0;
  largest = 0;

  private constructor(target: number) {
    this.#target = target;
  }

  static async open(target: number): Promise<BadWire> {
    const wire = new BadWire(target);
    wire.#near = await Bun.udpSocket({
      hostname: "127.0.0.1",
      socket: { data: (_, bytes, port) => void wire.#fromDialler(bytes, port), error() {} },
    });
    return wire;
  }

  /** What the dialling node is told to dial. */
  get endpoint(): string {
    return `udp://127.0.0.1:${this.#near.port}`;
  }

  /** Speaks from new ports from now on; what comes to the old ones is lost. */
  rebind(): void {
    for (const socket of this.#far.values()) socket.close();
    this.#far.clear();
  }

  close(): void {
    this.#isClosed = true;
    for (const timer of this.#timers) clearTimeout(timer);
    this.rebind();
    this.#near.close();
  }

  async #fromDialler(bytes: Buffer, dialler: number): Promise<void> {
    const copy = Buffer.from(bytes);
    let far = this.#far.get(dialler);
    if (far === undefined) {
      far = await Bun.udpSocket({
        hostname: "127.0.0.1",
        socket: {
          data: (_, back) =>
            this.#pass(Buffer.from(back), (out) => this.#near.send(out, dialler, "127.0.0.1")),
          error() {},
        },
      });
      const other = this.#far.get(dialler);
      if (other === undefined && !this.#isClosed) this.#far.set(dialler, far);
      else {
        far.close();
        if (other === undefined) return;
        far = other;
      }
    }
    const socket = far;
    this.#pass(copy, (out) => socket.closed || socket.send(out, this.#target, "127.0.0.1"));
  }

  #pass(bytes: Buffer, send: (bytes: Buffer) => unknown): void {
    this.datagrams++;
    const { loss, repeat, late, mtu } = this.faults;
    if (this.#isClosed || bytes.length > mtu || Math.random() < loss) return;
    this.largest = Math.max(this.largest, bytes.length);
    const copies = Math.random() < repeat ? 2 : 1;
    for (let i = 0; i < copies; i++) {
      if (Math.random() >= late) put(send, bytes);
      else {
        const timer = setTimeout(() => {
          this.#timers.delete(timer);
          if (!this.#isClosed) put(send, bytes);
        }, Math.random() * 5);
        this.#timers.add(timer);
      }
    }
  }
}

/** An end that is gone answers with an error that the next datagram meets: on a wire that one is lost. */
function put(send: (bytes: Buffer) => unknown, bytes: Buffer): void {
  try {
    send(bytes);
  } catch {}
}
