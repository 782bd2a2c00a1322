/** Who this node is, for plugins that tell others of it. */

/** Bytes of one message of `Self.sign` and `Self.verify`. */
export const SELF_MESSAGE_BYTES_MAX = 4_096;

/** Of `Self.signItem`: with what stands around it a value has the 1,000 bytes that BEP 44 allows. */
export const ITEM_VALUE_BYTES_MAX = 996;
/** Of `Self.signItem`. The whole salt has at most 64 bytes, so that a plugin with an id of more than 29 characters may have less. */
export const ITEM_LABEL_BYTES_MAX = 16;

/** A mutable item of a DHT (https://www.bittorrent.org/beps/bep_0044.html) as its owner signs it; the key is the node's id. */
export interface SelfItem {
  /** Tells items of one plugin apart: at most `ITEM_LABEL_BYTES_MAX` bytes. Borrowed until the promise settles. */
  readonly label: Uint8Array;
  /** 0 to 2^53 - 1; a higher one replaces a lower. */
  readonly seq: number;
  /** The byte string under `v`: 1 to `ITEM_VALUE_BYTES_MAX` bytes. Borrowed until the promise settles. */
  readonly value: Uint8Array;
}

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
  /** What its record says of its machine: `node.tags`, at most 16 lower-case words joined by hyphens. */
  readonly tags: readonly string[];
  /** What its record says that it can be dialled at, loopback and private addresses included. Empty: nowhere, or not yet. */
  endpoints(): readonly string[];
  /**
   * The sockets that its transports listen on, as they are bound: `tcp://[::]:4860` is every address of both families. For those that tell an
   * interface of its own addresses; sockets of transports whose endpoints the operator keeps to himself are not among them.
   */
  listening(): readonly string[];
  /** Versions of the link protocol that it speaks, the lowest and the highest. */
  readonly protocols: { readonly min: number; readonly max: number };
  /** Calls `fn` after the endpoints or the sockets changed. Ends with the plugin. */
  onChange(fn: () => void): void;
  /**
   * Ed25519 (RFC 8032) under the plugin's prefix: 64 bytes, the caller's. `message` is borrowed until the promise settles. Rejects with
   * GODWIT_TOO_BIG above `SELF_MESSAGE_BYTES_MAX`.
   */
  sign(message: Uint8Array): Promise<Uint8Array>;
  /** Whether the node `id` signed that in the same plugin of this mesh. False, too, for what is no id or no signature. Bytes are borrowed until the promise settles. */
  verify(id: string, message: Uint8Array, signature: Uint8Array): Promise<boolean>;
  /**
   * Signs an item that others verify by BEP 44 alone, without any prefix of ours: what is signed is `4:salt`, `3:seq`, `1:v`, and the salt is
   * `godwit <namespace>.<id> ` (`itemSalt`) and the label, so that no plugin signs the item of another, and nothing but items. 64 bytes, the
   * caller's. Rejects with GODWIT_REQUEST_INVALID for what is out of bounds.
   */
  signItem(item: SelfItem): Promise<Uint8Array>;
  /**
   * 32 secret bytes for each network secret that opens links now, the preferred first; the same at every node that has the secret, for this
   * namespace, id and `purpose` (1 to 64 characters of printable ASCII), and of no use for finding the secret. In an open mesh one, made of its name:
   * no secret then. To be asked for again, because secrets are replaced.
   */
  meshSeeds(purpose: string): Promise<readonly Uint8Array[]>;
}

/** The salt of `Self.signItem`. `plugin`: `<namespace>.<id>`. */
export const itemSalt = (plugin: string, label: Uint8Array): Uint8Array =>
  Buffer.concat([Buffer.from(`godwit ${plugin} `), label]);

/** What BEP 44 has signed of a mutable item: bencoded, in this order, without the dictionary around it. */
export const itemMessage = (salt: Uint8Array, seq: number, value: Uint8Array): Uint8Array =>
  Buffer.concat([
    Buffer.from(`4:salt${salt.length}:`),
    salt,
    Buffer.from(`3:seqi${seq}e1:v${value.length}:`),
    value,
  ]);
