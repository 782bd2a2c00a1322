/** The networks that carry transports, as the API shows them. */
import type { OverlayPeer } from "@godwit/sdk";
import type { OverlayView } from "./contract/node.ts";
import type { RunningPlugin } from "../plugin/host/instance.ts";

/** Of one overlay. */
const PEERS_SHOWN_MAX = 1_024;

export function overlayViews(plugins: readonly RunningPlugin[]): OverlayView[] {
  return plugins.flatMap(({ instance, overlay }) => {
    if (overlay === undefined) return [];
    const { address, subnet, mtu, sessions, peers } = overlay;
    return {
      transport: instance.name,
      type: instance.type,
      address,
      subnet: subnet ?? null,
      mtu: mtu ?? null,
      sessions: sessions ?? null,
      peers: peers.slice(0, PEERS_SHOWN_MAX).map(peerView),
    };
  });
}

const peerView = (peer: OverlayPeer): OverlayView["peers"][number] => ({
  address: peer.address ?? null,
  remote: peer.remote,
  up: peer.isUp,
  direction: peer.direction ?? null,
  up_seconds: peer.upMs === undefined ? null : Math.floor(peer.upMs / 1_000),
  rtt_ms: peer.latencyMs === undefined ? null : Math.round(peer.latencyMs * 1_000) / 1_000,
  bytes_received: peer.receivedBytes ?? null,
  bytes_sent: peer.sentBytes ?? null,
});

/** Address and network that the first overlay gives the node to route; undefined: none does. */
export function overlayAddress(
  plugins: readonly RunningPlugin[],
): { address: string; subnet: string } | undefined {
  for (const { overlay } of plugins)
    if (overlay?.subnet !== undefined) return { address: overlay.address, subnet: overlay.subnet };
  return undefined;
}
