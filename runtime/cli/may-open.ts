/** Who may open a node's control socket, for whoever may not: in words, with what to type instead. Reads three files, changes nothing. */
import { readFileSync, statSync } from "node:fs";

/** Where systemd takes users from that it makes up (systemd.exec(5), DynamicUser=). */
const DYNAMIC_UIDS = { first: 61_184, last: 65_519 } as const;
const GROUP_WRITES = 0o020;
/** Whoever is root finds these without being told. */
const KNOWN_FOLDERS = ["/run/godwit/", "/var/lib/godwit/"];

export interface SocketOwner {
  readonly uid: number;
  readonly gid: number;
  readonly mode: number;
}

/** `passwd` and `group` as in /etc. `command` is what was typed, without `godwit`. */
export function accessWords(
  path: string,
  command: string,
  owner: SocketOwner | undefined,
  { passwd, group }: { readonly passwd: string; readonly group: string },
): string {
  const socket = KNOWN_FOLDERS.some((folder) => path.startsWith(folder)) ? "" : ` --socket ${path}`;
  const run = `run: sudo godwit ${command}${socket}`;
  if (owner === undefined) return `this user may not open ${path}; ${run}`;
  const { uid, gid, mode } = owner;
  const isDynamic = uid >= DYNAMIC_UIDS.first && uid <= DYNAMIC_UIDS.last;
  const named = nameOf(passwd, uid);
  const whose = named ?? (isDynamic ? "a user that systemd made up for it" : `user ${uid}`);
  const members = (mode & GROUP_WRITES) === 0 ? undefined : (nameOf(group, gid) ?? `${gid}`);
  const others = members === undefined ? "" : `, or join the group ${members}`;
  return `this user may not open ${path}, which is of ${whose}; ${run}${others}`;
}

/** Of this machine. */
export function whoMayOpen(path: string, command: string): string {
  return accessWords(path, command, ownerOf(path), {
    passwd: read("/etc/passwd"),
    group: read("/etc/group"),
  });
}

/** Undefined where a folder on the way keeps this user out as well. */
function ownerOf(path: string): SocketOwner | undefined {
  try {
    return statSync(path);
  } catch {
    return undefined;
  }
}

function read(path: string): string {
  try {
    return readFileSync(path, "utf8");
  } catch {
    return "";
  }
}

/** `name:x:id:...`, a line each. */
function nameOf(table: string, id: number): string | undefined {
  for (const line of table.split("\n")) {
    const [name, , number] = line.split(":");
    if (number === String(id) && name !== undefined && name !== "") return name;
  }
  return undefined;
}
