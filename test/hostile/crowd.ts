/**
 * A crowd of strangers, as a process of its own so that whoever measures is not slowed by it: `bun crowd.ts ORDER`. Loopback has
 * sixteen million addresses, so that it comes from as many sources as it is told. Ends by itself.
 */
import { systemRandom } from "../../runtime/kernel/random.ts";

export type CrowdOrder =
  /** Datagrams of 52 bytes that look like a first message and are meant for nobody. */
  | {
      readonly what: "datagrams";
      readonly port: number;
      readonly sources: number;
      readonly perSecond: number;
      readonly ms: number;
    }
  /** Connections that say `say`, or nothing, and stay; what is closed is opened again, so many a second. */
  | {
      readonly what: "connections";
      readonly ports: readonly number[];
      readonly sources: number;
      readonly count: number;
      readonly perSecond: number;
      readonly say: string;
      readonly ms: number;
    }
  /** Requests without a pause on a few connections, all before the first answer is read. */
  | {
      readonly what: "requests";
      readonly port: number;
      readonly connections: number;
      readonly path: string;
      readonly ms: number;
    };

const TICK_MS = 10;
const addressOf = (source: number): string => `127.0.${1 + (source >> 8)}.${1 + (source & 0xff)}`;

async function sendDatagrams(order: Extract<CrowdOrder, { what: "datagrams" }>): Promise<void> {
  const sockets = await Promise.all(
    Array.from({ length: order.sources }, (_, i) =>
      Bun.udpSocket({ hostname: addressOf(i), socket: { data() {}, error() {} } }),
    ),
  );
  let sent = 0;
  const startedMs = performance.now();
  await ticking(order.ms, () => {
    const due = ((performance.now() - startedMs) * order.perSecond) / 1_000;
    for (; sent < due; sent++) {
      const bytes = systemRandom.bytes(52);
      bytes[0] = 0xd9;
      bytes.fill(0, 9, 13);
      bytes[13] = 0x13;
      sockets[sent % sockets.length]!.send(bytes, order.port, "127.0.0.1");
    }
  });
  for (const socket of sockets) socket.close();
  console.log(JSON.stringify({ sent }));
}

async function openConnections(order: Extract<CrowdOrder, { what: "connections" }>): Promise<void> {
  const { createConnection } = await import("node:net");
  const open = new Set<{ destroy(): void }>();
  let opened = 0;
  let most = 0;
  let allowed = 0;
  await ticking(order.ms, () => {
    allowed = Math.min(order.count, allowed + (order.perSecond * TICK_MS) / 1_000);
    while (allowed >= 1 && open.size < order.count) {
      allowed--;
      const port = order.ports[opened % order.ports.length]!;
      const localAddress = addressOf(opened++ % order.sources);
      const socket = createConnection({ host: "127.0.0.1", port, localAddress });
      open.add(socket);
      most = Math.max(most, open.size);
      socket.on("error", () => {});
      socket.on("close", () => open.delete(socket));
      socket.on("connect", () => order.say !== "" && socket.write(order.say));
      socket.resume();
    }
  });
  for (const socket of open) socket.destroy();
  console.log(JSON.stringify({ opened, most }));
}

async function pipeline(order: Extract<CrowdOrder, { what: "requests" }>): Promise<void> {
  const batch = Buffer.from(`GET ${order.path} HTTP/1.1\r\nHost: localhost\r\n\r\n`.repeat(500));
  let bytes = 0;
  const sockets = await Promise.all(
    Array.from({ length: order.connections }, () => {
      const fill = (socket: Bun.Socket) => {
        while (socket.write(batch) === batch.length);
      };
      return Bun.connect({
        hostname: "127.0.0.1",
        port: order.port,
        socket: {
          open: fill,
          drain: fill,
          data: (_, part) => void (bytes += part.length),
          error() {},
          close() {},
        },
      });
    }),
  );
  await Bun.sleep(order.ms);
  for (const socket of sockets) socket.terminate();
  console.log(JSON.stringify({ bytes }));
}

function ticking(ms: number, tick: () => void): Promise<void> {
  return new Promise((resolve) => {
    const timer = setInterval(tick, TICK_MS);
    setTimeout(() => {
      clearInterval(timer);
      resolve();
    }, ms);
  });
}

if (import.meta.main) {
  const order = JSON.parse(process.argv[2]!) as CrowdOrder;
  if (order.what === "datagrams") await sendDatagrams(order);
  else if (order.what === "connections") await openConnections(order);
  else await pipeline(order);
  process.exit(0);
}
