/**
 * Every number that stands on the wire, append-only; a retired one keeps its line. `docs/registry.md` lists them with
 * their references and `test/architecture.test.ts` holds the two together.
 */

/** Versions of the mesh protocol inside a link that this build speaks. */
export const PROTOCOL_VERSION_MIN = 1;
export const PROTOCOL_VERSION_MAX = 2;
/** From this one on links of class slow carry compact frames. docs/protocol/slow.md */
export const COMPACT_VERSION = 2;

/** First byte of every frame inside a link session. docs/protocol/frames.md */
export const FrameType = {
  hello: 0x01,
  probe: 0x02,
  probeReply: 0x03,
  goodbye: 0x04,
  routeUpdate: 0x10,
  routeAck: 0x11,
  seqnoRequest: 0x12,
  routeDigest: 0x13,
  routeResync: 0x14,
  recordRequest: 0x15,
  record: 0x16,
  lookup: 0x17,
  lookupReply: 0x18,
  packet: 0x20,
  bundle: 0x30,
  custodyAck: 0x31,
  custodyRefuse: 0x32,
  offer: 0x33,
  want: 0x34,
  chunk: 0x35,
  revocationDigest: 0x50,
  revocationList: 0x51,
  revocation: 0x52,
  enrolRequest: 0x54,
  enrolGrant: 0x55,
  enrolRefuse: 0x56,
  redemptions: 0x57,
  observed: 0x60,
  pluginMessage: 0x61,
  memberFacts: 0x40,
  memberDigest: 0x41,
  memberBuckets: 0x42,
  memberSync: 0x43,
  memberQuery: 0x44,
  compactMessage: 0x70,
  compactReceipts: 0x71,
  compactBundle: 0x72,
  compactAck: 0x73,
  compactRefuse: 0x74,
  compactUnreadable: 0x75,
  compactHello: 0x76,
  helloWanted: 0x77,
  compactPacket: 0x78,
} as const;

/** First byte of what a system bundle seals: a node's own business with another. docs/protocol/delivery.md */
export const SystemKind = { networkSecret: 1, receiptsWanted: 2 } as const;

/** Bottleneck classes of a path. docs/protocol/routing.md */
export const BottleneckClass = { fast: 0, medium: 1, slow: 2 } as const;
export type Bottleneck = 0 | 1 | 2;

/** Message priorities, most urgent first. docs/protocol/delivery.md */
export type Priority = 0 | 1 | 2 | 3;
export const PRIORITY_DEFAULT: Priority = 2;

/** Largest frame that a stream session carries, in bytes. Fits one record of 65,519 bytes with its prefixes. */
export const FRAME_BYTES_MAX = 61_440;
/** Signed node record, in bytes. docs/protocol/records.md */
export const RECORD_BYTES_MAX = 1_000;
/** Body of one message, in bytes. */
export const BODY_BYTES_MAX = 16 * 1024 * 1024;
/** Large bundles are summed in blocks of so many bytes, the last one shorter: what is wrong is found, and fetched again, by the block. */
export const BLOCK_BYTES = 256 * 1024;
/** First bytes of the SHA-256 of a block. */
export const BLOCK_SUM_BYTES = 16;
/** Hops after which a packet is dropped and a bundle parks. */
export const HOP_LIMIT = 64;
/** Default and largest lifetime of a message, in ms. */
export const LIFETIME_DEFAULT_MS = 72 * 3_600_000;
export const LIFETIME_MAX_MS = 30 * 24 * 3_600_000;
/** Largest message of a plugin to its like at a neighbour, bytes. */
export const PLUGIN_MESSAGE_BYTES_MAX = 4_096;
