/**
 * What radios in the LAN multicast (`enabled_protocols` of their network): one packet a datagram, as it was on the air. Bound to the group, so that nothing that is sent to this machine alone
 * is taken. Passive: joins the group and sends nothing.
 */
import { createSocket, type Socket } from "node:dgram";
import { GodwitError, type HostAddress, type HostNetwork } from "@godwit/sdk";
import { claimDescriptor } from "@godwit/sdk/places";
import { decodePacket } from "./protocol.ts";
import type { OpenTap } from "./tap.ts";
import { unreachable } from "./wire.ts";

/** More are left alone; Linux allows 20 groups a socket. */
const INTERFACES_MAX = 16;

/** IPv4 addresses to join the group by, one an interface. `wanted`: names of interfaces, undefined for all but loopback. */
export function membershipsOf(
  addresses: readonly HostAddress[],
  wanted: readonly string[] | undefined,
): string[] {
  const firsts = new Map<string, string>();
  for (const { address, family, scope, interface: name } of addresses)
    if (family === 4 && !firsts.has(name) && (wanted?.includes(name) ?? scope !== "host"))
      firsts.set(name, address);
  return [...firsts.values()].slice(0, INTERFACES_MAX).sort();
}

/** A tap ends when the addresses of this machine change, and is opened again with the new ones. */
export const openUdp =
  (
    { host: group, port }: { readonly host: string; readonly port: number },
    network: Pick<HostNetwork, "addresses">,
    interfaces: readonly string[] | undefined,
    watch: (fn: () => void) => () => void,
  ): OpenTap =>
  async (handlers, signal) => {
    signal.throwIfAborted();
    const what = `${group}:${port}`;
    const memberships = membershipsOf(network.addresses(), interfaces);
    if (memberships.length === 0)
      throw new GodwitError("GODWIT_DIAL_FAILED", "no interface with an IPv4 address to listen on", {
        kind: "transport",
        retry: "later",
      });
    const socket = await bound(group, port).catch((cause: unknown) => {
      throw unreachable(what, cause);
    });
    let isOver = false;
    const close = async () => {
      if (isOver) return;
      isOver = true;
      unwatch();
      await closed(socket);
    };
    const gone = (why: string) => {
      if (isOver) return;
      void close();
      handlers.closed(why);
    };
    const unwatch = watch(() => {
      if (membershipsOf(network.addresses(), interfaces).join() !== memberships.join())
        gone("the addresses of this machine changed");
    });
    socket.on("error", (error: Error) => gone(error.message));
    socket.on("message", (bytes) => {
      if (!isOver) handlers.packet(bytes, (it) => decodePacket(it) ?? "malformed");
    });
    const failures = memberships.flatMap((address) => {
      try {
        socket.addMembership(group, address);
        return [];
      } catch (error) {
        return [error];
      }
    });
    if (failures.length === memberships.length || signal.aborted) {
      await close();
      throw signal.aborted ? signal.reason : unreachable(what, failures[0]);
    }
    return { close };
  };

async function bound(group: string, port: number): Promise<Socket> {
  claimDescriptor("link");
  // Others on this machine may listen as well.
  const socket = createSocket({ type: "udp4", reuseAddr: true });
  try {
    await new Promise<void>((resolve, reject) => {
      socket.once("error", reject);
      socket.bind({ port, address: group }, () => {
        socket.off("error", reject);
        resolve();
      });
    });
    return socket;
  } catch (error) {
    await closed(socket);
    throw error;
  }
}

const closed = (socket: Socket): Promise<void> =>
  new Promise((resolve) => {
    try {
      socket.close(() => resolve());
    } catch {
      // It never was open.
      resolve();
    }
  });
