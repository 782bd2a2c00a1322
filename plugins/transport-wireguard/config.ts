/** The plugin's table of the configuration. */
import { parseHostPort } from "@godwit/sdk";
import { tryParseIp } from "@godwit/sdk/netlink";
import { z } from "zod/mini";
import { parsePool } from "./addresses.ts";
import { HOSTS_MAX } from "./endpoint.ts";

function isHostPort(text: string): boolean {
  try {
    const { host, port } = parseHostPort(text);
    return (
      port > 0 && !host.includes("%") && (tryParseIp(host) !== undefined || /^[\w.-]{1,100}$/.test(host))
    );
  } catch {
    return false;
  }
}

export const wireguardConfig = z.strictObject({
  /** UDP port; 0: the system chooses one. */
  port: z._default(z.int().check(z.minimum(0), z.maximum(65_535)), 51_820),
  /** Where others may send to, instead of the addresses found; [] behind a NAT that lets nobody in. */
  advertise: z.optional(
    z
      .array(z.string().check(z.refine(isHostPort, { error: 'expected host:port, e.g. "192.0.2.7:51820"' })))
      .check(z.maxLength(HOSTS_MAX)),
  ),
  /** Name of the interface; by default one that is made of the node's id. */
  interface: z.optional(
    z.string().check(
      z.regex(/^[A-Za-z][A-Za-z0-9_-]{0,14}$/, {
        error: "expected the name of an interface, up to 15 letters, digits, _ and -",
      }),
    ),
  ),
  /** `kernel`, `userspace` (wireguard-go), or `auto`: the kernel's where it has one. */
  mode: z._default(z.enum(["auto", "kernel", "userspace"]), "auto"),
  /** The userspace program, by name or absolute path. */
  program: z._default(
    z.string().check(z.regex(/^[\w./+-]{1,200}$/, { error: "expected the name or the path of a program" })),
    "wireguard-go",
  ),
  /** Of the interface, bytes. */
  mtu: z._default(z.int().check(z.minimum(1_280), z.maximum(65_455)), 1_420),
  /** Seconds between packets that keep a NAT open, 0 for none; by default 25 towards the internet from behind a NAT. */
  keepalive: z.optional(z.int().check(z.minimum(0), z.maximum(65_535))),
  /** Agrees a preshared key with each linked node by ML-KEM-768. */
  preshared: z._default(z.boolean(), true),
  /** Nodes have an IPv4 address of this network as well; the same for all. */
  ipv4_pool: z.optional(
    z.string().check(
      z.refine((text) => parsePool(text) !== undefined, {
        error: 'expected a network of /8 to /29, e.g. "10.77.0.0/16"',
      }),
    ),
  ),
  /** Addresses of nodes that WireGuard does not reach lead to the neighbour on the way. */
  routed: z._default(z.boolean(), false),
  /** Turns IPv6 forwarding of the machine on, for nodes and devices that reach others through this one. */
  forward: z._default(z.boolean(), false),
});

export type WireguardConfig = z.infer<typeof wireguardConfig>;
