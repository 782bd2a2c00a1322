/** Which process has a port of this machine, for the error that says so. Linux; where /proc says nothing the answer is nothing. */
import { readdirSync, readFileSync, readlinkSync } from "node:fs";

/** Columns of proc_pid_net(5). */
const LOCAL = 1;
const INODE = 9;
const TABLES = { tcp: ["tcp", "tcp6"], udp: ["udp", "udp6"] } as const;

/** `serf (pid 4711)`; undefined: nobody, or nobody who may be seen. */
export function portHolder(protocol: "tcp" | "udp", port: number): string | undefined {
  const suffix = `:${port.toString(16).toUpperCase().padStart(4, "0")}`;
  const inodes = new Set<string>();
  for (const table of TABLES[protocol])
    for (const row of linesOf(`/proc/net/${table}`)) {
      const columns = row.trim().split(/\s+/);
      const inode = columns[INODE];
      if (columns[LOCAL]?.endsWith(suffix) === true && inode !== undefined && inode !== "0")
        inodes.add(`socket:[${inode}]`);
    }
  if (inodes.size === 0) return undefined;
  for (const pid of listOf("/proc"))
    if (/^\d+$/.test(pid))
      for (const descriptor of listOf(`/proc/${pid}/fd`))
        try {
          if (inodes.has(readlinkSync(`/proc/${pid}/fd/${descriptor}`)))
            return `${linesOf(`/proc/${pid}/comm`)[0] ?? "a process"} (pid ${pid})`;
        } catch {
          // Closed meanwhile.
        }
  return undefined;
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
