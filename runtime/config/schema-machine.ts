/** The table `[machine]`: what PID 1 does when Godwit is the whole system (docs/boot.md). Part of schema.ts. */
import * as z from "zod";
import { isAddress, isInterfacePlan, isModuleName, isTimeServer } from "./parts.ts";
import { duration, expectations } from "./schema-values.ts";

export const STATE_DEVICE_PATTERN = /^(?:\/dev\/[A-Za-z0-9_/-]{1,64}|LABEL=[A-Za-z0-9_.-]{1,16})$/;
const HOST_PATTERN = /^[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?$/;

/** The pieces of schema.ts that this table is made of, handed in because that module is still being made. */
export function machineTable() {
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
      isInterfacePlan,
      64,
    ).describe(
      "What each interface does; the first that fits counts, and one that none fits uses DHCP. IPv6 configures itself from router advertisements wherever an interface is not off.",
    ),
    name_servers: list("a list of IP addresses", isAddress, 3).describe(
      "Name servers, before those that DHCP tells.",
    ),
    time_servers: list(
      'a list of IP addresses, with a port where it is not 123: "192.0.2.1", "192.0.2.1:10123"',
      isTimeServer,
      8,
    ).describe(
      "Time servers (SNTP), before those that DHCP tells. Without any the clock is only kept from going back.",
    ),
    modules: list("names of kernel modules", isModuleName, 64).describe(
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
