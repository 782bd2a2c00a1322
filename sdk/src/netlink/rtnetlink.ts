/** Interfaces, addresses and routes of this network namespace, asked for and changed over one socket. */
import type { Clock } from "../clock.ts";
import type { NetlinkBuilder, NetlinkMessage } from "./message.ts";
import {
  type AddressFacts,
  type AddressOnLink,
  buildAddAddress,
  buildAddLink,
  buildAddRoute,
  buildChangeLink,
  buildDeleteAddress,
  buildDeleteLink,
  buildDeleteRoute,
  buildDump,
  type LinkChange,
  type LinkFacts,
  type NewLink,
  parseAddress,
  parseAll,
  parseLink,
  parseRoute,
  type Route,
  type RouteFacts,
  RouteType,
} from "./route.ts";
import { formatIp } from "./ip.ts";
import { hasErrno, NetlinkSocket } from "./socket.ts";

/** Datagrams taken in one look. */
const NEWS_MAX = 1_024;

/** Every method rejects with GODWIT_NETLINK when the kernel refuses: `hasErrno` tells why. */
export class Rtnetlink {
  readonly #socket: NetlinkSocket;
  readonly #clock: Clock;

  /** Throws GODWIT_NETLINK, or the loader's error where there is no libc. */
  constructor(clock: Clock) {
    this.#clock = clock;
    this.#socket = NetlinkSocket.open("route");
  }

  async links(): Promise<LinkFacts[]> {
    const messages = await this.#ask("list links", () => buildDump(RouteType.getLink));
    return parseAll(messages, RouteType.newLink, parseLink);
  }

  async addresses(): Promise<AddressFacts[]> {
    const messages = await this.#ask("list addresses", () => buildDump(RouteType.getAddress));
    return parseAll(messages, RouteType.newAddress, parseAddress);
  }

  async routes(): Promise<RouteFacts[]> {
    const messages = await this.#ask("list routes", () => buildDump(RouteType.getRoute));
    return parseAll(messages, RouteType.newRoute, parseRoute);
  }

  async linkNamed(name: string): Promise<LinkFacts | undefined> {
    return (await this.links()).find((link) => link.name === name);
  }

  /** EEXIST where the name is taken, EOPNOTSUPP where the kernel has no such kind. Answers the link. */
  async addLink(link: NewLink): Promise<LinkFacts> {
    await this.#ask(`add link ${link.name}`, () => buildAddLink(link));
    const made = await this.linkNamed(link.name);
    if (made === undefined) throw new Error(`link ${link.name} went as soon as it was made`);
    return made;
  }

  /** False: it was gone already. */
  deleteLink(index: number): Promise<boolean> {
    return this.#unless(["ENODEV"], `delete link ${index}`, () => buildDeleteLink(index));
  }

  async changeLink(index: number, change: LinkChange): Promise<void> {
    await this.#ask(`change link ${index}`, () => buildChangeLink(index, change));
  }

  /** False: it was there already. */
  addAddress(address: AddressOnLink): Promise<boolean> {
    return this.#unless(["EEXIST"], `add address ${formatIp(address.address)}`, () =>
      buildAddAddress(address),
    );
  }

  /** False: it was gone already. */
  deleteAddress(address: AddressOnLink): Promise<boolean> {
    return this.#unless(["EADDRNOTAVAIL", "ENODEV"], `delete address ${formatIp(address.address)}`, () =>
      buildDeleteAddress(address),
    );
  }

  /** False: there is one to that destination with that metric already, unless it `replaces` it. */
  addRoute(route: Route, replaces = false): Promise<boolean> {
    return this.#unless(["EEXIST"], `add route ${textOf(route)}`, () => buildAddRoute(route, replaces));
  }

  /** False: it was gone already. */
  deleteRoute(route: Route): Promise<boolean> {
    return this.#unless(["ESRCH", "ENODEV"], `delete route ${textOf(route)}`, () => buildDeleteRoute(route));
  }

  /** Idempotent. */
  close(): void {
    this.#socket.close();
  }

  #ask(what: string, build: () => NetlinkBuilder): Promise<NetlinkMessage[]> {
    return this.#socket.request(what, build, { clock: this.#clock });
  }

  async #unless(names: readonly string[], what: string, build: () => NetlinkBuilder): Promise<boolean> {
    try {
      await this.#ask(what, build);
      return true;
    } catch (error) {
      if (hasErrno(error, ...names)) return false;
      throw error;
    }
  }
}

const textOf = ({ destination, prefixLength }: Route): string => `${formatIp(destination)}/${prefixLength}`;

/** Notifications of the kernel, for those who ask now and then and for those who want to be woken. */
export class RouteNews {
  readonly #socket: NetlinkSocket;
  #end: (() => void) | undefined;

  /** `groups`: bits of `RouteGroup`. Throws GODWIT_NETLINK, or the loader's error where there is no libc. */
  constructor(groups: number) {
    this.#socket = NetlinkSocket.open("route", groups);
  }

  /** Datagrams since the last call, not understood yet. `isWhole` false: some were lost, so list everything anew. */
  poll(): { readonly datagrams: readonly Uint8Array[]; readonly isWhole: boolean } {
    const datagrams: Uint8Array[] = [];
    let isWhole = true;
    for (let i = 0; i < NEWS_MAX; i++) {
      try {
        const datagram = this.#socket.receive();
        if (datagram === undefined) break;
        datagrams.push(datagram);
      } catch (error) {
        if (!hasErrno(error, "ENOBUFS")) throw error;
        isWhole = false;
      }
    }
    return { datagrams, isWhole };
  }

  /**
   * Calls `ring` whenever some came, and takes them: `poll` finds nothing then. `ended` once when it hears nothing more, because some were
   * lost or the system does not let it; never after `close`. Called once.
   */
  listen(ring: () => void, ended: () => void): void {
    const bells = this.#socket.arrivals().getReader();
    let isOver = false;
    this.#end = () => {
      isOver = true;
      bells.cancel().catch(() => {});
    };
    const hear = async (): Promise<void> => {
      while (!(await bells.read()).done) if (!isOver) ring();
    };
    void hear()
      .catch(() => {})
      .then(() => {
        if (!isOver) ended();
      });
  }

  /** Idempotent. */
  close(): void {
    this.#end?.();
    this.#end = undefined;
    this.#socket.close();
  }
}
