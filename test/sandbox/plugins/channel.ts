/** A transport of a third party on a channel that all share: datagrams over UDP on this machine, to all by one to each that was heard. */
import { definePlugin, type Medium, type MediumHeard, type Pipe, type PipeHandlers } from "@godwit/sdk";

interface Table {
  readonly listen?: string;
}
const config = {
  "~standard": {
    version: 1 as const,
    vendor: "plain",
    validate: (value: unknown) =>
      Object.keys(value as object).every((key) => key === "listen")
        ? { value: value as Table }
        : { issues: [{ message: "unknown key" }] },
  },
};

const MTU = 200;
const RATE_BITS = 1_000_000;
/** First byte of a datagram: whom it is for. */
const To = { all: 0, listener: 1, dialler: 2 } as const;

interface Station {
  readonly medium: Medium;
  readonly local: string;
  send(to: number, port: number, bytes: Uint8Array): void;
  forget(pipe: ChannelPipe): void;
}

class ChannelPipe implements Pipe {
  readonly kind = "datagram";
  readonly linkClass = "slow";
  readonly answerMs = 1;
  readonly rateBitsPerSecond = RATE_BITS;
  readonly mtu = MTU;
  readonly bufferedBytes = 0;
  readonly medium: Medium;
  readonly local: string;
  readonly remote: string;
  readonly direction: "inbound" | "outbound";
  readonly port: number;
  readonly #station: Station;
  #early: Uint8Array[] = [];
  #handlers: PipeHandlers | undefined;
  #isClosed = false;

  constructor(station: Station, port: number, direction: "inbound" | "outbound") {
    this.medium = station.medium;
    this.local = station.local;
    this.remote = `air://127.0.0.1:${port}`;
    this.direction = direction;
    this.port = port;
    this.#station = station;
  }

  open(handlers: PipeHandlers): void {
    this.#handlers = handlers;
    const early = this.#early;
    this.#early = [];
    setTimeout(() => {
      for (const bytes of early) this.receive(bytes);
      if (this.#isClosed) handlers.closed();
    });
  }

  receive(bytes: Uint8Array): void {
    if (this.#isClosed) return;
    if (this.#handlers === undefined) this.#early.push(new Uint8Array(bytes));
    else this.#handlers.data(bytes);
  }

  write(bytes: Uint8Array): boolean {
    if (this.#isClosed) return true;
    if (bytes.length <= MTU)
      this.#station.send(this.direction === "outbound" ? To.listener : To.dialler, this.port, bytes);
    setTimeout(() => {
      if (!this.#isClosed) this.#handlers?.left?.();
    }, 1);
    return true;
  }

  pause(): void {}

  close(): void {
    if (this.#isClosed) return;
    this.#isClosed = true;
    this.#station.forget(this);
    const handlers = this.#handlers;
    if (handlers !== undefined) queueMicrotask(() => handlers.closed());
  }
}

export default definePlugin({
  id: "channel",
  namespace: "transport",
  sdk: "^0.1.0",
  permissions: ["net.udp"],
  config,
  async start(ctx, { listen }) {
    const pipes = new Map<string, ChannelPipe>();
    const heardOf = new Set<number>();
    const keyOf = (direction: string, port: number) => `${direction} ${port}`;
    let toAll: MediumHeard = () => {};
    const socket = await Bun.udpSocket({
      hostname: "127.0.0.1",
      port: 0,
      socket: {
        data(_, datagram, port) {
          heardOf.add(port);
          const bytes = new Uint8Array(datagram.subarray(1));
          if (datagram[0] === To.all) return toAll(`air://127.0.0.1:${port}`, bytes);
          const direction = datagram[0] === To.listener ? "inbound" : "outbound";
          const known = pipes.get(keyOf(direction, port));
          if (known !== undefined) return known.receive(bytes);
          if (direction === "outbound" || listen === undefined) return;
          const pipe = new ChannelPipe(station, port, direction);
          pipes.set(keyOf(direction, port), pipe);
          pipe.receive(bytes);
          ctx.transport.accept(pipe);
        },
      },
    });
    ctx.own(() => {
      for (const pipe of [...pipes.values()]) pipe.close();
      socket.close();
    });
    const send = (to: number, port: number, bytes: Uint8Array) =>
      void socket.send(new Uint8Array([to, ...bytes]), port, "127.0.0.1");
    const medium: Medium = {
      name: ctx.instance,
      rateBitsPerSecond: RATE_BITS,
      utilisation: 0,
      broadcastBytesMax: MTU,
      airtimeMs: (bytes, to) => (1 + (bytes * 8_000) / RATE_BITS) * (to === "all" ? 2 : 1),
      broadcast(bytes) {
        if (bytes.length > MTU) return false;
        for (const port of heardOf) send(To.all, port, bytes);
        return true;
      },
      listen: (heard) => void (toAll = heard),
    };
    const station: Station = {
      medium,
      local: `air://127.0.0.1:${socket.port}`,
      send,
      forget: (pipe) => void pipes.delete(keyOf(pipe.direction, pipe.port)),
    };
    ctx.transport.register({
      schemes: ["air"],
      medium,
      async dial(endpoint, signal) {
        signal.throwIfAborted();
        const port = Number(/^air:\/\/127\.0\.0\.1:(\d{1,5})$/.exec(endpoint)?.[1]);
        if (!(port > 0 && port < 65_536))
          throw Object.assign(new Error(`${endpoint} is no place on the air`), {
            code: "GODWIT_ENDPOINT_INVALID",
            kind: "config",
          });
        const pipe = new ChannelPipe(station, port, "outbound");
        heardOf.add(port);
        pipes.set(keyOf("outbound", port), pipe);
        return pipe;
      },
    });
    if (listen !== undefined) ctx.transport.listening([station.local]);
  },
});
