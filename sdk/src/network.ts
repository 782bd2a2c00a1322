/** How far an address reaches: this machine, one wire (IPv6 zones), networks of one owner, the internet. */
export type AddressScope = "host" | "link" | "private" | "global";

/** One address of this machine. */
export interface HostAddress {
  /** Text form without zone or prefix. */
  readonly address: string;
  readonly family: 4 | 6;
  readonly prefixLength: number;
  /** Name of the interface, the zone of a link-local address: `eth0`. */
  readonly interface: string;
  readonly scope: AddressScope;
  /**
   * Whether a listener on every address should tell others of this one: it reaches beyond this machine and wire, stays
   * for a while, and its interface is up and no bridge of containers.
   */
  readonly isAdvertisable: boolean;
}

/** The machine's addresses as they come and go. */
export interface HostNetwork {
  /**
   * All of them now, what to advertise first: global IPv4, global IPv6, private IPv4, unique local IPv6, then link and
   * host; within each by interface, then address.
   */
  addresses(): readonly HostAddress[];
  /**
   * Why nothing is to be sent to this address (no name) when another node named it, as a record does: undefined where it may be. Loopback,
   * link-local, unspecified, multicast, broadcast and metadata addresses never may; private ones may where this machine has one of their kind,
   * or the operator allows it. To be asked after a name was resolved, each time. What the operator wrote down is never asked about.
   */
  refusal(address: string): string | undefined;
  /** Calls `fn` after an address came, went, or its interface did, within half a second. Ends with the plugin. */
  onChange(fn: () => void): void;
}
