/**
 * What a node says of itself in its item, and what a slot of a rendezvous says: a list of node ids. Pure: values and bytes. What comes in was
 * sealed by a member, who may be hostile all the same. docs/protocol/dht.md
 */
import { ITEM_VALUE_BYTES_MAX } from "@godwit/sdk";
import { SEAL_BYTES } from "./keys.ts";

const VERSION = 1;
const PLAIN_BYTES_MAX = ITEM_VALUE_BYTES_MAX - SEAL_BYTES;
/** Characters of one, as hints have it. */
const ENDPOINT_CHARS_MAX = 200;
const ENDPOINTS_MAX = 32;
const ENDPOINT = /^[a-z][a-z0-9+.-]*:\/\/[\x21\x22\x24-\x7e]+$/;
const CALLSIGN_BYTES_MAX = 64;

const ID_BYTES = 32;
/** (996 - 28 - 1) / 32. */
export const SLOT_IDS_MAX = 30;

export interface NodeRecord {
  /** As the node says; proves nothing. */
  readonly callsign: string | undefined;
  readonly endpoints: readonly string[];
}

/** | version 1 | callsign length 1 | callsign | (length 1 | endpoint)... |, without the last endpoints where all are too many. */
export function encodeRecord({ callsign, endpoints }: NodeRecord): Uint8Array {
  const name = Buffer.from(callsign ?? "").subarray(0, CALLSIGN_BYTES_MAX);
  const parts: Uint8Array[] = [Uint8Array.of(VERSION, name.length), name];
  let left = PLAIN_BYTES_MAX - 2 - name.length;
  for (const endpoint of endpoints.slice(0, ENDPOINTS_MAX)) {
    const bytes = Buffer.from(endpoint);
    if (bytes.length > ENDPOINT_CHARS_MAX || !ENDPOINT.test(endpoint)) continue;
    if ((left -= 1 + bytes.length) < 0) break;
    parts.push(Uint8Array.of(bytes.length), bytes);
  }
  return Buffer.concat(parts);
}

/** Undefined: it is none. Endpoints that are none are left out. */
export function decodeRecord(bytes: Uint8Array): NodeRecord | undefined {
  const nameBytes = bytes[1] ?? 255;
  if (bytes[0] !== VERSION || nameBytes > CALLSIGN_BYTES_MAX || bytes.length < 2 + nameBytes)
    return undefined;
  const name = Buffer.from(bytes.subarray(2, 2 + nameBytes)).toString("utf8");
  const endpoints: string[] = [];
  for (let at = 2 + nameBytes; at < bytes.length;) {
    const length = bytes[at]!;
    const end = at + 1 + length;
    if (end > bytes.length) return undefined;
    const endpoint = Buffer.from(bytes.subarray(at + 1, end)).toString("latin1");
    if (endpoints.length < ENDPOINTS_MAX && length <= ENDPOINT_CHARS_MAX && ENDPOINT.test(endpoint))
      endpoints.push(endpoint);
    at = end;
  }
  return { callsign: name === "" ? undefined : name, endpoints };
}

/** | version 1 | id 32 ... |. Ids have 32 bytes; those beyond `SLOT_IDS_MAX` are left out. */
export const encodeSlot = (ids: readonly Uint8Array[]): Uint8Array =>
  Buffer.concat([Uint8Array.of(VERSION), ...ids.slice(0, SLOT_IDS_MAX)]);

/** Undefined: it is none. */
export function decodeSlot(bytes: Uint8Array): Uint8Array[] | undefined {
  const count = (bytes.length - 1) / ID_BYTES;
  if (bytes[0] !== VERSION || !Number.isInteger(count) || count > SLOT_IDS_MAX) return undefined;
  return Array.from({ length: count }, (_, n) => bytes.slice(1 + n * ID_BYTES, 1 + (n + 1) * ID_BYTES));
}
