/**
 * Why an address cannot be listened on, in words that say who has it and what to do: one way for the node's own listeners and those of
 * plugins. Linux; what /proc does not tell, as inside of a locked-in process, is left out. Reads; opens and ends nothing.
 */
import { readdirSync, readFileSync, readlinkSync } from "node:fs";
import { BoundedMap } from "./bounded.ts";
import { tryParseIp } from "./netlink/ip.ts";

/** Columns of proc_pid_net(5). */
const [LOCAL, STATE, INODE] = [1, 3, 9] as const;
const TCP_LISTEN = "0A";
const TABLES = { tcp: ["tcp", "tcp6"], udp: ["udp", "udp6"] } as const;
/** Descriptors of other processes that are looked at for one answer: a machine with more of them keeps its secret. */
const LOOKED_AT_MAX = 50_000;
const PORT_MAX = 65_535;
/** From which on Linux asks for no capability, where nobody has set `net.ipv4.ip_unprivileged_port_start`. */
const UNPRIVILEGED_PORT = 1_024;

export interface ListenPlace {
  readonly protocol: "tcp" | "udp";
  /** An IP address. */
  readonly host: string;
  readonly port: number;
  /** Where another port is chosen, as people write it: `api.listen`. Undefined: nowhere. */
  readonly setting: string | undefined;
}

/**
 * Completes "cannot listen on ...: " with the reason and a remedy. `error` is what the operating system answered; of others the answer is
 * their message.
 */
export function whyNotListening(error: unknown, { protocol, host, port, setting }: ListenPlace): string {
  switch (codeOf(error)) {
    case "EADDRINUSE": {
      const { holder, free } = takenBy(protocol, port, host);
      const like = free === undefined ? "" : `, like ${free},`;
      return `port ${port} of ${host} is taken by ${holder}: end that${orChoose(`another port${like}`, setting)}`;
    }
    case "EADDRNOTAVAIL":
      return `this machine has no address ${host}: give it to an interface${orChoose("one that it has", setting)}`;
    case "EACCES":
      // A sandbox, or a policy of the system: no capability helps. Who locks a plugin in knows it by the code.
      if (port >= UNPRIVILEGED_PORT) return `the system refuses port ${port} to this program (EACCES)`;
      return `this user may not open port ${port}: run it with CAP_NET_BIND_SERVICE${orChoose("one from 1024 on", setting)}`;
    default:
      return error instanceof Error ? error.message : String(error);
  }
}

/** The same words for whoever may not know what else runs on this machine. */
export const withoutHolder = (words: string): string =>
  words.replace(/ is taken by .{1,100}?: end that/gs, " is taken: end that");

const orChoose = (what: string, setting: string | undefined): string =>
  setting === undefined ? "" : `, or choose ${what} in ${setting}`;

/** `PID 4711 (serf)` or `this node itself (PID 1234)`: who has a port, of whatever address. Undefined: nobody who may be seen. */
export function portHolder(protocol: "tcp" | "udp", port: number): string | undefined {
  const inodes = socketsOf(protocol).flatMap((socket) => (socket.port === port ? socket.inode : []));
  return inodes.length === 0 ? undefined : ownerOf(new Set(inodes));
}

interface Taken {
  readonly holder: string;
  /** The next port that nobody had. */
  readonly free: number | undefined;
}

/**
 * By sockets in the way: whoever listens late asks every two seconds. To look through all processes takes a while, and the same answer is
 * the same words, which are told once.
 */
const answers = new BoundedMap<string, Taken>({ name: "ports that were taken", max: 64 });

function takenBy(protocol: "tcp" | "udp", port: number, host: string): Taken {
  const sockets = socketsOf(protocol);
  const held = sockets.filter((socket) => socket.port === port && isInTheWay(socket.address, host));
  // Whoever has that very address is in the way more surely than one that has all of them, of one family perhaps.
  const exact = held.filter(({ address }) => !isEvery(address));
  const inodes = [...exact, ...held].map(({ inode }) => inode);
  const key = `${protocol} ${port} ${inodes.join(" ")}`;
  const known = answers.get(key);
  if (known !== undefined) return known;
  const holder =
    ownerOf(new Set(exact.map(({ inode }) => inode))) ??
    ownerOf(new Set(inodes)) ??
    "a program that this user may not see";
  const taken = new Set(sockets.map((socket) => socket.port));
  let free: number | undefined = port + 1;
  while (free <= PORT_MAX && taken.has(free)) free++;
  const answer = { holder, free: free > PORT_MAX ? undefined : free };
  answers.set(key, answer);
  return answer;
}

interface Held {
  /** As the kernel writes it: hex of words in the machine's order. */
  readonly address: string;
  readonly port: number;
  readonly inode: string;
}

/** Sockets that have a port: of TCP those that listen. */
function socketsOf(protocol: "tcp" | "udp"): Held[] {
  return TABLES[protocol].flatMap((table) =>
    linesOf(`/proc/net/${table}`).flatMap((row) => {
      const columns = row.trim().split(/\s+/);
      const [address, port] = (columns[LOCAL] ?? "").split(":");
      const inode = columns[INODE];
      if (address === undefined || port === undefined || inode === undefined || inode === "0") return [];
      if (protocol === "tcp" && columns[STATE] !== TCP_LISTEN) return [];
      return [{ address, port: parseInt(port, 16), inode }];
    }),
  );
}

/** The same address, or one of the two is every address. */
function isInTheWay(address: string, host: string): boolean {
  const wanted = kernelHex(host);
  if (wanted === undefined || isEvery(address) || isEvery(wanted)) return true;
  // An IPv4 address within an IPv6 socket.
  const mapped = "0000000000000000FFFF0000";
  return address.replace(mapped, "") === wanted.replace(mapped, "");
}

const isEvery = (address: string): boolean => /^0+$/.test(address);

/** Undefined: no address. Words of four bytes, each in the order of this machine, which is a little-endian one. */
function kernelHex(host: string): string | undefined {
  const bytes = tryParseIp(host.replace(/%.*$/, ""));
  if (bytes === undefined) return undefined;
  let hex = "";
  for (let at = 0; at < bytes.length; at += 4)
    hex += [...bytes.subarray(at, at + 4)]
      .reverse()
      .map((byte) => byte.toString(16).padStart(2, "0"))
      .join("");
  return hex.toUpperCase();
}

function ownerOf(inodes: ReadonlySet<string>): string | undefined {
  let left = inodes.size === 0 ? 0 : LOOKED_AT_MAX;
  for (const pid of left === 0 ? [] : listOf("/proc")) {
    if (!/^\d+$/.test(pid)) continue;
    for (const descriptor of listOf(`/proc/${pid}/fd`)) {
      if (left-- <= 0) return undefined;
      const inode = /^socket:\[(\d+)\]$/.exec(targetOf(`/proc/${pid}/fd/${descriptor}`))?.[1];
      if (inode === undefined || !inodes.has(inode)) continue;
      if (Number(pid) === process.pid) return `this node itself (PID ${pid})`;
      const name = linesOf(`/proc/${pid}/comm`)[0] ?? "";
      return `PID ${pid}${name === "" ? "" : ` (${name})`}`;
    }
  }
  return undefined;
}

const codeOf = (error: unknown): string | undefined =>
  error instanceof Error && "code" in error && typeof error.code === "string" ? error.code : undefined;

function targetOf(path: string): string {
  try {
    return readlinkSync(path);
  } catch {
    // Closed meanwhile.
    return "";
  }
}

function listOf(folder: string): string[] {
  try {
    return readdirSync(folder);
  } catch {
    return [];
  }
}

function linesOf(path: string): string[] {
  try {
    return readFileSync(path, "utf8").split("\n");
  } catch {
    return [];
  }
}
