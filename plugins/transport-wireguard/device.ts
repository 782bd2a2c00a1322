/** A WireGuard device as both of its kinds know it: the kernel's and the one of `wireguard-go`. Plain values. */
import type { HostPort } from "@godwit/sdk";
import type { Secret } from "@godwit/sdk/secret";

export interface WgPeer {
  /** Base64. */
  readonly publicKey: string;
  readonly presharedKey: Secret | undefined;
  /** Where its last packet came from, or where it was told to be. */
  readonly endpoint: HostPort | undefined;
  readonly keepaliveSeconds: number;
  /** Of the last handshake, ms since 1970; 0: there was none. */
  readonly handshakeMs: number;
  readonly receivedBytes: number;
  readonly sentBytes: number;
  /** `address/length`, in the order of the device. */
  readonly allowedIps: readonly string[];
}

export interface WgDevice {
  /** Base64; undefined: it has no key yet. */
  readonly publicKey: string | undefined;
  readonly listenPort: number;
  readonly peers: readonly WgPeer[];
}

/** What is left out stays as it is. */
export interface WgPeerChange {
  readonly publicKey: string;
  readonly isRemoved?: boolean;
  /** Null takes it away. */
  readonly presharedKey?: Secret | null;
  readonly endpoint?: HostPort;
  readonly keepaliveSeconds?: number;
  /** Replaces all; what another peer has moves here. */
  readonly allowedIps?: readonly string[];
}

export interface WgChange {
  readonly privateKey?: Secret;
  readonly listenPort?: number;
  readonly peers?: readonly WgPeerChange[];
}

export interface WgDoor {
  /** Rejects with GODWIT_NETLINK or GODWIT_PLUGIN_FAILED. */
  read(): Promise<WgDevice>;
  /** As `read`. What stands before a peer that was refused is done. */
  change(change: WgChange): Promise<void>;
  /** Idempotent. */
  close(): void;
}
