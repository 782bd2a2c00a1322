/**
 * The machine's addresses for the transports: read by netlink, watched by its multicast groups, and where there is no
 * netlink (a sandbox without that socket family, another libc) read and polled through node:os. Never changes anything.
 */
import { networkInterfaces } from "node:os";
import type { AddressScope, Clock, HostAddress, Timer } from "@godwit/sdk";
import { untilMultiple } from "./clock.ts";
import {
  AddressFlag,
  buildDump,
  formatIp,
  LinkFlag,
  type NetlinkMessage,
  NetlinkSocket,
  parseAddress,
  parseAll,
  parseLink,
  RouteGroup,
  RouteNews,
  RouteType,
} from "@godwit/sdk/netlink";

/** Between two looks when one change follows the other, and when the kernel's news do not wake us. */
const SOON_MS = 100;
/** Else: news may be lost without a word. */
const SELDOM_MS = 5_000;
/** Of a machine with more the rest is ignored. */
const ADDRESSES_MAX = 4_096;

/** Bridges that container engines and hypervisors make for themselves: nobody else on the LAN reaches them. */
const CONTAINER_BRIDGE =
  /^(?:docker\d+|docker_gwbridge|br-[0-9a-f]{12}|virbr\d+|cni\d*|cni-podman\d+|podman\d+|nerdctl\d+|lxcbr\d+|lxdbr\d+|incusbr\d+|flannel|cali|cilium|kube-)/;

export const isContainerBridge = (name: string): boolean => CONTAINER_BRIDGE.test(name);

export interface HostNetworkWatch {
  addresses(): readonly HostAddress[];
  /** Calls `fn` after a change; answers what ends it. */
  watch(fn: () => void): () => void;
  /** Idempotent. */
  close(): void;
}

/** What stands behind the watch: a test hands in its own. */
export interface AddressSource {
  read(): readonly HostAddress[];
  /** Whether anything may have changed since the last call, beyond what was told to `listen`. */
  poll(): boolean;
  readonly pollMs: number;
  /** Calls `ring` as soon as anything may have changed, for as long as it can. */
  listen?(ring: () => void): void;
  close(): void;
}

export function openHostNetwork(
  clock: Clock,
  source: AddressSource = openNetlink() ?? osSource,
): HostNetworkWatch {
  let addresses = source.read();
  const listeners = new Set<() => void>();
  let timer: Timer | undefined;
  let lookedAtMs = Number.NEGATIVE_INFINITY;
  let isRung = false;
  const tick = () => {
    timer = clock.after(untilMultiple(clock, source.pollMs), tick);
    const mayHaveChanged = source.poll() || isRung;
    isRung = false;
    if (!mayHaveChanged) return;
    lookedAtMs = clock.monotonicMs();
    const fresh = source.read();
    if (Bun.deepEquals(fresh, addresses)) return;
    addresses = fresh;
    for (const listener of [...listeners]) listener();
  };
  timer = clock.after(source.pollMs, tick);
  source.listen?.(() => {
    if (isRung || timer === undefined) return;
    isRung = true;
    timer.cancel();
    timer = clock.after(Math.max(0, lookedAtMs + SOON_MS - clock.monotonicMs()), tick);
  });
  return {
    addresses: () => addresses,
    watch(fn) {
      listeners.add(fn);
      return () => void listeners.delete(fn);
    },
    close() {
      if (timer === undefined) return;
      timer.cancel();
      timer = undefined;
      listeners.clear();
      source.close();
    },
  };
}

/** How far an address reaches, by its text. */
export function scopeOf(address: string): AddressScope {
  const text = address.toLowerCase();
  if (text === "::1" || text.startsWith("127.")) return "host";
  if (text.startsWith("169.254.") || /^fe[89ab]/.test(text)) return "link";
  if (
    /^(?:10\.|192\.168\.|172\.(?:1[6-9]|2\d|3[01])\.|100\.(?:6[4-9]|[7-9]\d|1[01]\d|12[0-7])\.|f[cd])/.test(
      text,
    )
  )
    return "private";
  return "global";
}

const SCOPES: readonly AddressScope[] = ["global", "private", "link", "host"];

/** The documented order: by scope, IPv4 before IPv6, then as the interfaces were made. */
const inOrder = (found: readonly { readonly index: number; readonly fact: HostAddress }[]): HostAddress[] =>
  found
    .slice(0, ADDRESSES_MAX)
    .sort(
      (a, b) =>
        SCOPES.indexOf(a.fact.scope) - SCOPES.indexOf(b.fact.scope) ||
        a.fact.family - b.fact.family ||
        a.index - b.index ||
        (a.fact.address < b.fact.address ? -1 : 1),
    )
    .map(({ fact }) => fact);

/** Alias of interfaces that a transport makes: they carry links, and no other transport's shall be offered over them. */
const OVERLAY_ALIAS = "godwit overlay ";

const isBeyondMachine = (scope: AddressScope, name: string): boolean =>
  (scope === "global" || scope === "private") && !isContainerBridge(name);

/** Joins both dumps. An address that is not usable yet, or whose interface is down or has no carrier, is not there. */
export function addressesOf(
  links: readonly NetlinkMessage[],
  addresses: readonly NetlinkMessage[],
): HostAddress[] {
  const byIndex = new Map(
    parseAll(links, RouteType.newLink, parseLink).map((link) => [link.index, link] as const),
  );
  const found: { index: number; fact: HostAddress }[] = [];
  const { temporary, failed, deprecated, tentative } = AddressFlag;
  const usable = LinkFlag.up | LinkFlag.running;
  for (const address of parseAll(addresses, RouteType.newAddress, parseAddress)) {
    const link = byIndex.get(address.index);
    // An address that is still being checked for duplicates cannot be bound; it comes again when it can.
    if (link === undefined || (address.flags & (tentative | failed)) !== 0) continue;
    // Of a pulled cable TCP is told nothing: what was bound to it is over, and its transport may say so at once.
    if ((link.flags & usable) !== usable) continue;
    const text = formatIp(address.address);
    const scope = (link.flags & LinkFlag.loopback) === 0 ? scopeOf(text) : "host";
    // In IPv4 the bit of `temporary` means "secondary", which is as good as the first.
    const passes = address.family === 6 && (address.flags & (temporary | deprecated)) !== 0;
    found.push({
      index: address.index,
      fact: {
        address: text,
        family: address.family,
        prefixLength: address.prefixLength,
        interface: link.name,
        scope,
        isAdvertisable:
          !passes && isBeyondMachine(scope, link.name) && link.alias?.startsWith(OVERLAY_ALIAS) !== true,
      },
    });
  }
  return inOrder(found);
}

/** Names of interfaces that lead into a network of somebody's own, where other nodes may be: by an address for such networks. */
export const lanInterfaces = (addresses: readonly HostAddress[]): string[] => [
  ...new Set(
    addresses
      .filter(({ isAdvertisable, scope }) => isAdvertisable && scope === "private")
      .map((address) => address.interface),
  ),
];

const osSource: AddressSource = {
  pollMs: SELDOM_MS,
  poll: () => true,
  close() {},
  read: () =>
    inOrder(
      Object.entries(networkInterfaces()).flatMap(([name, infos], index) =>
        (infos ?? []).map(({ address, family, cidr, internal }) => {
          const scope = internal ? "host" : scopeOf(address);
          return {
            index,
            fact: {
              address,
              family: family === "IPv4" ? 4 : 6,
              prefixLength: Number(cidr?.split("/")[1] ?? (family === "IPv4" ? 32 : 128)),
              interface: name,
              scope,
              isAdvertisable: isBeyondMachine(scope, name),
            },
          };
        }),
      ),
    ),
};

/** Undefined where libc or the kernel does not let us. */
export function openNetlink(): AddressSource | undefined {
  let news: RouteNews;
  try {
    news = new RouteNews(RouteGroup.link | RouteGroup.ipv4Address | RouteGroup.ipv6Address);
  } catch {
    return undefined;
  }
  const read = (): readonly HostAddress[] => {
    let socket: NetlinkSocket | undefined;
    try {
      // A socket for each reading: an interrupted dump cannot leave its rest to the next one.
      socket = NetlinkSocket.open("route");
      return addressesOf(
        socket.requestNow("list links", () => buildDump(RouteType.getLink)),
        socket.requestNow("list addresses", () => buildDump(RouteType.getAddress)),
      );
    } catch {
      return osSource.read();
    } finally {
      socket?.close();
    }
  };
  let isListening = false;
  return {
    get pollMs() {
      return isListening ? SELDOM_MS : SOON_MS;
    },
    read,
    listen(ring) {
      isListening = true;
      news.listen(ring, () => {
        // Some were lost, perhaps: looked at now, and from now on the socket is asked.
        isListening = false;
        ring();
      });
    },
    poll() {
      // What came is only a bell: the whole is read anew, so that a message lost to a full buffer does no harm.
      const { datagrams, isWhole } = news.poll();
      return datagrams.length > 0 || !isWhole;
    },
    close: () => news.close(),
  };
}
