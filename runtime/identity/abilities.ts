/**
 * What decides how mail is sealed, as bits: the short form of those capabilities that a brief record has room for.
 * docs/protocol/records.md "Brief records".
 */

/** Number of the bit of each. Append-only. */
export const AbilityBit = { mailSessions: 0, compactMail: 1 } as const;

const ABILITY_BYTES_MAX = 4;

/** The capability that a bit says. */
const words = { mailSessions: "mail-sessions", compactMail: "compact-mail" } as const satisfies Record<
  keyof typeof AbilityBit,
  string
>;

const bits = Object.entries(AbilityBit).map(([name, bit]) => ({
  bit,
  word: words[name as keyof typeof words],
}));

/** It opens mail that is sealed in a session, and seals its own in one: docs/protocol/sealing.md. */
export const MAIL_SESSIONS = words.mailSessions;
/** It reads the compact form of mail in a session, and names each prekey in records with one callsign only: docs/protocol/delivery.md. */
export const COMPACT_MAIL = words.compactMail;
/** Words of the protocol, which every node of this release says. */
export const PROTOCOL_CAPABILITIES: readonly string[] = [MAIL_SESSIONS, COMPACT_MAIL];

/** As few bytes as they take, bit 0 the lowest of the first; empty: none of them is one. */
export function encodeAbilities(capabilities: readonly string[]): Uint8Array {
  const bytes = new Uint8Array(ABILITY_BYTES_MAX);
  let length = 0;
  for (const { bit, word } of bits) {
    if (!capabilities.includes(word)) continue;
    bytes[bit >> 3]! |= 1 << (bit & 7);
    length = Math.max(length, (bit >> 3) + 1);
  }
  return bytes.slice(0, length);
}

/** Those that this release knows. Undefined: no abilities are so long or so short. */
export function decodeAbilities(bytes: Uint8Array): string[] | undefined {
  if (bytes.length === 0 || bytes.length > ABILITY_BYTES_MAX) return undefined;
  return bits.flatMap(({ bit, word }) => (((bytes[bit >> 3] ?? 0) & (1 << (bit & 7))) !== 0 ? [word] : []));
}
