/** Which interfaces of the machine are spoken on, and with which addresses: pure, over what the machine says of itself. */
import { BlockList } from "node:net";
import type { HostAddress } from "@godwit/sdk";

/** More are left alone: each costs a socket for each family. */
export const INTERFACES_MAX = 16;

/** What containers and virtual machines have on this side: nobody but them is there. */
const VIRTUAL =
  /^(?:veth|docker|br-[0-9a-f]{12}$|virbr|vnet|cni|podman|nerdctl|lxc|lxdbr|incusbr|flannel|cali|cilium|kube-|tun|tap|wg|ygg)/;

/** That an endpoint can name (`parseHostPort` of the SDK). */
const ZONE = /^[\w.-]{1,15}$/;

/** One socket to open: a family of an interface. */
export interface Place {
  readonly interface: string;
  readonly family: 4 | 6;
  /** Of the interface, both families, without zones. */
  readonly addresses: readonly string[];
  /** That the group is joined by: the first IPv4 address, or the zone. */
  readonly membership: string;
  /** Whether somebody with this address (without its zone) is in a network of the interface. */
  isOnLink(address: string): boolean;
}

/** `wanted`: names of interfaces, undefined for all that have neighbours. */
export function planPlaces(
  addresses: readonly HostAddress[],
  wanted: readonly string[] | undefined,
): Place[] {
  const names = [...new Set(addresses.map((address) => address.interface))];
  return names
    .filter((name) =>
      wanted === undefined
        ? addresses.some((address) => address.interface === name && hasNeighbours(address))
        : wanted.includes(name),
    )
    .slice(0, INTERFACES_MAX)
    .flatMap((name) =>
      placesOn(
        name,
        addresses.filter((address) => address.interface === name),
        wanted !== undefined,
      ),
    );
}

const hasNeighbours = ({ isAdvertisable, scope, interface: name }: HostAddress): boolean =>
  isAdvertisable || (scope === "link" && !VIRTUAL.test(name));

function placesOn(name: string, own: readonly HostAddress[], isNamed: boolean): Place[] {
  const networks = new BlockList();
  for (const { address, family, prefixLength } of own)
    networks.addSubnet(address, prefixLength, family === 4 ? "ipv4" : "ipv6");
  const isOnLink = (address: string) => networks.check(address, address.includes(":") ? "ipv6" : "ipv4");
  // What passes by soon is not told to others; whoever names an interface means what it has.
  const told = own.filter(({ isAdvertisable, scope }) => isNamed || isAdvertisable || scope === "link");
  const shared = { interface: name, addresses: told.map(({ address }) => address), isOnLink };
  const first = own.find(({ family }) => family === 4)?.address;
  const hasZone = ZONE.test(name) && own.some(({ family, scope }) => family === 6 && scope === "link");
  return [
    ...(first === undefined ? [] : [{ ...shared, family: 4 as const, membership: first }]),
    ...(hasZone ? [{ ...shared, family: 6 as const, membership: `::%${name}` }] : []),
  ];
}
