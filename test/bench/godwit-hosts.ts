/** Godwit nodes in namespaces, one in each host, told of their neighbours as an operator would. */
import type { Lab, LabNode } from "../../scripts/lab.ts";
import { NODE_PORT } from "../../scripts/netlab-parts.ts";
import type { Hosts } from "./namespaces.ts";

export interface GodwitOptions {
  readonly extra?: string;
}

export async function addToHosts(lab: Lab, hosts: Hosts, { extra }: GodwitOptions = {}): Promise<LabNode[]> {
  const nodes: LabNode[] = [];
  for (const host of hosts.all)
    nodes.push(
      await lab.add({
        callsign: `HST-${host.index}`,
        ...host.net.nodeOptions,
        ...(extra === undefined ? {} : { extra }),
      }),
    );
  for (const host of hosts.all)
    await nodes[host.index]!.configure(
      host.ports.map(({ farAddress }) => `tcp://${farAddress}:${NODE_PORT}`),
    );
  return nodes;
}
