/** Godwit nodes in namespaces, one in each host, told of their neighbours as an operator would. */
import { Lab, type LabNode } from "../../scripts/lab.ts";
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
        addresses: host.ports.map(({ address }) => address),
        enter: (make) => host.enter(make),
        ...(extra === undefined ? {} : { extra }),
      }),
    );
  const owner = (address: string) =>
    nodes[hosts.all.findIndex(({ ports }) => ports.some((port) => port.address === address))]!;
  for (const host of hosts.all)
    await nodes[host.index]!.configure(
      host.ports.map(({ farAddress }) => owner(farAddress).endpointAt(farAddress)),
    );
  return nodes;
}
