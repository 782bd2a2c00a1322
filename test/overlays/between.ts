/** What lies between LON-B and NYC-C of the mixed mesh. One constant, so that another network can take its place. */
import type { LabNode } from "../../scripts/lab.ts";
import type { NetLink } from "../../scripts/netlab.ts";

export interface Between {
  readonly name: string;
  /** Of its endpoints. */
  readonly scheme: string;
  whyNot(): string | undefined;
  /** Tables of the configuration of both ends, and what B is told to dial. */
  configure(wire: NetLink): { readonly b: string; readonly c: string; readonly peersOfB: readonly string[] };
  kill(wire: NetLink, ends: readonly [LabNode, LabNode]): Promise<void> | void;
  heal(wire: NetLink, ends: readonly [LabNode, LabNode]): Promise<void> | void;
}

const udp: Between = {
  name: "UDP",
  scheme: "udp",
  whyNot: () => undefined,
  configure: ({ b }) => ({
    b: '[transports.between]\ntype = "udp"\nlisten = []\n',
    c: `[transports.between]\ntype = "udp"\nlisten = ["${b.addresses.v4}:4861"]\n`,
    peersOfB: [`udp://${b.addresses.v4}:4861`],
  }),
  kill: (wire) => wire.silence(),
  heal: (wire) => wire.heal(),
};

export const BETWEEN_B_AND_C: Between = udp;
