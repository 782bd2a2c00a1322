/** A UDP datagram on a flow, with its far end: | port 2 | bytes of host 1 | host in UTF-8 | bytes |. Pure. */
import type { HostPort } from "@godwit/sdk";

const encoder = new TextEncoder();
const decoder = new TextDecoder();

export function encodeDatagram(bytes: Uint8Array, { host, port }: HostPort): Uint8Array {
  const name = encoder.encode(host).subarray(0, 255);
  const out = new Uint8Array(3 + name.length + bytes.length);
  out[0] = port >>> 8;
  out[1] = port;
  out[2] = name.length;
  out.set(name, 3);
  out.set(bytes, 3 + name.length);
  return out;
}

/** Undefined when it is cut short. `bytes` is a view. */
export function decodeDatagram(
  body: Uint8Array,
): { readonly at: HostPort; readonly bytes: Uint8Array } | undefined {
  const end = 3 + (body[2] ?? 0);
  if (body.length < Math.max(3, end)) return undefined;
  return {
    at: { host: decoder.decode(body.subarray(3, end)), port: body[0]! * 256 + body[1]! },
    bytes: body.subarray(end),
  };
}
