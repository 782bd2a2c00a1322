/**
 * One cable between two nodes: a TCP proxy in this process that can be cut (connections reset, new ones refused) or go
 * silent (connections stay, nothing passes, in one direction or both). Never looks into what it carries.
 */
import { connect, createServer, type Server, type Socket } from "node:net";

export type Silence = "none" | "there" | "back" | "both";

interface Connection {
  readonly dialer: Socket;
  readonly target: Socket;
  /** Passes what was read and held back. */
  readonly held: (() => void)[];
}

export class Wire {
  readonly #server: Server;
  readonly #targetPort: () => number;
  readonly #connections = new Set<Connection>();
  #isCut = false;
  #silence: Silence = "none";
  #silentAt = Number.POSITIVE_INFINITY;
  #onSilentAt: (() => void) | undefined;
  /** Connections that were made through it. */
  connections = 0;
  /** Bytes that arrived at either end. */
  bytes = 0;

  private constructor(targetPort: () => number) {
    this.#targetPort = targetPort;
    this.#server = createServer((dialer) => this.#accept(dialer));
  }

  static async open(targetPort: () => number): Promise<Wire> {
    const wire = new Wire(targetPort);
    await new Promise<void>((resolve) => wire.#server.listen(0, "127.0.0.1", () => resolve()));
    return wire;
  }

  /** What the dialing end is told to dial. */
  get endpoint(): string {
    return `tcp://127.0.0.1:${(this.#server.address() as { port: number }).port}`;
  }

  get isWhole(): boolean {
    return !this.#isCut && this.#silence === "none";
  }

  /** Resets what is connected and whoever comes until `heal`. */
  cut(): void {
    this.#isCut = true;
    for (const { dialer, target } of [...this.#connections]) {
      dialer.destroy();
      target.destroy();
    }
  }

  /** `there`: nothing reaches the node that was dialed; `back`: nothing reaches the dialer. New connections too. */
  silence(which: Silence): void {
    this.#silence = which;
    for (const connection of this.#connections) this.#apply(connection);
  }

  /** Goes silent in both directions once so many more bytes have arrived; resolves then. */
  silenceAfter(bytes: number): Promise<void> {
    this.#silentAt = this.bytes + bytes;
    return new Promise((resolve) => (this.#onSilentAt = resolve));
  }

  heal(): void {
    this.#silentAt = Number.POSITIVE_INFINITY;
    this.#isCut = false;
    this.silence("none");
  }

  async close(): Promise<void> {
    this.cut();
    await new Promise<void>((resolve) => this.#server.close(() => resolve()));
  }

  #accept(dialer: Socket): void {
    if (this.#isCut) return void dialer.destroy();
    this.connections++;
    const target = connect(this.#targetPort(), "127.0.0.1");
    const connection: Connection = { dialer, target, held: [] };
    this.#connections.add(connection);
    const end = () => {
      this.#connections.delete(connection);
      dialer.destroy();
      target.destroy();
    };
    for (const socket of [dialer, target]) {
      socket.setNoDelay(true);
      socket.on("error", end);
      socket.on("close", end);
    }
    this.#carry(connection, dialer, target);
    this.#carry(connection, target, dialer);
    this.#apply(connection);
  }

  #carry(connection: Connection, from: Socket, to: Socket): void {
    const pass = (bytes: Buffer) => {
      this.bytes += bytes.length;
      if (!to.write(bytes)) from.pause();
    };
    from.on("data", (bytes: Buffer) => {
      // What was read before the pause took effect.
      if (this.#silence === "both") return void connection.held.push(() => pass(bytes));
      const room = this.#silentAt - this.bytes;
      if (bytes.length < room) return pass(bytes);
      // One read may hold all that is left: beyond the byte at which it goes silent nothing passes.
      pass(bytes.subarray(0, room));
      const rest = bytes.subarray(room);
      connection.held.push(() => pass(rest));
      this.silence("both");
      this.#onSilentAt?.();
    });
    to.on("drain", () => this.#apply(connection));
  }

  /** A silent direction is not read: what was sent waits in the kernel, as in that of a machine behind a dead cable. */
  #apply({ dialer, target, held }: Connection): void {
    if (this.#silence === "none") for (const pass of held.splice(0)) pass();
    const set = (socket: Socket, isSilent: boolean, isFull: boolean) => {
      if (isSilent) socket.pause();
      else if (!isFull) socket.resume();
    };
    set(dialer, this.#silence === "there" || this.#silence === "both", target.writableNeedDrain);
    set(target, this.#silence === "back" || this.#silence === "both", dialer.writableNeedDrain);
  }
}
