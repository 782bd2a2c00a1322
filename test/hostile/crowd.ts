/**
 * A crowd of strangers, as a process of its own so that whoever measures is not slowed by it: `bun crowd.ts ORDER`. Loopback has
 * sixteen million addresses, so that it comes from as many sources as it is told. Ends by itself.
 */
import type { NodeId } from "../../runtime/kernel/ids.ts";
import { systemRandom } from "../../runtime/kernel/random.ts";
import { encodeBundleFrame, makeBundle } from "../../runtime/wire/bundle.ts";
import { Member } from "./member.ts";

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
  /** Nodes of an open mesh that nobody knows: they link, stay, and send junk that looks like mail to `to`, all together so much. */
  | {
      readonly what: "members";
      readonly port: number;
      readonly sources: number;
      readonly count: number;
      /** That come. */
      readonly perSecond: number;
      readonly mailPerSecond: number;
      readonly to: NodeId;
      readonly network: string;
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
const addressOf = (source: number): string => `127.0.${1 + Math.floor(source / 250)}.${1 + (source % 250)}`;

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

async function linkMembers(order: Extract<CrowdOrder, { what: "members" }>): Promise<void> {
  const { network, port, to } = order;
  const linked: Member[] = [];
  const startedMs = performance.now();
  let [coming, came, most, sent] = [0, 0, 0, 0];
  const come = async (): Promise<void> => {
    const member = new Member({ network, from: addressOf(came++ % order.sources) });
    coming++;
    try {
      linked.push(await member.join({ linkPort: port }));
    } catch {
      member.leave();
    } finally {
      coming--;
    }
  };
  let allowed = 0;
  await ticking(order.ms, () => {
    for (let i = linked.length - 1; i >= 0; i--) if (linked[i]!.isClosed) linked.splice(i, 1);
    most = Math.max(most, linked.length);
    allowed = Math.min(order.perSecond, allowed + (order.perSecond * TICK_MS) / 1_000);
    for (; allowed >= 1 && linked.length + coming < order.count; allowed--) void come();
    const due = ((performance.now() - startedMs) * order.mailPerSecond) / 1_000;
    for (; sent < due && linked.length > 0; sent++) {
      const member = linked[sent % linked.length]!;
      const header = { kind: 0, priority: 2, source: member.identity.id, destination: to } as const;
      const bundle = makeBundle({ ...header, lifetimeMs: 60_000 }, systemRandom.bytes(300));
      member.send(encodeBundleFrame(bundle, { remainingMs: 50_000, hops: 1, trace: [] }));
    }
  });
  console.log(JSON.stringify({ came, most, sent }));
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
  else if (order.what === "members") await linkMembers(order);
  else await pipeline(order);
  process.exit(0);
}
