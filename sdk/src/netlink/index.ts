/**
 * Linux's netlink for programs that must do without `ip` and `wg`: codecs that are pure and checked, a socket that never
 * blocks, rtnetlink (interfaces, addresses, routes) and generic netlink. Knows nothing of what it is used for.
 */
export { errnoName } from "../libc.ts";
export {
  attributeList,
  malformed,
  NetlinkBuilder,
  NetlinkControl,
  NetlinkFlag,
  parseAttributes,
  parseMessages,
  parseOutcome,
  readText,
  readU16,
  readU32,
  readU64,
  type NetlinkAttributes,
  type NetlinkMessage,
} from "./message.ts";
export { formatIp, parseIp, tryParseIp } from "./ip.ts";
export {
  hasErrno,
  NetlinkError,
  NetlinkSocket,
  type NetlinkProtocol,
  type RequestOptions,
} from "./socket.ts";
export {
  AddressFlag,
  buildAddAddress,
  buildAddLink,
  buildAddRoute,
  buildChangeLink,
  buildDeleteAddress,
  buildDeleteLink,
  buildDeleteRoute,
  buildDump,
  FAMILY_V4,
  FAMILY_V6,
  LINK_NAME_BYTES_MAX,
  LinkFlag,
  parseAddress,
  parseAll,
  parseLink,
  parseRoute,
  RouteGroup,
  RouteType,
  type AddressFacts,
  type AddressOnLink,
  type LinkChange,
  type LinkFacts,
  type NewLink,
  type Route,
  type RouteFacts,
} from "./route.ts";
export { RouteNews, Rtnetlink } from "./rtnetlink.ts";
export {
  buildGeneric,
  buildGetFamily,
  GENERIC_HEADER_BYTES,
  parseFamily,
  resolveFamily,
  type GenericFamily,
} from "./generic.ts";
