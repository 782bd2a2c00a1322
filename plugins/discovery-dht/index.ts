/**
 * discovery.dht: nodes of a mesh find each other in a DHT (BEP 5, 32, 44), one of their own or the public one. What a node says of itself is signed
 * by its key and sealed for its mesh; newcomers meet members under keys that follow from the network secret. What is found is a hint, and never more.
 * docs/dht.md, docs/protocol/dht.md
 */
import {
  definePlugin,
  isListen,
  type ListenAddress,
  parseHostPort,
  planListen,
  type PluginContext,
  type Timer,
} from "@godwit/sdk";
import { isIP } from "node:net";
import { z } from "zod/mini";
import { Board } from "./board.ts";
import { DhtClient, dhtIdOf } from "./client.ts";
import { Contacts } from "./contacts.ts";
import { formatId } from "./keys.ts";
import { addressBytes } from "./krpc.ts";
import { Neighbours } from "./neighbours.ts";
import { Presence } from "./presence.ts";
import { Rendezvous } from "./rendezvous.ts";

const PORT = 4862;
/** Of the public DHT, run by those who wrote its clients. */
const PUBLIC_BOOTSTRAP = [
  "router.bittorrent.com:6881",
  "dht.transmissionbt.com:6881",
  "dht.libtorrent.org:25401",
] as const;
/** After that a DHT of which nobody answers is said to be one. */
const PATIENCE_MS = 30_000;
const LISTEN_RETRY_MS = 3_000;

const listenEntry = z.string().check(
  z.refine(isListen, {
    error: 'expected address:port, [IPv6]:port or interface:port, e.g. "[::]:4862" or "eth0:4862"',
  }),
);
const place = z
  .string()
  .check(z.refine(isPlace, { error: 'expected host:port, e.g. "192.0.2.1:4862" or "[2001:db8::1]:4862"' }));

const config = z.strictObject({
  /** UDP. Empty: no socket at all; linked members carry what this node says and asks. */
  listen: z._default(z.array(listenEntry).check(z.maxLength(16)), [`[::]:${PORT}`]),
  /** Nodes of the DHT that are asked first: members whose address stays. */
  bootstrap: z._default(z.array(place).check(z.maxLength(32)), []),
  /** Joins the public DHT of BitTorrent, where strangers keep what this node says and see its address. */
  public: z._default(z.boolean(), false),
});

export default definePlugin({
  id: "dht",
  namespace: "discovery",
  sdk: "^0.1.0",
  permissions: ["net.udp", "net.dns", "storage"],
  config,
  warnings: ({ public: isPublic }) =>
    isPublic
      ? [
          "public = true: strangers of the public DHT see this node's address and id, and that it belongs to some mesh, for as long as it runs",
        ]
      : [],
  async start(ctx, { listen, bootstrap, public: isPublic }) {
    const board = new Board(ctx);
    const entries = isPublic ? [...bootstrap, ...PUBLIC_BOOTSTRAP] : bootstrap;
    const dht =
      listen.length === 0
        ? undefined
        : await open(ctx, board, entries, {
            onConnected: () => presence.onConnected(),
            onWritten: (slot, ids) => presence.onWritten(slot, ids),
          });
    if (ctx.signal.aborted) return;
    const neighbours = new Neighbours({
      ...{ ctx, board, presence: () => presence },
      contacts: dht?.contacts,
      port: () => dht?.client.ports[0]?.port,
    });
    const presence = new Presence({
      ...{ ctx, board, client: dht?.client, rendezvous: dht?.rendezvous },
      carry: (items) => neighbours.carry(items),
      askNeighbours: () => neighbours.askNeighbours(),
    });
    const report = watch(ctx, board, dht);
    if (dht !== undefined)
      await follow(ctx, listen, dht, (hasChanged) => {
        if (hasChanged) neighbours.onSockets();
        report();
      });
    if (ctx.signal.aborted) return;
    neighbours.start();
    ctx.self.onChange(() => presence.wake());
    ctx.spawn("presence", (signal) => presence.run(signal));
    if (dht !== undefined) ctx.spawn("contacts", (signal) => dht.contacts.run(signal));
  },
});

interface Dht {
  readonly client: DhtClient;
  readonly contacts: Contacts;
  readonly rendezvous: Rendezvous;
  /** What sockets are open for, or should be. */
  readonly listening: { plan: readonly ListenAddress[]; reason: string };
}

async function open(
  ctx: PluginContext,
  board: Board,
  bootstrap: readonly string[],
  { onConnected, onWritten }: Pick<Presence, "onConnected" | "onWritten">,
): Promise<Dht> {
  const listening: Dht["listening"] = { plan: [], reason: "" };
  // Who listens to this machine alone is in a DHT of this machine alone.
  const isLocal = () => listening.plan.length > 0 && listening.plan.every(({ host }) => isLoopback(host));
  const refusal = (host: string) =>
    isLoopback(host) && isLocal() ? undefined : ctx.network.refusal(host.replace(/%.*$/, ""));
  const datagrams = ctx.counter("datagrams", "Datagrams that came, by what they were", ["outcome"]);
  const bytes = ctx.counter("bytes", "Bytes of UDP payload", ["direction"]);
  const client = new DhtClient({
    ...{ clock: ctx.clock, random: ctx.random, log: ctx.log, refusal },
    id: dhtIdOf(await ctx.deriveSeed("node id")),
    isOnLink: (host) => ctx.network.addresses().some((own) => isSameWire(own, host)),
    judge: (target, item) => rendezvous.judge(target, item),
    onConnected: () =>
      void (async () => {
        await client.populate();
        if (ctx.signal.aborted) return;
        contacts.wake();
        onConnected();
      })(),
    counted: (outcome) => datagrams.add(1, { outcome }),
    carried: (direction, count) => bytes.add(count, { direction }),
  });
  // At once: tasks wait for answers, and the host waits for tasks before it disposes of anything.
  if (ctx.signal.aborted) void client.close();
  else ctx.signal.addEventListener("abort", () => void client.close(), { once: true });
  ctx.own(() => client.close());
  const contacts = new Contacts(ctx, client, bootstrap, refusal);
  const rendezvous: Rendezvous = new Rendezvous({
    ...{ clock: ctx.clock, random: ctx.random, client },
    onWritten: (slot, ids) => onWritten(slot, ids),
    isGood: (id) => board.isGood(formatId(id)),
  });
  client.open();
  return { client, contacts, rendezvous, listening };
}

/** Sockets as the interfaces of `listen` come, go and change, and as ports come free. Resolves once those of now are open. */
async function follow(
  ctx: PluginContext,
  listen: readonly string[],
  { client, contacts, listening }: Dht,
  onLooked: (hasChanged: boolean) => void,
): Promise<void> {
  let retry: Timer | undefined;
  const check = async () => {
    const before = client.ports;
    const plan = planListen(listen, ctx.network.addresses());
    listening.plan = plan;
    const failed = await client.listen(plan);
    if (ctx.signal.aborted) return;
    retry?.cancel();
    retry = failed === "" ? undefined : ctx.clock.after(LISTEN_RETRY_MS, again);
    const reason = plan.length > 0 ? failed : `no interface of listen has an address: ${listen.join(", ")}`;
    if (reason !== "" && reason !== listening.reason) ctx.log.warn("listen failed", { reason });
    listening.reason = reason;
    const hasChanged = !Bun.deepEquals(before, client.ports);
    if (hasChanged) contacts.wake();
    onLooked(hasChanged);
  };
  // One at a time: an address may come and go again while its socket is being opened.
  const again = () => {
    checking = checking.then(check);
    void checking;
  };
  let checking = check();
  ctx.network.onChange(again);
  ctx.own(() => retry?.cancel());
  await checking;
}

/** Health, and what the metrics show; answers what looks at once. */
function watch(ctx: PluginContext, board: Board, dht: Dht | undefined): () => void {
  const nodes = ctx.gauge("nodes", "Nodes in the table of the DHT, looked at every 10 s");
  const found = ctx.gauge("found", "Nodes of the mesh that were found, looked at every 10 s");
  const kept = ctx.gauge("kept", "Items that this node keeps for others, looked at every 10 s");
  let told = "";
  const startedMs = ctx.clock.monotonicMs();
  const look = () => {
    nodes.set(dht?.client.nodeCount ?? 0);
    found.set(board.size);
    kept.set(dht?.client.keptCount ?? 0);
    const isLate = ctx.clock.monotonicMs() - startedMs >= PATIENCE_MS;
    const listenReason = dht?.listening.reason ?? "";
    const reason = listenReason !== "" ? listenReason : isLate ? troubleOf(ctx, dht) : "";
    if (reason !== told) ctx.health(reason === "" ? { state: "running" } : { state: "degraded", reason });
    told = reason;
    timer.cancel();
    timer = ctx.clock.after(PATIENCE_MS / 3, look);
  };
  let timer = ctx.clock.after(0, look);
  ctx.own(() => timer.cancel());
  return look;
}

function troubleOf(ctx: PluginContext, dht: Dht | undefined): string {
  if ((dht?.client.nodeCount ?? 0) > 0) return "";
  const isCarried = ctx.peers.list().some(({ isLinked }) => isLinked);
  if (dht === undefined) return isCarried ? "" : "no socket, and no linked member that could carry";
  const { failed } = dht.contacts;
  const names = failed === undefined ? "" : `; ${failed} has no address`;
  return `no node of the DHT answers: see that bootstrap names one that runs, and that UDP gets there${names}${
    isCarried ? "; linked members carry meanwhile" : ""
  }`;
}

const isLoopback = (host: string): boolean => host.startsWith("127.") || host === "::1";

function isSameWire(
  own: { readonly address: string; readonly family: 4 | 6; readonly prefixLength: number },
  host: string,
): boolean {
  const plain = host.replace(/%.*$/, "");
  const family = isIP(plain);
  if (family !== own.family) return false;
  const [one, other] = [addressBytes(own.address), addressBytes(plain)];
  return one.every((byte, index) => {
    const bits = Math.max(0, Math.min(8, own.prefixLength - 8 * index));
    return (byte ^ other[index]!) >> (8 - bits) === 0;
  });
}

function isPlace(text: string): boolean {
  try {
    return parseHostPort(text).port > 0;
  } catch {
    return false;
  }
}
