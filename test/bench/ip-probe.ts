/** Datagrams between namespaces, both ends held by the measuring process: what an IP overlay carries, seen from above. */
import type { Host } from "./namespaces.ts";
import type { IpPeer } from "./peers/peer.ts";
import { Arrivals, type Ticks } from "./probe.ts";

const PORT = 4_000;
/** From whom, and when by the sender's clock, which is ours. */
const DATAGRAM_BYTES = 16;

type UdpSocket = Bun.udp.Socket<"buffer">;

const openIn = (
  host: Host,
  address: string,
  port: number,
  onData: (bytes: Buffer) => void,
): Promise<UdpSocket> =>
  host.enter(() =>
    Bun.udpSocket({
      hostname: address.includes(":") ? "::" : "0.0.0.0",
      port,
      // A destination without a way is what is being measured, not an error.
      socket: { data: (_socket, bytes) => onData(bytes), error: () => {} },
    }),
  );

function shoot(socket: UdpSocket, from: number, address: string): void {
  const bytes = new DataView(new ArrayBuffer(DATAGRAM_BYTES));
  bytes.setFloat64(0, from);
  bytes.setFloat64(8, performance.now());
  try {
    socket.send(new Uint8Array(bytes.buffer), PORT, address);
  } catch {
    // As above: no route yet.
  }
}

/** Datagrams from one peer to another, one every `everyMs`. */
export class UdpTicks implements Ticks {
  readonly arrivals = new Arrivals();
  #sockets: UdpSocket[] = [];
  #timer: ReturnType<typeof setInterval> | undefined;

  static async start(from: IpPeer, to: IpPeer, everyMs: number): Promise<UdpTicks> {
    const ticks = new UdpTicks();
    const sink = await openIn(to.daemon.host, to.address, PORT, (bytes) =>
      ticks.arrivals.add({ sentMs: bytes.readDoubleBE(8), arrivedMs: performance.now() }),
    );
    const source = await openIn(from.daemon.host, to.address, 0, () => {});
    ticks.#sockets = [sink, source];
    ticks.#timer = setInterval(() => shoot(source, from.daemon.host.index, to.address), everyMs);
    return ticks;
  }

  stop(): void {
    clearInterval(this.#timer);
    for (const socket of this.#sockets) socket.close();
  }
}

/** Resolves with the time when a datagram of everybody has arrived at everybody else. */
export class AllPairs {
  readonly done: Promise<number>;
  readonly #sockets: UdpSocket[] = [];
  readonly #heard = new Set<string>();
  #timer: ReturnType<typeof setInterval> | undefined;

  private constructor(done: Promise<number>) {
    this.done = done;
  }

  static async start(peers: readonly IpPeer[], everyMs: number): Promise<AllPairs> {
    const { promise, resolve } = Promise.withResolvers<number>();
    const pairs = new AllPairs(promise);
    const wanted = peers.length * (peers.length - 1);
    for (const { daemon, address } of peers) {
      const { host } = daemon;
      const onData = (bytes: Buffer) => {
        pairs.#heard.add(`${bytes.readDoubleBE(0)} ${host.index}`);
        if (pairs.#heard.size === wanted) resolve(performance.now());
      };
      pairs.#sockets.push(await openIn(host, address, PORT, onData));
    }
    const turn = () => {
      for (const [from, socket] of pairs.#sockets.entries())
        for (const [to, { address }] of peers.entries())
          if (from !== to && !pairs.#heard.has(`${from} ${to}`)) shoot(socket, from, address);
    };
    pairs.#timer = setInterval(turn, everyMs);
    return pairs;
  }

  stop(): void {
    clearInterval(this.#timer);
    for (const socket of this.#sockets) socket.close();
  }
}

/** Round trips as `ping` times them, the far end answered by its kernel; ms. */
export async function pingMs(host: Host, address: string, count: number): Promise<number[]> {
  const out = await host.run(["ping", "-n", "-i", "0.005", "-c", String(count), address]);
  return [...out.matchAll(/time=([\d.]+) ms/g)].map(([, text]) => Number(text));
}

/** Waits until a ping comes back. */
export async function untilPing(host: Host, address: string, timeoutMs: number): Promise<void> {
  const endMs = performance.now() + timeoutMs;
  for (;;) {
    const ended = await host
      .run(["ping", "-n", "-c", "1", "-W", "1", address])
      .catch((error: unknown) => error);
    if (typeof ended === "string") return;
    if (performance.now() > endMs) throw ended;
    await Bun.sleep(50);
  }
}
