/**
 * The mesh as a service sees it: who is there, what may be sent, what has come. Ids are text: a node's has 52
 * characters of lower-case base32, a message's 32 of lower-case hex. Times are milliseconds since 1970 by the wall clock
 * of whoever wrote them, and may be wrong by decades.
 */
import type { IncomingMeshStream, MeshStream, StreamOptions } from "./stream.ts";

/** 0 is most urgent. */
export type MessagePriority = 0 | 1 | 2 | 3;

export interface MeshSelf {
  readonly id: string;
  /** `DUN-A`; undefined when the node has only its id. */
  readonly callsign: string | undefined;
  /** `DUN`. */
  readonly location: string | undefined;
  readonly network: string;
  /** Of Godwit, for people. */
  readonly version: string;
}

/** A node that was heard of. */
export interface MeshStation {
  readonly id: string;
  readonly callsign: string | undefined;
  /** There is a route now. What is sent to others waits for one. */
  readonly isReachable: boolean;
  /** Expected time to deliver 256 bytes, in ms; undefined when unreachable. */
  readonly costMs: number | undefined;
  /** The neighbour that comes first on the way: the station itself when it is one. */
  readonly via: { readonly id: string; readonly callsign: string | undefined } | undefined;
}

export interface MeshHop {
  readonly id: string;
  readonly callsign: string | undefined;
  readonly atMs: number;
}

export interface OutgoingMessage {
  /** A node id, `LOC-MACHINE` or `LOC`, in any case. */
  readonly to: string;
  /** At most 16 MiB. Copied before `send` returns. */
  readonly body: Uint8Array;
  /** At most 1,024 bytes of UTF-8; default none. */
  readonly subject?: string;
  /** Media type; at most 255 bytes of UTF-8; default `text/plain`. */
  readonly contentType?: string;
  /** Default 2. */
  readonly priority?: MessagePriority;
  /** From 1 s to 30 days, taken to the nearer bound; default what the node's configuration says (72 h). */
  readonly ttlSeconds?: number;
  /** Another machine of the location may take it while the addressed one stays silent; default false. */
  readonly failover?: boolean;
  /**
   * The same key gives the same message instead of a second one, over restarts too. Keys are shared by everything on
   * this node: begin yours with the plugin's id and a colon. At most 1,024 bytes of UTF-8.
   */
  readonly idempotencyKey?: string;
  /**
   * Now or never, for what is worthless later; default false. `send` then resolves once the message left this node, and
   * nothing more is known of it: it is in no outbox, `sent` and `onSent` never tell of it, no receipt comes, and any node
   * on the way drops it without a word when its queue is full, so does the far end when its inbox is. It is one packet and has
   * to fit the smallest frame on the way: about 1,000 bytes of body over datagrams, more over streams, fewer over a
   * radio. It comes at most once. `to` is an id or a callsign: a location
   * names no one node. `ttlSeconds`, `failover` and `idempotencyKey` mean nothing here and are ignored. Instead of waiting
   * `send` rejects with GODWIT_NO_ROUTE, GODWIT_QUEUE_FULL (the way is full, or the message too large for it),
   * GODWIT_NAME_UNKNOWN, GODWIT_NAME_CONFLICT.
   */
  readonly transient?: boolean;
}

/** A message that reached this node. */
export interface IncomingMessage {
  readonly id: string;
  /** Proven: the sender's key opened it. */
  readonly from: string;
  readonly fromCallsign: string | undefined;
  /** As its sender addressed it. */
  readonly to: string;
  /** Any text, control characters included. Empty when there is none. */
  readonly subject: string;
  readonly contentType: string;
  readonly priority: MessagePriority;
  /** Bytes of the body, which `inbox.body` reads. */
  readonly size: number;
  /** The sender's word, which may be rounded down to 2 s. */
  readonly createdAtMs: number;
  readonly deliveredAtMs: number;
  /** Where it was, the sender first. Relays write it and could lie. */
  readonly trace: readonly MeshHop[];
  /** Links before the first of the trace that nobody noted, as over slow links: 0 where it is whole. */
  readonly hopsUntraced: number;
}

export type SentState = "queued" | "relayed" | "delivered" | "expired" | "refused" | "withdrawn";

/** A message of this node, whoever on it sent it. */
export interface SentMessage {
  readonly id: string;
  readonly to: string;
  /** Final: delivered, expired, refused, withdrawn. */
  readonly state: SentState;
  /** Why it is where it is, in words; undefined when there is nothing to say. */
  readonly reason: string | undefined;
  readonly createdAtMs: number;
  readonly receipt:
    | {
        readonly by: string;
        readonly byCallsign: string | undefined;
        readonly atMs: number;
        /**
         * What shows it: `signature` to anybody; `session` to this node alone, because it came over slow links, until one with a signature is to be had
         * (`onSent` tells); `lost` where the disk of this node damaged the signature.
         */
        readonly proof: "signature" | "session" | "lost";
        /** Ed25519, hex; undefined unless `proof` says `signature`. */
        readonly signature: string | undefined;
        readonly trace: readonly MeshHop[];
      }
    | undefined;
}

export interface MeshInbox {
  /** Messages in it now. */
  readonly count: number;
  /** A page, at most 500, in the order of arrival; `after` is the id of the last one of the page before. Empty after an id that the node does not know. */
  list(page: {
    readonly order: "oldest-first" | "newest-first";
    readonly limit: number;
    readonly after?: string;
  }): Promise<readonly IncomingMessage[]>;
  get(id: string): Promise<IncomingMessage | undefined>;
  /** Rejects with GODWIT_MESSAGE_UNKNOWN, or GODWIT_MESSAGE_DAMAGED where the disk changed it: it is in the inbox no more then. The bytes are the caller's. */
  body(id: string): Promise<Uint8Array>;
  /** For good, for everybody on this node. Resolves once durable. Rejects with GODWIT_MESSAGE_UNKNOWN. */
  remove(id: string): Promise<void>;
}

/** `ctx.mesh` of a service. After the plugin stopped, its methods throw or reject with GODWIT_STOPPED. */
export interface Mesh {
  readonly self: MeshSelf;
  /** Every other node that was heard of, callsigns first. */
  stations(): readonly MeshStation[];
  /**
   * Accepts a message; resolves with its id only after the durable commit. Rejects with GODWIT_ADDRESS_INVALID,
   * GODWIT_TOO_BIG, GODWIT_REQUEST_INVALID, GODWIT_QUEUE_FULL, GODWIT_QUOTA, GODWIT_STORE_FAILED,
   * GODWIT_IDEMPOTENCY_CONFLICT. An address that nobody was heard of by is accepted and waits; `transient` does not.
   */
  send(message: OutgoingMessage): Promise<{ readonly id: string }>;
  /** A message of this node; undefined when there is none with that id (any more). Rejects with GODWIT_STORE_FAILED. */
  sent(id: string): Promise<SentMessage | undefined>;
  /**
   * Messages of the inbox, each at least once: what is there already, oldest first, then what comes. One at a time; a
   * handler that rejects gets the message again later, after the others. What is still in the inbox at the next start
   * comes again, so remove what is done with, or know it by its id.
   */
  onMessage(handler: (message: IncomingMessage) => void | Promise<void>): void;
  /** State changes of this node's messages, as they happen, and receipts of those delivered that are signed by now; not repeated. Must not throw. */
  onSent(handler: (message: SentMessage) => void): void;
  /**
   * Opens a stream to a service of another node: an id or a callsign that means one node. Resolves once the far end has
   * accepted. Rejects with GODWIT_NAME_UNKNOWN, GODWIT_NO_ROUTE, GODWIT_STREAM_SLOW_PATH (only a radio leads there: send a
   * message), GODWIT_STREAM_UNREACHABLE, GODWIT_STREAM_REFUSED, GODWIT_STREAM_LIMIT, or the signal's reason. The stream
   * ends with the plugin.
   */
  openStream(to: string, service: string, options?: StreamOptions): Promise<MeshStream>;
  /**
   * Streams that others open to `service`: 1 to 57 characters of a-z, 0-9, `.`, `_`, `:`, `-`; begin yours with the
   * plugin's id and a colon. One handler a service on a node; a second throws GODWIT_REQUEST_INVALID. A handler that throws
   * resets the stream.
   */
  onStream(service: string, handler: (stream: IncomingMeshStream) => void): void;
  readonly inbox: MeshInbox;
}
