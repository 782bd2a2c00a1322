/** Numbers of the wire. Append-only by their owners: hashicorp/memberlist net.go, hashicorp/serf serf/messages.go. */

/** First byte of what memberlist sends. */
export const MessageType = {
  ping: 0,
  indirectPing: 1,
  ack: 2,
  suspect: 3,
  alive: 4,
  dead: 5,
  pushPull: 6,
  compound: 7,
  user: 8,
  compressed: 9,
  encrypted: 10,
  nack: 11,
  checksum: 12,
  error: 13,
  label: 244,
} as const;

/** First byte of what Serf sends inside user messages, of its part of a push-pull, and of payloads of its own queries. */
export const SerfType = {
  leave: 0,
  join: 1,
  pushPull: 2,
  userEvent: 3,
  query: 4,
  queryResponse: 5,
  conflictResponse: 6,
  keyRequest: 7,
  keyResponse: 8,
  relay: 9,
} as const;

/** Of a node in a push-pull. */
export const NodeState = { alive: 0, suspect: 1, dead: 2, left: 3 } as const;
export type NodeState = (typeof NodeState)[keyof typeof NodeState];

/** Least, most and current version of memberlist, then of Serf: as Debian's agent says it. */
export const OWN_VSN: readonly number[] = [1, 5, 2, 2, 5, 5];

/** Versions from which a peer understands something. */
export const Since = { tcpPing: 3, nack: 4, checksum: 5, relay: 5 } as const;

export const QueryFlag = { ack: 1, noBroadcast: 2 } as const;
export const FilterType = { nodes: 0, tag: 1 } as const;

/** First byte of the tags in a node's meta data, and of a coordinate in an ack. */
export const TAGS_MAGIC = 0xff;
export const COORDINATE_VERSION = 1;

export const NAME_BYTES_MAX = 128;
export const META_BYTES_MAX = 512;
/** Serf's own bounds: of a whole user event, and of a query or response. */
export const EVENT_BYTES_MAX = 512;
export const EVENT_BYTES_HARD_MAX = 9_216;
export const QUERY_BYTES_MAX = 1_024;
