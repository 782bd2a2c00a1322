/**
 * Every number of the link's own messages, append-only, and the limits of a session by class of link.
 * docs/protocol/link.md
 */
import type { LinkClass, Pipe } from "@godwit/sdk";

/** 25519_AESGCM_SHA256: the high nibble of a handshake message's first byte. */
export const SUITE = 1;

/** First byte of a handshake message: suite, then one of these. Bit 7 is clear; a datagram with it set is a record. */
export const HandshakeType = {
  xx1Psk: 0x10,
  ik1: 0x11,
  ik2: 0x12,
  xx1: 0x13,
  xx2: 0x14,
  xx3: 0x15,
  retry: 0x16,
  refuse: 0x17,
  xx1PskWithCookie: 0x18,
  ik1WithCookie: 0x19,
  xx1WithCookie: 0x1b,
  /** Under an invitation; always has room for a cookie. */
  xx1Invite: 0x1e,
} as const;

/** Set in the type of a message 1 that carries a cookie. */
export const COOKIE_FLAG = 0x08;

export const RefuseReason = { version: 1, notAddressee: 2, inviteExpired: 3, inviteUnsure: 4 } as const;

/** In the prologue. */
export const PatternId = { IK: 1, XX: 2, IKpsk2: 3, XXpsk3: 4, XXpsk3Invite: 5 } as const;

/** Control items inside records. */
export const ControlKind = {
  close: 1,
  rekeyRequest: 2,
  rekeyReply: 3,
  rekeySwitch: 4,
  confirm: 5,
  fragments: 6,
} as const;

/** Each of the two tags of a message 1: of the network, and (IK only) of the addressee. */
export const HANDSHAKE_TAG_BYTES = 4;
export const COOKIE_BYTES = 16;
/** Smallest datagram medium that a link runs over: fits every handshake and rekey message. */
export const MTU_MIN = 128;

/** A record's plaintext on a stream: with its tag it fills the 16-bit length. */
export const RECORD_PLAINTEXT_MAX = 65_519;
/** A stream batch of this size goes out at once. */
export const FLUSH_BYTES = 61_440;
/** Buffered towards a stream above this: `send` answers false even if the pipe would take more. */
export const HIGH_WATER_BYTES = 1_048_576;
/** Raw bytes kept while nobody reads: before `open`, or what a pipe still delivers after `pause`. */
export const STREAM_BACKLOG_BYTES_MAX = 4_194_304;
export const DATAGRAM_BACKLOG_BYTES_MAX = 262_144;
export const DATAGRAM_BACKLOG_ITEMS_MAX = 128;

/** Message 1 that one datagram pipe may make us compute before it is given up. */
export const ATTEMPTS_PER_PIPE_MAX = 8;
/** Network secrets alive at once. */
export const SECRETS_MAX = 4;

/**
 * Datagram header: bit 7 record, bit 6 bare (the plaintext is one frame without its length), bit 5 a piece of a record, bit 4 its last one, bits
 * 0-1 epoch.
 */
export const RECORD_FLAG = 0x80;
export const BARE_FLAG = 0x40;
export const FRAGMENT_FLAG = 0x20;
export const LAST_FLAG = 0x10;
export const EPOCH_MASK = 0x03;

export interface DatagramFormat {
  readonly counterBytes: 2 | 4;
  readonly tagBytes: 8 | 16;
  readonly windowRecords: number;
}

export const datagramFormat = (linkClass: LinkClass): DatagramFormat =>
  linkClass === "slow"
    ? { counterBytes: 2, tagBytes: 8, windowRecords: 64 }
    : { counterBytes: 4, tagBytes: 16, windowRecords: 2048 };

export interface SessionLimits {
  /** A rekey starts at the next use after any of these. */
  readonly rekeyAfterMs: number;
  readonly rekeyAfterRecords: number;
  readonly rekeyAfterBytes: number;
  /** A session in use ends when a rekey that it asked for takes longer. */
  readonly rekeyGraceMs: number;
  /** A key is never used beyond these. */
  readonly expireRecords: number;
  readonly expireBytes: number;
  /** Datagrams: how long the previous epoch still opens what comes late. */
  readonly previousEpochMs: number;
}

/** What a rekey costs on a slow link, in bytes on the air: both handshake messages and two empty records. */
const SLOW_REKEY_BYTES = 200;

/**
 * Limits by class. On IP: 120 s of use, 2^22 records, 16 GiB; hard 2^24 records (AES-GCM stays safe to 2^24.5
 * full-size records a key), 64 GiB. Slow: at most 0.1 % of the airtime goes into rekeys, and the 16-bit counter
 * never wraps.
 */
export function sessionLimits(
  linkClass: LinkClass,
  rateBitsPerSecond: number,
  patienceMs = 0,
): SessionLimits {
  if (linkClass !== "slow")
    return {
      rekeyAfterMs: 120_000,
      rekeyAfterRecords: 2 ** 22,
      rekeyAfterBytes: 2 ** 34,
      rekeyGraceMs: 60_000,
      expireRecords: 2 ** 24,
      expireBytes: 2 ** 36,
      previousEpochMs: 10_000,
    };
  const rekeyAirtimeMs = (SLOW_REKEY_BYTES * 8_000) / Math.max(rateBitsPerSecond, 1);
  return {
    rekeyAfterMs: Math.max(3_600_000, rekeyAirtimeMs * 1_000, patienceMs),
    rekeyAfterRecords: 2 ** 14,
    rekeyAfterBytes: 2 ** 34,
    rekeyGraceMs: Math.max(3_600_000, 2 * patienceMs),
    expireRecords: 2 ** 16 - 1,
    expireBytes: 2 ** 36,
    previousEpochMs: 120_000,
  };
}

export interface HandshakeTiming {
  /** Default time for the whole handshake. */
  readonly timeoutMs: number;
  /** Datagrams: first and longest pause before a message is sent again. */
  readonly resendFirstMs: number;
  readonly resendCapMs: number;
}

/** Over a pipe that keeps datagrams until it may send them the far end's next word may take this long, ms. */
export const QUEUED_TIMEOUT_MS = 30 * 60_000;
/** Of a plugin, so bounded here, ms. */
export const PATIENCE_MAX_MS = 30 * 86_400_000;
/** Only where nothing is ever repeated for want of an answer: a datagram pipe would fill a carried medium with copies. */
export const patienceOf = ({ kind, linkClass, patienceMs = 0 }: Pipe): number =>
  kind === "stream" && linkClass === "slow" && patienceMs > 0 ? Math.min(patienceMs, PATIENCE_MAX_MS) : 0;

export function handshakeTiming(linkClass: LinkClass, patienceMs = 0): HandshakeTiming {
  const timing = timingOf(linkClass);
  return { ...timing, timeoutMs: Math.max(timing.timeoutMs, patienceMs) };
}

function timingOf(linkClass: LinkClass): HandshakeTiming {
  switch (linkClass) {
    case "fast":
      return { timeoutMs: 5_000, resendFirstMs: 250, resendCapMs: 2_000 };
    case "medium":
      return { timeoutMs: 30_000, resendFirstMs: 1_000, resendCapMs: 8_000 };
    case "slow":
      return { timeoutMs: 120_000, resendFirstMs: 8_000, resendCapMs: 40_000 };
  }
}
