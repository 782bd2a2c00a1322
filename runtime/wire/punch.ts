/**
 * What two nodes behind NATs tell each other so that both send at once. docs/protocol/punch.md draws it.
 *
 *   frame 0x60 observed   | 0x60 | endpoint, sized |                       to a neighbour: where its datagrams come from
 *   packet kind 5, punch  | step 1 | nonce 8 | count 1 | endpoints, sized | signature 64 |
 *
 * The signature covers "godwit punch 1\0", the SHA-256 of the network's name, source, destination and everything before it.
 */
import { nodeIdBytes, type NodeId } from "../kernel/ids.ts";
import { decodeError, Reader, Writer } from "./bytes.ts";
import { frameReader } from "./peer-messages.ts";
import { FrameType } from "./constants.ts";

export const PunchStep = { call: 1, answer: 2 } as const;
export type PunchStepCode = (typeof PunchStep)[keyof typeof PunchStep];
export const PUNCH_NONCE_BYTES = 8;
export const PUNCH_ENDPOINTS_MAX = 4;
const ENDPOINT_BYTES_MAX = 64;
const SIGNATURE_BYTES = 64;

export interface Punch {
  readonly step: PunchStepCode;
  readonly nonce: Uint8Array;
  readonly endpoints: readonly string[];
}

export const encodeObserved = (endpoint: string): Uint8Array =>
  new Writer(80).u8(FrameType.observed).sizedBytes(new TextEncoder().encode(endpoint)).finish();

/** Throws GODWIT_DECODE unless the endpoint is one that may be called. */
export function decodeObserved(frame: Uint8Array): string {
  return readEndpoint(frameReader(frame, FrameType.observed));
}

/** Without signature; at most 4 endpoints. */
export function encodePunch({ step, nonce, endpoints }: Punch): Uint8Array {
  const writer = new Writer(96).u8(step).bytes(nonce).u8(endpoints.length);
  for (const endpoint of endpoints) writer.sizedBytes(new TextEncoder().encode(endpoint));
  return writer.finish();
}

/** What is signed: nobody can make it serve another network, sender or recipient. */
export const punchMessage = (
  networkHash: Uint8Array,
  source: NodeId,
  destination: NodeId,
  body: Uint8Array,
): Uint8Array =>
  new Writer(160)
    .bytes(new TextEncoder().encode("godwit punch 1\0"))
    .bytes(networkHash)
    .bytes(nodeIdBytes(source))
    .bytes(nodeIdBytes(destination))
    .bytes(body)
    .finish();

/** `body` and `signature` share the payload's memory; the signature is not checked. Throws GODWIT_DECODE. */
export function decodePunch(payload: Uint8Array): Punch & { body: Uint8Array; signature: Uint8Array } {
  const reader = new Reader(payload);
  const step = reader.u8();
  if (step !== PunchStep.call && step !== PunchStep.answer) throw decodeError(`punch step ${step}`);
  const nonce = reader.bytes(PUNCH_NONCE_BYTES).slice();
  const count = reader.u8();
  if (count > PUNCH_ENDPOINTS_MAX) throw decodeError(`a punch with ${count} endpoints`);
  const endpoints = Array.from({ length: count }, () => readEndpoint(reader));
  const bodyBytes = payload.length - reader.remaining;
  const signature = reader.bytes(SIGNATURE_BYTES);
  return { step, nonce, endpoints, body: payload.subarray(0, bodyBytes), signature };
}

function readEndpoint(reader: Reader): string {
  const text = new TextDecoder().decode(reader.sizedBytes(ENDPOINT_BYTES_MAX));
  if (!isCallable(text)) throw decodeError("an endpoint that may not be called");
  return text;
}

/**
 * `udp://` with an address, no name, and a port, that could be another machine: neither unspecified, loopback, link-local,
 * multicast nor broadcast.
 */
export function isCallable(endpoint: string): boolean {
  const match = /^udp:\/\/(?:(\d{1,3}(?:\.\d{1,3}){3})|\[([0-9a-f:]{2,39})\]):([1-9]\d{0,4})$/.exec(endpoint);
  if (match === null || Number(match[3]) > 65_535) return false;
  const v4 = match[1];
  if (v4 === undefined) return /^(?:[23]|f[cd])[0-9a-f]{0,3}:/.test(match[2]!);
  const parts = v4.split(".").map(Number);
  const [first = 0, second = 0] = parts;
  if (parts.some((part) => part > 255)) return false;
  return first > 0 && first !== 127 && first < 224 && !(first === 169 && second === 254);
}
