/** What a network that carries a transport (Yggdrasil, WireGuard) says of itself: for operators, nothing routes by it. */

/** One neighbour within the overlay: not a node of the mesh, at most the machine that one runs on. */
export interface OverlayPeer {
  /** Its address in the overlay, IPv4 or IPv6 without prefix; undefined: not known yet. */
  readonly address: string | undefined;
  /** Where it is reached underneath, in the overlay's own words, without passwords: `tls://192.0.2.7:9001`. */
  readonly remote: string;
  readonly isUp: boolean;
  readonly direction?: "inbound" | "outbound";
  /** For how long it has been up. */
  readonly upMs?: number;
  readonly latencyMs?: number;
  readonly receivedBytes?: number;
  readonly sentBytes?: number;
}

export interface Overlay {
  /** The node's own address in it, without prefix. */
  readonly address: string;
  /** The network that it may give to machines behind it, `300:1:2:3::/64`. One that has it stands as the node's own in `/mesh/status`. */
  readonly subnet?: string;
  /** Of its interface. */
  readonly mtu?: number;
  /** Nodes with which it has an end-to-end session. */
  readonly sessions?: number;
  /** The first 1,024 are shown. */
  readonly peers: readonly OverlayPeer[];
}
