/**
 * Generic netlink: families by name, each with its commands (Documentation/userspace-api/netlink/intro-specs of Linux).
 *
 *   body: | command 1 | version 1 | 0 2 | attributes ...
 */
import {
  attributeList,
  malformed,
  NetlinkBuilder,
  NetlinkFlag,
  type NetlinkMessage,
  parseAttributes,
  readText,
  readU16,
  readU32,
} from "./message.ts";
import { hasErrno, type NetlinkSocket, type RequestOptions } from "./socket.ts";

/** GENL_ID_CTRL: the family of families. */
const CONTROL_FAMILY = 16;
const CONTROL_VERSION = 1;
const GET_FAMILY = 3;
const ControlAttribute = { familyId: 1, familyName: 2, version: 3, groups: 7 } as const;
const GroupAttribute = { name: 1, id: 2 } as const;
const NAME_BYTES_MAX = 15;
export const GENERIC_HEADER_BYTES = 4;

export interface GenericFamily {
  /** Type of its messages. */
  readonly id: number;
  readonly name: string;
  readonly version: number;
  /** Multicast groups, for `NetlinkSocket.join`. */
  readonly groups: ReadonlyMap<string, number>;
}

/** A request to a family; attributes follow. `flags` besides `request`. */
export const buildGeneric = (
  family: number,
  command: number,
  version: number,
  flags: number,
): NetlinkBuilder => new NetlinkBuilder(family, NetlinkFlag.request | flags).u8(command).u8(version).u16(0);

export const buildGetFamily = (name: string): NetlinkBuilder =>
  buildGeneric(CONTROL_FAMILY, GET_FAMILY, CONTROL_VERSION, NetlinkFlag.ack).attributeText(
    ControlAttribute.familyName,
    name,
  );

/** Throws GODWIT_DECODE. */
export function parseFamily({ body }: NetlinkMessage): GenericFamily {
  const attributes = parseAttributes(body, GENERIC_HEADER_BYTES);
  const id = readU16(attributes, ControlAttribute.familyId);
  const name = readText(attributes, ControlAttribute.familyName, NAME_BYTES_MAX);
  if (id === undefined || name === undefined) throw malformed("a family without id or name");
  const groups = new Map<string, number>();
  const list = attributes.get(ControlAttribute.groups);
  for (const { value } of list === undefined ? [] : attributeList(list)) {
    const group = parseAttributes(value);
    const groupName = readText(group, GroupAttribute.name, NAME_BYTES_MAX);
    const number = readU32(group, GroupAttribute.id);
    if (groupName !== undefined && number !== undefined) groups.set(groupName, number);
  }
  return { id, name, version: readU32(attributes, ControlAttribute.version) ?? 0, groups };
}

/** Undefined where the kernel has no such family, or cannot load it. Rejects with GODWIT_NETLINK. */
export async function resolveFamily(
  socket: NetlinkSocket,
  name: string,
  options: RequestOptions,
): Promise<GenericFamily | undefined> {
  try {
    const [answer] = await socket.request(`family ${name}`, () => buildGetFamily(name), options);
    return answer === undefined ? undefined : parseFamily(answer);
  } catch (error) {
    if (hasErrno(error, "ENOENT")) return undefined;
    throw error;
  }
}
