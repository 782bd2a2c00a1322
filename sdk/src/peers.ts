/** Who else is there, as transports see it, and a small way to talk to their like on a linked node. */

/** A node of the mesh, by its newest signed record and the routes. */
export interface PeerFacts {
  /** 52 characters. */
  readonly id: string;
  readonly callsign: string | undefined;
  /** What it says of itself. Its signature is checked; whether it can be reached there is not. */
  readonly endpoints: readonly string[];
  /** There is a live link to it, over whatever transport. */
  readonly isLinked: boolean;
  /** The neighbour that comes first on the way, itself when linked; undefined: no route now. */
  readonly via: string | undefined;
}

/** Bytes of one message of `Peers.send`. */
export const PEER_MESSAGE_BYTES_MAX = 4_096;

/**
 * `ctx.peers`. Blocked and revoked nodes are not among them. Messages go from a plugin to the plugins of the same namespace and
 * id on a linked node, inside the link: authenticated, in secret, to nobody else, best effort. They are for agreeing on things,
 * not for data: a node takes about one a second from each neighbour, and 32 at once.
 */
export interface Peers {
  readonly self: {
    readonly id: string;
    readonly callsign: string | undefined;
    /** Name of the mesh. */
    readonly network: string;
  };
  /** All that are known. */
  list(): readonly PeerFacts[];
  /** Calls `fn` after facts of any changed, at most five times a second. Ends with the plugin. */
  onChange(fn: () => void): void;
  /** False: no link, the message is above `PEER_MESSAGE_BYTES_MAX` or what the link takes, or its queue is full. Bytes are borrowed. */
  send(to: string, message: Uint8Array): boolean;
  /** `from` is proven. The bytes are the handler's. Whatever it throws is logged. */
  onMessage(fn: (from: string, message: Uint8Array) => void): void;
}
