/**
 * Messages between this plugin and its like at a linked node (`ctx.peers`), for members that reach no DHT themselves: "put this item of mine", "whom
 * do you know". Pure: values and bytes. Numbers are append-only (docs/registry.md); the bytes are drawn in docs/protocol/dht.md, "Carrying".
 */
import { PEER_MESSAGE_BYTES_MAX } from "@godwit/sdk";
import type { SignedItem } from "./client.ts";
import { LABEL_BYTES } from "./keys.ts";
import { ITEM_BYTES_MAX } from "./krpc.ts";

export const CarryKind = { put: 1, lookUp: 2, found: 3, port: 4 } as const;

/** An item without its salt: whoever gets it knows the labels of its own secrets. */
export interface CarriedItem extends Pick<SignedItem, "key" | "seq" | "value" | "signature"> {
  readonly label: Uint8Array;
}

export type CarryMessage =
  | { readonly kind: "put"; readonly item: CarriedItem }
  | { readonly kind: "lookUp" }
  | { readonly kind: "found"; readonly items: readonly CarriedItem[] }
  | { readonly kind: "port"; readonly port: number };

const HEAD_BYTES = 32 + LABEL_BYTES + 8 + 64 + 2;

/** | key 32 | label 8 | sequence 8 | signature 64 | length 2 | value | */
function encodeItem({ key, label, seq, value, signature }: CarriedItem): Uint8Array {
  const head = Buffer.alloc(HEAD_BYTES);
  head.set(key, 0);
  head.set(label, 32);
  head.writeBigUInt64BE(BigInt(seq), 40);
  head.set(signature, 48);
  head.writeUInt16BE(value.length, 112);
  return Buffer.concat([head, value]);
}

/** Undefined: it is none. */
function decodeItems(bytes: Uint8Array): CarriedItem[] | undefined {
  const view = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const items: CarriedItem[] = [];
  for (let at = 0; at < view.length;) {
    if (at + HEAD_BYTES > view.length) return undefined;
    const seq = Number(view.readBigUInt64BE(at + 40));
    const length = view.readUInt16BE(at + 112);
    const end = at + HEAD_BYTES + length;
    if (!Number.isSafeInteger(seq) || length === 0 || length > ITEM_BYTES_MAX || end > view.length)
      return undefined;
    const part = (from: number, to: number) => new Uint8Array(view.subarray(at + from, at + to));
    items.push({
      ...{ key: part(0, 32), label: part(32, 40), seq, signature: part(48, 112) },
      value: part(HEAD_BYTES, HEAD_BYTES + length),
    });
    at = end;
  }
  return items;
}

export const encodePut = (item: CarriedItem): Uint8Array =>
  Buffer.concat([Uint8Array.of(CarryKind.put), encodeItem(item)]);

export const encodeLookUp = (): Uint8Array => Uint8Array.of(CarryKind.lookUp);

export const encodePort = (port: number): Uint8Array => Uint8Array.of(CarryKind.port, port >> 8, port & 255);

/** As few messages as hold them all. */
export function encodeFound(items: readonly CarriedItem[]): Uint8Array[] {
  const messages: Uint8Array[][] = [[]];
  let left = PEER_MESSAGE_BYTES_MAX - 1;
  for (const bytes of items.map(encodeItem)) {
    if (bytes.length > left) {
      messages.push([]);
      left = PEER_MESSAGE_BYTES_MAX - 1;
    }
    messages.at(-1)!.push(bytes);
    left -= bytes.length;
  }
  return messages.map((parts) => Buffer.concat([Uint8Array.of(CarryKind.found), ...parts]));
}

/** Undefined: nothing that is known. */
export function decodeCarry(bytes: Uint8Array): CarryMessage | undefined {
  const body = bytes.subarray(1);
  switch (bytes[0]) {
    case CarryKind.put: {
      const items = decodeItems(body);
      return items?.length === 1 ? { kind: "put", item: items[0]! } : undefined;
    }
    case CarryKind.lookUp:
      return body.length === 0 ? { kind: "lookUp" } : undefined;
    case CarryKind.found: {
      const items = decodeItems(body);
      return items === undefined ? undefined : { kind: "found", items };
    }
    case CarryKind.port: {
      const port = body.length === 2 ? body[0]! * 256 + body[1]! : 0;
      return port === 0 ? undefined : { kind: "port", port };
    }
    default:
      return undefined;
  }
}
