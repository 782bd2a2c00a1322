/** The table `[machine]`: what PID 1 does when Godwit is the whole system (docs/boot.md). Part of schema.ts. */
import { isIP } from "node:net";
import * as z from "zod";
import { duration, expectations } from "./schema-values.ts";

/** One interface of `machine.network`. */
export interface InterfacePlan {
  /** Name, or a beginning with `*`. */
  readonly name: string;
  readonly mode: "dhcp" | "static" | "off";
  /** IPv4 or IPv6 with prefix lengths; only of `static`. */
  readonly addresses: readonly { readonly address: string; readonly prefixLength: number }[];
  readonly gateway: string | undefined;
}

const NAME_PATTERN = /^[A-Za-z0-9_.:-]{1,15}\*?$/;
const ADDRESSES_MAX = 16;

/** `eth0=dhcp`, `en*=off`, `eth1=192.0.2.5/24,192.0.2.1` (addresses, then a gateway without prefix); undefined for anything else. */
export function parseInterfacePlan(text: string): InterfacePlan | undefined {
  const at = text.indexOf("=");
  const name = text.slice(0, at);
  const rest = text.slice(at + 1);
  if (at < 1 || !NAME_PATTERN.test(name)) return undefined;
  if (rest === "dhcp" || rest === "off") return { name, mode: rest, addresses: [], gateway: undefined };
  const addresses: { address: string; prefixLength: number }[] = [];
  let gateway: string | undefined;
  for (const part of rest.split(",")) {
    const match = /^([0-9a-fA-F:.]+)(?:\/(\d{1,3}))?$/.exec(part);
    const family = match === null ? 0 : isIP(match[1]!);
    if (match === null || family === 0 || gateway !== undefined) return undefined;
    if (match[2] === undefined) gateway = match[1]!;
    else if (Number(match[2]) > (family === 4 ? 32 : 128)) return undefined;
    else addresses.push({ address: match[1]!, prefixLength: Number(match[2]) });
  }
  if (addresses.length === 0 || addresses.length > ADDRESSES_MAX) return undefined;
  return { name, mode: "static", addresses, gateway };
}

/** `192.0.2.1`, `2001:db8::1`, `192.0.2.1:10123` or `[2001:db8::1]:123`; undefined for anything else. */
export function parseTimeServer(
  text: string,
): { readonly address: string; readonly port: number } | undefined {
  if (isIP(text) !== 0) return { address: text, port: SNTP_PORT };
  const match = /^(?:\[([^\]]+)\]|([^:]+)):(\d{1,5})$/.exec(text);
  const address = match?.[1] ?? match?.[2] ?? "";
  const port = Number(match?.[3]);
  return isIP(address) === (match?.[1] === undefined ? 4 : 6) && port > 0 && port <= 65_535
    ? { address, port }
    : undefined;
}
const SNTP_PORT = 123;

export const STATE_DEVICE_PATTERN = /^(?:\/dev\/[A-Za-z0-9_/-]{1,64}|LABEL=[A-Za-z0-9_.-]{1,16})$/;
const HOST_PATTERN = /^[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?$/;

/** The pieces of schema.ts that this table is made of, handed in because that module is still being made. */
export function machineTable() {
  const address = (text: string) => isIP(text) !== 0;
  const list = (expected: string, isRight: (text: string) => boolean, most: number) =>
    z
      .array(z.string().max(256).refine(isRight))
      .max(most)
      .register(expectations, { type: "list", expected })
      .prefault([]);
  const program = z.strictObject({
    name: z
      .string()
      .regex(/^[a-z][a-z0-9-]{0,31}$/)
      .register(expectations, { type: "text", expected: "lower-case letters, digits and hyphens" })
      .describe("How logs and the rescue console call it."),
    command: z
      .array(z.string().min(1).max(4_096))
      .min(1)
      .max(64)
      .register(expectations, {
        type: "list",
        expected: "a program by its absolute path, then its arguments",
      })
      .describe("Program and arguments. No shell looks at it."),
    needs_clock: z
      .boolean()
      .register(expectations, { type: "true or false", expected: "true or false" })
      .default(false)
      .describe("Start it only once the clock can be believed, as Tor needs it."),
  });
  return z.strictObject({
    hostname: z
      .string()
      .regex(HOST_PATTERN)
      .register(expectations, {
        type: "host name",
        expected: "one label of letters, digits and hyphens",
        defaultText: "the callsign in lower case, else godwit",
      })
      .optional()
      .describe("Name of the machine on its networks."),
    state: z
      .string()
      .regex(STATE_DEVICE_PATTERN)
      .register(expectations, {
        type: "device",
        expected: 'a block device like "/dev/vda", or "LABEL=perm" for an ext4 file system of that label',
        defaultText: "none: what the node keeps is gone after a restart",
      })
      .optional()
      .describe(
        "Disk with a file system (ext4, else vfat) that is mounted at /var/lib/godwit. While it cannot be mounted the node is not started: what it would accept could be lost.",
      ),
    network: list(
      'interfaces like "eth0=dhcp", "eth1=192.0.2.5/24,192.0.2.1" or "eth2=off"; the name may end in *',
      (text) => parseInterfacePlan(text) !== undefined,
      64,
    ).describe(
      "What each interface does; the first that fits counts, and one that none fits uses DHCP. IPv6 configures itself from router advertisements wherever an interface is not off.",
    ),
    name_servers: list("a list of IP addresses", address, 3).describe(
      "Name servers, before those that DHCP tells.",
    ),
    time_servers: list(
      'a list of IP addresses, with a port where it is not 123: "192.0.2.1", "192.0.2.1:10123"',
      (text) => parseTimeServer(text) !== undefined,
      8,
    ).describe(
      "Time servers (SNTP), before those that DHCP tells. Without any the clock is only kept from going back.",
    ),
    modules: list("names of kernel modules", (text) => /^[A-Za-z0-9_-]{1,64}$/.test(text), 64).describe(
      "Kernel modules to load beside those that the image lists.",
    ),
    watchdog: z
      .union([z.literal("off"), duration(20_000, "20s", 600_000, "10m")])
      .register(expectations, {
        type: 'duration or "off"',
        expected: 'a duration from 20s to 10m like "60s", or "off"',
      })
      .prefault("60s")
      .describe(
        "How long the node may be unhealthy before the hardware resets the machine. A hanging node is restarted after half of it. Hardware with a shorter limit uses its own.",
      ),
    rescue: z
      .boolean()
      .register(expectations, { type: "true or false", expected: "true or false" })
      .default(false)
      .describe(
        "Whether whoever sits at the console may look at logs and stop, start and restart things. There is no shell.",
      ),
    programs: z
      .array(program)
      .max(16)
      .register(expectations, { type: "tables", expected: "tables [[machine.programs]], at most 16" })
      .prefault([])
      .describe("Programs that are kept running beside the node, such as tor, wireguard-go or yggdrasil."),
  });
}
