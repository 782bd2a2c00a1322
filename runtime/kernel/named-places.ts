/**
 * Whether this node connects to a place that another named: a record of a member, a hint, a punch, an invitation. Judged by the address
 * that is really connected to, at each dial, since a name may mean another one by then. Owns the rules and the count of what was skipped;
 * must never be asked about what the operator wrote down. docs/threat-model.md, "A member".
 */
import type { DialTerms, HostAddress } from "@godwit/sdk";
import { type AddressKind, addressKind, isWithin, literalOf, plainBytes } from "./address-kind.ts";
import { parseCidr } from "./cidr.ts";
import { isContainerBridge } from "./host-network.ts";
import type { NodeId } from "./ids.ts";
import type { Metrics } from "./metrics.ts";

/** Who named an endpoint. */
export interface Naming {
  /** `member`: its own record or its own signed word; `plugin`: a source of hints here; `invitation`: a token that an operator holds. */
  readonly by: "member" | "plugin" | "invitation";
  readonly nodeId?: NodeId | undefined;
  /** Where a plugin says that it heard it. */
  readonly interface?: string | undefined;
}

export interface NamedPlacesDeps {
  readonly metrics: Metrics;
  /** Of this machine, as they are now. */
  addresses(): readonly HostAddress[];
  /** Networks that the operator opens to what others name, in CIDR notation. */
  readonly allowed: readonly string[];
  /** Its last link led over loopback. */
  isOnThisMachine(id: NodeId): boolean;
  /** This node publishes loopback alone and is linked over loopback alone: its mesh is this machine's. */
  isMachineAlone(): boolean;
}

interface Own {
  readonly address: HostAddress;
  readonly bytes: Uint8Array | undefined;
}

export interface Refusal {
  readonly reason: Exclude<AddressKind, "global">;
  readonly why: string;
}

const inWords: Readonly<Record<Exclude<AddressKind, "global">, string>> = {
  private: "a private address, and this machine has none of that kind",
  link_local: "a link-local address that was not heard on an interface of this machine",
  loopback: "a loopback address of whoever is not on this machine",
  unspecified: "an unspecified address",
  multicast: "a multicast address",
  broadcast: "a broadcast address",
  metadata: "the address of a metadata service",
  invalid: "a reserved address",
};

export class NamedPlaces {
  readonly #deps: NamedPlacesDeps;
  #allowed: readonly string[] = [];
  #opened: readonly { readonly network: Uint8Array; readonly bits: number }[] = [];
  readonly #skipped;
  /** Of this machine, as bytes: thousands of endpoints are judged by them. */
  #own: { readonly of: readonly HostAddress[]; readonly parsed: readonly Own[] } = { of: [], parsed: [] };

  constructor(deps: NamedPlacesDeps) {
    this.#deps = deps;
    this.allowed = deps.allowed;
    this.#skipped = deps.metrics.counter("godwit_endpoints_skipped_total");
  }

  /** Networks that the operator opens to what others name, in CIDR notation. Set, they hold from the next dial on. */
  get allowed(): readonly string[] {
    return this.#allowed;
  }

  set allowed(allowed: readonly string[]) {
    this.#allowed = allowed;
    this.#opened = allowed.flatMap((text) => {
      const found = parseCidr(text);
      const network = found === undefined ? undefined : plainBytes(found.address);
      return found === undefined || network === undefined ? [] : [{ network, bits: found.bits }];
    });
  }

  /** What a dial asks about each address. One of the namings that allows it is enough. */
  termsOf(namings: readonly Naming[]): DialTerms & { readonly skipped: number } {
    let skipped = 0;
    return {
      refusal: (address) => {
        const refusal = this.refusalOf(address, namings);
        if (refusal === undefined) return undefined;
        skipped++;
        this.#skipped.add(1, { reason: refusal.reason });
        return refusal.why;
      },
      get skipped() {
        return skipped;
      },
    };
  }

  /** Of addresses that stand in a record those that may be connected to; the others are counted. */
  allowedOf(endpoints: readonly string[], namings: readonly Naming[]): readonly string[] {
    return endpoints.filter((endpoint) => {
      const refusal = this.refusalOfEndpoint(endpoint, namings);
      if (refusal !== undefined) this.#skipped.add(1, { reason: refusal.reason });
      return refusal === undefined;
    });
  }

  /** A path of another's choice was not requested. */
  notePath(): void {
    this.#skipped.add(1, { reason: "path" });
  }

  /** Undefined: it may be connected to. */
  refusalOf(address: string, namings: readonly Naming[]): Refusal | undefined {
    const kind = this.#isBroadcast(address) ? "broadcast" : addressKind(address);
    if (kind === "global" || namings.some((naming) => this.#isAllowed(kind, address, naming)))
      return undefined;
    return { reason: kind, why: inWords[kind] };
  }

  /** Of an endpoint that names an address itself; undefined for names too, which are judged when they are dialled. */
  refusalOfEndpoint(endpoint: string, namings: readonly Naming[]): Refusal | undefined {
    const address = literalOf(endpoint);
    return address === undefined ? undefined : this.refusalOf(address, namings);
  }

  #isAllowed(kind: Exclude<AddressKind, "global">, address: string, naming: Naming): boolean {
    switch (kind) {
      case "unspecified":
      case "multicast":
      case "broadcast":
      case "metadata":
      case "invalid":
        return false;
      case "private":
        return naming.by === "invitation" || this.#isOpened(address) || this.#hasPrivate(address);
      case "loopback":
        return naming.by === "invitation" || this.#isOpened(address) || this.#isLocal(naming);
      case "link_local":
        return naming.by === "invitation" || this.#isOpened(address) || this.#isHeard(address, naming);
    }
  }

  #isOpened(address: string): boolean {
    const bytes = plainBytes(address);
    return bytes !== undefined && this.#opened.some(({ network, bits }) => isWithin(bytes, network, bits));
  }

  #isLocal({ by, nodeId }: Naming): boolean {
    if (this.#deps.isMachineAlone()) return true;
    return by === "member" && nodeId !== undefined && this.#deps.isOnThisMachine(nodeId);
  }

  #isHeard(address: string, naming: Naming): boolean {
    const zone = /%(.*)$/.exec(address)?.[1];
    const heardOn = naming.interface ?? zone;
    if (naming.by !== "plugin" || heardOn === undefined || (zone !== undefined && zone !== heardOn))
      return false;
    const family = plainBytes(address)?.length === 4 ? 4 : 6;
    return this.#deps
      .addresses()
      .some((own) => own.interface === heardOn && own.scope === "link" && own.family === family);
  }

  #ownAddresses(): readonly Own[] {
    const of = this.#deps.addresses();
    if (this.#own.of !== of)
      this.#own = { of, parsed: of.map((address) => ({ address, bytes: plainBytes(address.address) })) };
    return this.#own.parsed;
  }

  /** Networks that this machine is in: by an address that it tells others of, or of the very network, an overlay's for instance. */
  #hasPrivate(address: string): boolean {
    const bytes = plainBytes(address)!;
    const family = bytes.length === 4 ? 4 : 6;
    return this.#ownAddresses().some(({ address: own, bytes: network }) => {
      if (own.scope !== "private" || own.family !== family || isContainerBridge(own.interface)) return false;
      return own.isAdvertisable || (network !== undefined && isWithin(bytes, network, own.prefixLength));
    });
  }

  /** The last address of a network that this machine is in. */
  #isBroadcast(address: string): boolean {
    const bytes = plainBytes(address);
    if (bytes?.length !== 4) return false;
    return this.#ownAddresses().some(({ address: { family, prefixLength }, bytes: network }) => {
      if (
        family !== 4 ||
        prefixLength >= 31 ||
        network === undefined ||
        !isWithin(bytes, network, prefixLength)
      )
        return false;
      const hostBits = 2 ** (32 - prefixLength) - 1;
      const value = new DataView(bytes.buffer, bytes.byteOffset).getUint32(0);
      return value % (hostBits + 1) === hostBits;
    });
  }
}

/** Of WebSocket endpoints: the one path that is requested on another's word. docs/protocol/websocket.md */
const WEB_PATH = "/godwit";

export function hasOtherPath(endpoint: string): boolean {
  // To a URL a backslash is a slash, and a path may begin behind a question mark as well.
  return /^wss?:/i.test(endpoint) && !new RegExp(`^wss?://[^/\\\\?#]+${WEB_PATH}$`).test(endpoint);
}

export function isLoopbackEndpoint(endpoint: string): boolean {
  const address = literalOf(endpoint);
  return address !== undefined && addressKind(address) === "loopback";
}

/** Of its link: whoever comes through a proxy of the web on this machine has its address, and is not there. */
export const isLoopbackLink = (session: {
  readonly remoteEndpoint: string;
  readonly direction: string;
}): boolean => {
  const isProxied = session.direction === "inbound" && /^wss?:/.test(session.remoteEndpoint);
  return isLoopbackEndpoint(session.remoteEndpoint) && !isProxied;
};
