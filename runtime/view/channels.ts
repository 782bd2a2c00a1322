/** The channels that all in earshot share, as the API shows them: who is heard, and what this node's control may take and took. */
import { airtimeUses, type ChannelBudget } from "../kernel/airtime.ts";
import type { NodeId } from "../kernel/ids.ts";
import type { Mesh } from "../mesh/mesh.ts";
import type { ChannelView } from "./contract/node.ts";

const seconds = (ms: number): number => Math.round(ms) / 1_000;

export function channelViews(
  channels: Pick<Mesh["channels"], "airtime" | "heardOn" | "idOf">,
  callsignOf: (id: NodeId) => string | null,
): ChannelView[] {
  const heardOn = ({ medium }: ChannelBudget): ChannelView["heard"] =>
    channels.heardOn(medium).map(({ who, from, gateway }) => {
      const id = channels.idOf(who);
      return {
        id: id ?? null,
        callsign: id === undefined ? null : callsignOf(id),
        address: from,
        gateway: gateway !== undefined,
      };
    });
  return [...channels.airtime.channels].map((budget) => ({
    transport: budget.medium.name,
    rate: budget.medium.rateBitsPerSecond,
    utilisation: budget.medium.utilisation,
    nodes: budget.nodes,
    control: {
      share: budget.share,
      saved_seconds: seconds(budget.savedMs),
      uses: airtimeUses.map((use) => ({
        use,
        seconds: seconds(budget.sums[use].usedMs),
        refused: budget.sums[use].refused,
      })),
    },
    heard: heardOn(budget),
  }));
}
