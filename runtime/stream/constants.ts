/**
 * Every number of end-to-end streams: what stands on the wire (append-only, docs/registry.md) and the bounds of memory,
 * time and keys. docs/protocol/streams.md
 */

/** First byte of a packet's payload. */
export const StreamMessage = { open: 1, accept: 2, record: 3, gone: 4 } as const;

/** First byte of every frame inside a record. */
export const StreamFrame = {
  ping: 0x01,
  ack: 0x02,
  open: 0x03,
  data: 0x04,
  dataEnd: 0x05,
  credit: 0x06,
  reset: 0x07,
  accepted: 0x08,
  close: 0x09,
} as const;

/** Why a stream was torn down. */
export const StreamReset = {
  cancelled: 1,
  refused: 2,
  serviceUnknown: 3,
  notAllowed: 4,
  unreachable: 5,
  limit: 6,
  protocol: 7,
  stopped: 8,
} as const;

/** Version in message 1; a node that does not speak it stays silent. */
export const STREAM_VERSION = 1;

export const SERVICE_BYTES_MAX = 64;
export const METADATA_BYTES_MAX = 512;
export const REASON_BYTES_MAX = 256;
export const TOKEN_BYTES = 16;

/** Credit of each direction of a new stream, bytes; every stream may always have this much. */
export const WINDOW_FIRST_BYTES = 65_536;
/** Largest window of one stream, bytes. */
export const WINDOW_MAX_BYTES = 4 * 1024 * 1024;
/** What windows may grow to beyond the first, all streams of a session, and all of the node, bytes. */
export const SESSION_GROWTH_BYTES_MAX = 16 * 1024 * 1024;
export const NODE_GROWTH_BYTES_MAX = 64 * 1024 * 1024;
/** Sent and not acknowledged, of one stream, whatever credit the far end gives, bytes. */
export const UNACKED_BYTES_MAX = 4 * 1024 * 1024;
/** `write` answers false above this many bytes that were not sent yet. */
export const UNSENT_HIGH_WATER_BYTES = 524_288;

export const STREAMS_PER_SESSION_MAX = 256;
export const SESSIONS_MAX = 256;
export const HALF_OPEN_MAX = 64;
export const HALF_OPEN_PER_SOURCE_MAX = 4;
/** Of both, places for whom this node knows and for what it opens itself: node ids cost nothing. */
export const SESSIONS_KEPT = 64;
export const HALF_OPEN_MS = 10_000;
/** Handshakes computed for strangers per second. */
export const HANDSHAKES_PER_SECOND = 100;
/** Answers to records of sessions that are not there, per second. */
export const GONE_PER_SECOND = 50;

/** Handshake: first repeat, and when the attempt is given up. */
export const OPEN_RESEND_MS = 500;
export const OPEN_TIMEOUT_MS = 10_000;
/** With streams open and nothing heard for so long, a ping goes out. */
export const KEEPALIVE_MS = 10_000;
/** A far end that acknowledges nothing for so long while something is under way is unreachable. */
export const UNREACHABLE_MS = 30_000;
/** A session without streams ends after this. */
export const IDLE_MS = 60_000;
/** How often a session without a route, or before a full neighbour, looks again if nobody tells it. */
export const ROUTE_POLL_MS = 100;

/** The sender moves to its next key after any of these. */
export const REKEY_RECORDS = 2 ** 22;
export const REKEY_BYTES = 2 ** 34;
export const REKEY_MS = 120_000;
/** No key is used beyond these. */
export const EXPIRE_RECORDS = 2 ** 24;
export const REPLAY_RECORDS = 2_048;

/** Acknowledgement ranges in one frame; older gaps are repaired by the sender's timer. */
export const ACK_RANGES_MAX = 32;
/** An acknowledgement waits for this many records, or so long. */
export const ACK_EVERY = 4;
export const ACK_DELAY_MS = 5;
/** Records at the start of a session that are acknowledged at once, so that it gets going. */
export const ACK_EAGER_RECORDS = 64;

/** Frame size that every path is taken to carry when larger ones vanish, bytes. */
export const SAFE_FRAME_BYTES = 1_200;
/** Timeouts in a row after which large records are suspected. */
export const BLACK_HOLE_TIMEOUTS = 3;
/** Below this a path carries no streams. */
export const FRAME_BYTES_MIN = 1_000;
/** Lane of everything of streams: the default of messages. */
export const STREAM_PRIORITY = 2;

/** The largest control frame (open) and the largest acknowledgement fit what is left of the smallest record. */
export const CONTROL_BYTES_MAX = 1 + 5 + 1 + SERVICE_BYTES_MAX + 2 + METADATA_BYTES_MAX;
/** A data frame with less is not worth its header while other records follow. */
export const PIECE_BYTES_MIN = 64;
/** Control frames that wait; a far end that makes us queue more is not served. */
export const CONTROL_FRAMES_MAX = 4 * STREAMS_PER_SESSION_MAX;
/** Records that may go beyond the window after a timeout. */
export const PROBES = 2;
