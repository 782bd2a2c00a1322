/** Facts of members as they are kept between two runs. */
import { asGodwitError } from "../kernel/errors.ts";
import { Reader, Writer } from "../wire/bytes.ts";
import {
  appendMemberEntry,
  MemberEntryKind,
  readMemberEntry,
  type MemberFact,
} from "../wire/member-messages.ts";

export function encodeFact(fact: MemberFact): Uint8Array {
  const writer = new Writer(128);
  appendMemberEntry(writer, fact);
  return writer.finish();
}

export function parseFact(body: Uint8Array | undefined): MemberFact | undefined {
  if (body === undefined) return undefined;
  try {
    const entry = readMemberEntry(new Reader(body));
    return entry?.kind === MemberEntryKind.accusation ? undefined : entry;
  } catch (error) {
    if (asGodwitError(error).kind !== "protocol") throw error;
    return undefined;
  }
}
