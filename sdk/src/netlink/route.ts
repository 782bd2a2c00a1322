/**
 * rtnetlink (rtnetlink(7)): interfaces, addresses and routes. Pure codecs here; `Rtnetlink` of rtnetlink.ts speaks them.
 *
 *   body of a link:     | family 1 | 0 1 | type 2 | index 4 | flags 4 | change 4 | attributes ...
 *   body of an address: | family 1 | prefix 1 | flags 1 | scope 1 | index 4 | attributes ...
 *   body of a route:    | family 1 | destination prefix 1 | source prefix 1 | tos 1 | table 1 | protocol 1 | scope 1 | type 1 |
 *                       | flags 4 | attributes ...
 */
import {
  malformed,
  NetlinkBuilder,
  NetlinkFlag,
  type NetlinkMessage,
  parseAttributes,
  readText,
  readU32,
  viewOf,
} from "./message.ts";

export const RouteType = {
  newLink: 16,
  delLink: 17,
  getLink: 18,
  newAddress: 20,
  delAddress: 21,
  getAddress: 22,
  newRoute: 24,
  delRoute: 25,
  getRoute: 26,
} as const;

/** Multicast groups of notifications, as bits for `NetlinkSocket.open`. */
export const RouteGroup = {
  link: 0x1,
  ipv4Address: 0x10,
  ipv4Route: 0x40,
  ipv6Address: 0x100,
  ipv6Route: 0x400,
} as const;

/** `running`: it has carrier (RFC 2863 operational state up). */
export const LinkFlag = { up: 0x1, loopback: 0x8, pointToPoint: 0x10, running: 0x40 } as const;
export const AddressFlag = {
  temporary: 0x01,
  noDuplicateCheck: 0x02,
  failed: 0x08,
  deprecated: 0x20,
  tentative: 0x40,
} as const;

export const FAMILY_V4 = 2;
export const FAMILY_V6 = 10;
/** IFNAMSIZ, without the NUL. */
export const LINK_NAME_BYTES_MAX = 15;
const ALIAS_BYTES_MAX = 255;
const KIND_BYTES_MAX = 32;

const LinkAttribute = { name: 3, mtu: 4, linkInfo: 18, alias: 20 } as const;
const LinkInfo = { kind: 1, data: 2 } as const;
const AddressAttribute = { address: 1, local: 2, flags: 8 } as const;
const RouteAttribute = {
  destination: 1,
  outgoing: 4,
  gateway: 5,
  priority: 6,
  preferredSource: 7,
  table: 15,
} as const;
const LINK_BYTES = 16;
const ADDRESS_BYTES = 8;
const ROUTE_BYTES = 12;
const TABLE_MAIN = 254;
const ROUTE_PROTOCOL_BOOT = 3;
const SCOPE_UNIVERSE = 0;
const SCOPE_LINK = 253;
/** Of a route that is to go: whatever scope it has. */
const SCOPE_ANY = 255;
const ROUTE_UNICAST = 1;

export interface LinkFacts {
  readonly index: number;
  readonly flags: number;
  readonly name: string;
  /** Bytes; undefined where the kernel does not tell. */
  readonly mtu: number | undefined;
  /** `veth`, `bridge`, `wireguard`, `tun`; undefined for hardware and loopback. */
  readonly kind: string | undefined;
  /** Free text that anybody with the right may set. */
  readonly alias: string | undefined;
}

export interface AddressFacts {
  readonly index: number;
  readonly family: 4 | 6;
  readonly prefixLength: number;
  readonly flags: number;
  /** 4 or 16 bytes, owned by the caller. */
  readonly address: Uint8Array;
}

export interface RouteFacts {
  readonly family: 4 | 6;
  /** 4 or 16 bytes, owned by the caller; zeros with prefix length 0 for the default route. */
  readonly destination: Uint8Array;
  readonly prefixLength: number;
  /** 254 is the main table. */
  readonly table: number;
  /** Index of the link that packets leave by; undefined where there are several, or none. */
  readonly index: number | undefined;
  readonly gateway: Uint8Array | undefined;
  readonly metric: number | undefined;
  /** 1: a usual one; others are local, broadcast, unreachable, ... */
  readonly type: number;
}

const request = (type: number, flags = 0): NetlinkBuilder =>
  new NetlinkBuilder(type, NetlinkFlag.request | NetlinkFlag.ack | flags);
const familyOf = (address: Uint8Array): number => (address.length === 4 ? FAMILY_V4 : FAMILY_V6);
const linkBody = (builder: NetlinkBuilder, index: number, flags = 0, change = 0): NetlinkBuilder =>
  builder.u8(0).u8(0).u16(0).u32(index).u32(flags).u32(change);

/** Asks for all links, addresses (both families) or routes (both families). */
export function buildDump(type: 18 | 22 | 26): NetlinkBuilder {
  const bytes =
    type === RouteType.getLink ? LINK_BYTES : type === RouteType.getAddress ? ADDRESS_BYTES : ROUTE_BYTES;
  return new NetlinkBuilder(type, NetlinkFlag.request | NetlinkFlag.dump).raw(new Uint8Array(bytes));
}

export interface NewLink {
  readonly name: string;
  /** `wireguard`, `bridge`, `dummy`, `veth`, ... */
  readonly kind: string;
  readonly mtu?: number;
  /** Writes what the kind wants to know, inside IFLA_INFO_DATA. */
  readonly data?: (inside: NetlinkBuilder) => void;
}

/** EEXIST where the name is taken, EOPNOTSUPP where the kernel has no such kind. */
export function buildAddLink({ name, kind, mtu, data }: NewLink): NetlinkBuilder {
  const builder = linkBody(
    request(RouteType.newLink, NetlinkFlag.create | NetlinkFlag.exclusive),
    0,
  ).attributeText(LinkAttribute.name, name);
  if (mtu !== undefined) builder.attributeU32(LinkAttribute.mtu, mtu);
  const fill = (info: NetlinkBuilder) => {
    info.attribute(LinkInfo.kind, new TextEncoder().encode(kind));
    if (data !== undefined) info.nest(LinkInfo.data, data, false);
  };
  return builder.nest(LinkAttribute.linkInfo, fill, false);
}

export const buildDeleteLink = (index: number): NetlinkBuilder => linkBody(request(RouteType.delLink), index);

export interface LinkChange {
  readonly isUp?: boolean;
  readonly mtu?: number;
  /** Only of a link that is down. */
  readonly name?: string;
  readonly alias?: string;
}

export function buildChangeLink(index: number, { isUp, mtu, name, alias }: LinkChange): NetlinkBuilder {
  const change = isUp === undefined ? 0 : LinkFlag.up;
  const builder = linkBody(request(RouteType.newLink), index, isUp === true ? LinkFlag.up : 0, change);
  if (name !== undefined) builder.attributeText(LinkAttribute.name, name);
  if (mtu !== undefined) builder.attributeU32(LinkAttribute.mtu, mtu);
  // Without its NUL, or the kernel keeps that too.
  if (alias !== undefined) builder.attribute(LinkAttribute.alias, new TextEncoder().encode(alias));
  return builder;
}

export interface AddressOnLink {
  readonly index: number;
  /** 4 or 16 bytes. */
  readonly address: Uint8Array;
  readonly prefixLength: number;
  /** IPv6: usable at once. */
  readonly skipsDuplicateCheck?: boolean;
}

/** EEXIST where it is there already. */
export function buildAddAddress({
  index,
  address,
  prefixLength,
  skipsDuplicateCheck,
}: AddressOnLink): NetlinkBuilder {
  const flags = skipsDuplicateCheck === true ? AddressFlag.noDuplicateCheck : 0;
  const builder = request(RouteType.newAddress, NetlinkFlag.create | NetlinkFlag.exclusive);
  return addressBody(builder, { index, address, prefixLength }, flags);
}

/** EADDRNOTAVAIL where it is not there. */
export const buildDeleteAddress = (address: AddressOnLink): NetlinkBuilder =>
  addressBody(request(RouteType.delAddress), address, 0);

const addressBody = (
  builder: NetlinkBuilder,
  { index, address, prefixLength }: AddressOnLink,
  flags: number,
): NetlinkBuilder =>
  builder
    .u8(familyOf(address))
    .u8(prefixLength)
    .u8(flags)
    .u8(SCOPE_UNIVERSE)
    .u32(index)
    .attribute(AddressAttribute.local, address)
    .attribute(AddressAttribute.address, address);

export interface Route {
  /** 4 or 16 bytes; zeros with prefix length 0 for the default route. */
  readonly destination: Uint8Array;
  readonly prefixLength: number;
  /** Link that packets leave by; may be left out beside a gateway. */
  readonly index?: number;
  readonly gateway?: Uint8Array;
  /** Address that this machine speaks from. */
  readonly source?: Uint8Array;
  /** Of two routes the lower is taken. */
  readonly metric?: number;
}

/** EEXIST where there is one to that destination with that metric, unless `replaces`. */
export const buildAddRoute = (route: Route, replaces = false): NetlinkBuilder =>
  routeBody(
    request(
      RouteType.newRoute,
      NetlinkFlag.create | (replaces ? NetlinkFlag.replace : NetlinkFlag.exclusive),
    ),
    route,
    {
      protocol: ROUTE_PROTOCOL_BOOT,
      scope: route.destination.length === 4 && route.gateway === undefined ? SCOPE_LINK : SCOPE_UNIVERSE,
      type: ROUTE_UNICAST,
    },
  );

/** ESRCH where it is not there. */
export const buildDeleteRoute = (route: Route): NetlinkBuilder =>
  routeBody(request(RouteType.delRoute), route, { protocol: 0, scope: SCOPE_ANY, type: 0 });

function routeBody(
  builder: NetlinkBuilder,
  { destination, prefixLength, index, gateway, source, metric }: Route,
  head: { readonly protocol: number; readonly scope: number; readonly type: number },
): NetlinkBuilder {
  builder
    .u8(familyOf(destination))
    .u8(prefixLength)
    .u8(0)
    .u8(0)
    .u8(TABLE_MAIN)
    .u8(head.protocol)
    .u8(head.scope)
    .u8(head.type)
    .u32(0);
  if (prefixLength > 0) builder.attribute(RouteAttribute.destination, destination);
  if (gateway !== undefined) builder.attribute(RouteAttribute.gateway, gateway);
  if (source !== undefined) builder.attribute(RouteAttribute.preferredSource, source);
  if (metric !== undefined) builder.attributeU32(RouteAttribute.priority, metric);
  if (index !== undefined) builder.attributeU32(RouteAttribute.outgoing, index);
  return builder;
}

/** Body of `newLink` or `delLink`. Throws GODWIT_DECODE. */
export function parseLink(body: Uint8Array): LinkFacts {
  const attributes = parseAttributes(body, LINK_BYTES);
  const name = readText(attributes, LinkAttribute.name, LINK_NAME_BYTES_MAX);
  if (name === undefined) throw malformed("a link without a name");
  const info = attributes.get(LinkAttribute.linkInfo);
  const view = viewOf(body);
  return {
    index: view.getUint32(4, true),
    flags: view.getUint32(8, true),
    name,
    mtu: readU32(attributes, LinkAttribute.mtu),
    kind: info === undefined ? undefined : readText(parseAttributes(info), LinkInfo.kind, KIND_BYTES_MAX),
    alias: readText(attributes, LinkAttribute.alias, ALIAS_BYTES_MAX),
  };
}

/** Body of `newAddress` or `delAddress`; undefined for families other than IP. Throws GODWIT_DECODE. */
export function parseAddress(body: Uint8Array): AddressFacts | undefined {
  const attributes = parseAttributes(body, ADDRESS_BYTES);
  const family = body[0];
  if (family !== FAMILY_V4 && family !== FAMILY_V6) return undefined;
  // On a point-to-point link `address` is the far end's; `local` is always ours where it is given.
  const address = attributes.get(AddressAttribute.local) ?? attributes.get(AddressAttribute.address);
  const bytes = family === FAMILY_V4 ? 4 : 16;
  if (address?.length !== bytes) throw malformed("an address of the wrong length");
  return {
    index: viewOf(body).getUint32(4, true),
    family: family === FAMILY_V4 ? 4 : 6,
    prefixLength: Math.min(body[1]!, bytes * 8),
    flags: readU32(attributes, AddressAttribute.flags) ?? body[2]!,
    address: new Uint8Array(address),
  };
}

/** Body of `newRoute` or `delRoute`; undefined for families other than IP. Throws GODWIT_DECODE. */
export function parseRoute(body: Uint8Array): RouteFacts | undefined {
  const attributes = parseAttributes(body, ROUTE_BYTES);
  const family = body[0];
  if (family !== FAMILY_V4 && family !== FAMILY_V6) return undefined;
  const bytes = family === FAMILY_V4 ? 4 : 16;
  const destination = attributes.get(RouteAttribute.destination);
  const gateway = attributes.get(RouteAttribute.gateway);
  for (const address of [destination, gateway])
    if (address !== undefined && address.length !== bytes) throw malformed("a route with a wrong address");
  return {
    family: family === FAMILY_V4 ? 4 : 6,
    destination: destination === undefined ? new Uint8Array(bytes) : new Uint8Array(destination),
    prefixLength: Math.min(body[1]!, bytes * 8),
    table: readU32(attributes, RouteAttribute.table) ?? body[4]!,
    index: readU32(attributes, RouteAttribute.outgoing),
    gateway: gateway === undefined ? undefined : new Uint8Array(gateway),
    metric: readU32(attributes, RouteAttribute.priority),
    type: body[7]!,
  };
}

/** Those of `type`, understood; what means nothing here is left out. */
export const parseAll = <Facts>(
  messages: readonly NetlinkMessage[],
  type: number,
  parse: (body: Uint8Array) => Facts | undefined,
): Facts[] =>
  messages.flatMap((message) => {
    const facts = message.type === type ? parse(message.body) : undefined;
    return facts === undefined ? [] : [facts];
  });
