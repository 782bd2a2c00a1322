/** Name proofs and revocations as one line of text, for files, mail and a telephone read aloud. docs/protocol/records.md */
import { godwitError } from "../kernel/errors.ts";
import { formatBase32, parseBase32, parseNodeId, type NodeId } from "../kernel/ids.ts";
import { parseCallsign } from "./address.ts";
import { SIGNATURE_BYTES } from "./keys.ts";
import type { NameProof } from "./record.ts";

/** A name, the node that gets it, and the authority's signature over both. */
export interface NameGrant extends NameProof {
  readonly callsign: string;
  readonly id: NodeId;
}

const NAME_PREFIX = "godwit-name";
const REVOCATION_PREFIX = "godwit-revocation";

export const formatNameGrant = ({ callsign, id, serial, signature }: NameGrant): string =>
  [NAME_PREFIX, callsign, id, serial, formatBase32(signature)].join(":");

/** Throws GODWIT_PROOF_INVALID. Does not verify. */
export function parseNameGrant(text: string): NameGrant {
  const [prefix, callsign = "", id = "", serial = "", signed = "", ...rest] = text.trim().split(":");
  const signature = parseBase32(signed);
  const isWhole = prefix === NAME_PREFIX && rest.length === 0 && /^\d{1,10}$/.test(serial);
  if (!isWhole || parseCallsign(callsign) !== callsign || signature?.length !== SIGNATURE_BYTES)
    throw invalid(`not a name proof; it looks like ${NAME_PREFIX}:DUN-A:<id>:1:<signature>`);
  if (Number(serial) > 0xffff_ffff) throw invalid("the serial of the name proof is too high");
  return { callsign, id: nodeIdOf(id), serial: Number(serial), signature };
}

export const formatRevocation = (record: Uint8Array): string =>
  `${REVOCATION_PREFIX}:${formatBase32(record)}`;

/** The record's bytes. Throws GODWIT_PROOF_INVALID. Does not verify. */
export function parseRevocation(text: string): Uint8Array {
  const [prefix, encoded = "", ...rest] = text.trim().split(":");
  const bytes = parseBase32(encoded);
  if (prefix !== REVOCATION_PREFIX || rest.length > 0 || bytes === undefined || bytes.length === 0)
    throw invalid(`not a revocation; it looks like ${REVOCATION_PREFIX}:<record>`);
  return bytes;
}

function nodeIdOf(text: string): NodeId {
  try {
    return parseNodeId(text);
  } catch {
    throw invalid("the name proof names no usable node id");
  }
}

const invalid = (message: string) => godwitError("GODWIT_PROOF_INVALID", message);
