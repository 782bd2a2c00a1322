/** IP addresses as bytes and as text. Pure. */
import { GodwitError } from "../errors.ts";
import { viewOf } from "./message.ts";

/** Text of 4 or 16 address bytes; IPv6 in the form of RFC 5952. */
export function formatIp(bytes: Uint8Array): string {
  if (bytes.length === 4) return bytes.join(".");
  const view = viewOf(bytes);
  const groups = Array.from({ length: 8 }, (_, i) => view.getUint16(2 * i));
  let best = { at: 0, length: 1 };
  for (let at = 0; at < 8; at++) {
    let length = 0;
    while (at + length < 8 && groups[at + length] === 0) length++;
    if (length > best.length) best = { at, length };
  }
  const hex = (from: number, to?: number) =>
    groups
      .slice(from, to)
      .map((group) => group.toString(16))
      .join(":");
  return best.length < 2 ? hex(0) : `${hex(0, best.at)}::${hex(best.at + best.length)}`;
}

function parseIpv4(text: string): number[] | undefined {
  const parts = /^(\d{1,3})\.(\d{1,3})\.(\d{1,3})\.(\d{1,3})$/.exec(text)?.slice(1).map(Number);
  return parts?.every((part) => part <= 255) === true ? parts : undefined;
}

function parseIpv6(text: string): number[] | undefined {
  if (!/^[0-9a-f:.]{2,45}$/i.test(text)) return undefined;
  const halves = text.split("::");
  if (halves.length > 2) return undefined;
  const read = (half: string): number[] | undefined => {
    if (half === "") return [];
    const bytes: number[] = [];
    const words = half.split(":");
    for (const [i, word] of words.entries()) {
      const isLast = i === words.length - 1;
      const ipv4 = isLast && word.includes(".") ? parseIpv4(word) : undefined;
      if (ipv4 !== undefined) bytes.push(...ipv4);
      else if (/^[0-9a-f]{1,4}$/i.test(word)) bytes.push(parseInt(word, 16) >> 8, parseInt(word, 16) & 255);
      else return undefined;
    }
    return bytes;
  };
  const head = read(halves[0]!);
  // An IPv4 part stands at the very end only.
  if (head === undefined || (halves.length === 2 && halves[0]!.includes("."))) return undefined;
  if (halves.length === 1) return head.length === 16 ? head : undefined;
  const tail = read(halves[1]!);
  if (tail === undefined || head.length + tail.length > 14) return undefined;
  return [...head, ...Array<number>(16 - head.length - tail.length).fill(0), ...tail];
}

/** 4 or 16 bytes, owned by the caller; undefined for what is no address. No zones. */
export function tryParseIp(text: string): Uint8Array | undefined {
  const bytes = text.includes(":") ? parseIpv6(text) : parseIpv4(text);
  return bytes === undefined ? undefined : Uint8Array.from(bytes);
}

/** As `tryParseIp`; throws GODWIT_ADDRESS_INVALID. */
export function parseIp(text: string): Uint8Array {
  const bytes = tryParseIp(text);
  if (bytes !== undefined) return bytes;
  throw new GodwitError("GODWIT_ADDRESS_INVALID", `"${text.slice(0, 60)}" is no IP address`, {
    kind: "config",
  });
}
