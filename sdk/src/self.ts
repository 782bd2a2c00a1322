/** Who this node is, for plugins that tell others of it. */

/** Bytes of one message of `Self.sign` and `Self.verify`. */
export const SELF_MESSAGE_BYTES_MAX = 4_096;

/**
 * `ctx.self`. What is signed begins with a prefix of the mesh's name and the plugin's namespace and id: no plugin can sign in the name of
 * another, of the node's own protocols or of another mesh, and no other verifies it.
 */
export interface Self {
  /** 52 characters. */
  readonly id: string;
  readonly callsign: string | undefined;
  /** Name of the mesh. */
  readonly network: string;
  /** What its record says that it can be dialled at, loopback and private addresses included. Empty: nowhere, or not yet. */
  endpoints(): readonly string[];
  /** Calls `fn` after the endpoints changed. Ends with the plugin. */
  onChange(fn: () => void): void;
  /**
   * Ed25519 (RFC 8032) under the plugin's prefix: 64 bytes, the caller's. `message` is borrowed until the promise settles. Rejects with
   * GODWIT_TOO_BIG above `SELF_MESSAGE_BYTES_MAX`.
   */
  sign(message: Uint8Array): Promise<Uint8Array>;
  /** Whether the node `id` signed that in the same plugin of this mesh. False, too, for what is no id or no signature. Bytes are borrowed until the promise settles. */
  verify(id: string, message: Uint8Array, signature: Uint8Array): Promise<boolean>;
}
