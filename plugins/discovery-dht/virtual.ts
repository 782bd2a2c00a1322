/**
 * IPv6 addresses for a library that knows IPv4 alone: each has a stand-in of 240.0.0.0/4, which no machine has. The table is bounded, the
 * address that was used longest ago goes first; a stand-in that means nothing any more is never sent to, and nobody else ever sees one.
 */
import { BoundedMap } from "@godwit/sdk/bounded";

/** Several times the contacts that the library's tables and searches hold. */
export const ADDRESSES_MAX = 8_192;
const FIRST = 0xf000_0001;
const SPAN = 0x0fff_fffe;

export class VirtualAddresses {
  readonly #byAddress = new BoundedMap<string, string>({
    name: "stand-ins of IPv6 addresses",
    max: ADDRESSES_MAX,
    evicted: (_address, standIn) => void this.#byStandIn.delete(standIn),
  });
  readonly #byStandIn = new Map<string, string>();
  #next = 0;

  get size(): number {
    return this.#byAddress.size;
  }

  /** An IPv4 address stands for itself. */
  standInOf(host: string): string {
    if (!host.includes(":")) return host;
    const known = this.#byAddress.get(host);
    const standIn = known ?? this.#fresh();
    this.#byAddress.renew(host, standIn);
    this.#byStandIn.set(standIn, host);
    return standIn;
  }

  /** Undefined: a stand-in that was given up. */
  addressOf(standIn: string): string | undefined {
    return isStandIn(standIn) ? this.#byStandIn.get(standIn) : standIn;
  }

  /** In the order of numbers, so that one that was given up means nobody else for 2^28 addresses. */
  #fresh(): string {
    const value = FIRST + (this.#next++ % SPAN);
    return [value >>> 24, (value >>> 16) & 255, (value >>> 8) & 255, value & 255].join(".");
  }
}

/** Whether it lies in 240.0.0.0/4: nothing that comes from the network may. */
export const isStandIn = (host: string): boolean => {
  const first = Number(host.split(".")[0]);
  return first >= 240;
};
