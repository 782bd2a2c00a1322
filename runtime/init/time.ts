/**
 * The machine's clock. A board without one boots in 1970; so the clock is set forward to a floor, which is the later of when
 * the image was built and when the machine last shut down, and then to what a time server says. Until something better than a
 * floor is known the clock is *held*: Tor and what else needs the time is not started. Pure.
 */

/** Where the clock's reading comes from. */
export type ClockSource =
  | "hardware" // it was past the floor at boot: the machine has a clock of its own
  | "floor" // set to the floor: at least not before it, perhaps days behind
  | "server"; // a time server

export interface ClockStart {
  readonly wallMs: number;
  readonly source: ClockSource;
  /** To be set: the clock stood before the floor. */
  readonly isSet: boolean;
}

/** Readings more than ten years past the build are those of a broken clock, not of a machine that slept. */
const AHEAD_MAX_MS = 10 * 365 * 24 * 3_600_000;

/** What to do with the clock at boot. `savedMs` undefined: nothing was saved. */
export function decideClock(nowMs: number, builtMs: number, savedMs: number | undefined): ClockStart {
  const isSavedUsable = savedMs !== undefined && savedMs >= builtMs && savedMs <= builtMs + AHEAD_MAX_MS;
  const floorMs = isSavedUsable ? savedMs : builtMs;
  if (nowMs < floorMs || nowMs > builtMs + AHEAD_MAX_MS)
    return { wallMs: floorMs, source: "floor", isSet: true };
  return { wallMs: nowMs, source: "hardware", isSet: false };
}

/** Whether a time that others tell can be right: not before the image, and not in another age. */
export const isBelievable = (wallMs: number, builtMs: number): boolean =>
  wallMs >= builtMs && wallMs <= builtMs + AHEAD_MAX_MS;

/** As written at shutdown: milliseconds since 1970 on a line. Undefined for anything else. */
export function parseSavedClock(text: string): number | undefined {
  const match = /^(\d{12,15})\n?$/.exec(text);
  return match === null ? undefined : Number(match[1]);
}

/**
 * SNTP (RFC 4330): 48 bytes each way.
 *
 *   | leap 2 bits, version 3, mode 3 | stratum 1 | poll 1 | precision 1 | root delay 4 | dispersion 4 | reference 4 |
 *   | reference time 8 | originate 8 | receive 8 | transmit 8 |      times: seconds since 1900 and 2^-32 seconds
 */
export const SNTP_BYTES = 48;
const SNTP_CLIENT_V4 = 0x23;
const SNTP_MODE_SERVER = 4;
const SNTP_LEAP_UNKNOWN = 3;
const SNTP_STRATUM_MAX = 15;
const TRANSMIT_OFFSET = 40;
const RECEIVE_OFFSET = 32;
const ORIGINATE_OFFSET = 24;
const SECONDS_1900_TO_1970 = 2_208_988_800;
/** The seconds field begins anew in 2036; a reading before 1968 is of the second era (RFC 4330 section 3). */
const ERA_SECONDS = 2 ** 32;

/** `nonce` (8 bytes) stands where our time would: the answer repeats it, and strangers do not learn what time we think it is. */
export function encodeSntpRequest(nonce: Uint8Array): Uint8Array {
  const out = new Uint8Array(SNTP_BYTES);
  out[0] = SNTP_CLIENT_V4;
  out.set(nonce.subarray(0, 8), TRANSMIT_OFFSET);
  return out;
}

/**
 * The wall clock in ms at the moment of arrival, from an answer to `nonce` that took `roundTripMs`; undefined for one that
 * is not an answer, or of a server that does not know the time itself.
 */
export function readSntpAnswer(
  bytes: Uint8Array,
  nonce: Uint8Array,
  roundTripMs: number,
): number | undefined {
  if (bytes.length < SNTP_BYTES) return undefined;
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const [flags, stratum] = [bytes[0]!, bytes[1]!];
  if ((flags & 7) !== SNTP_MODE_SERVER || flags >> 6 === SNTP_LEAP_UNKNOWN) return undefined;
  if (stratum === 0 || stratum > SNTP_STRATUM_MAX) return undefined;
  for (let i = 0; i < 8; i++) if (bytes[ORIGINATE_OFFSET + i] !== nonce[i]) return undefined;
  const receivedMs = timestampMs(view, RECEIVE_OFFSET);
  const sentMs = timestampMs(view, TRANSMIT_OFFSET);
  if (view.getUint32(TRANSMIT_OFFSET) === 0 || sentMs < 0) return undefined;
  // The server's own time between the two is no part of the way.
  const wayMs = Math.max(roundTripMs - Math.max(sentMs - receivedMs, 0), 0) / 2;
  return sentMs + wayMs;
}

function timestampMs(view: DataView, at: number): number {
  const seconds = view.getUint32(at);
  const era = seconds < 2 ** 31 ? ERA_SECONDS : 0;
  return (seconds + era - SECONDS_1900_TO_1970) * 1_000 + (view.getUint32(at + 4) / 2 ** 32) * 1_000;
}
