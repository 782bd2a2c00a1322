/**
 * The tag that says which node of Godwit a member is: its id, where its transports are, and its signature over that, the member's name, address
 * and port. Whoever holds the gossip key can claim any name; without the node's own key none of them becomes a hint.
 *
 *   godwit = "1 <id> <where> <signature, base64url>"
 *   where  = up to four of scheme:port, at the member's address, or whole endpoints, with commas between
 *
 * Signed, under the plugin's prefix: "serf tag 1" and name, address, port, id and where, each behind a zero byte.
 */
import { formatEndpoint, type Self } from "@godwit/sdk";
import { CAPABILITIES_TAG, haveRoom } from "./config.ts";
import type { At } from "./wire/messages.ts";
import type { Tags } from "./wire/serf-messages.ts";

const WHERE_MAX = 4;
const WHERE_CHARS_MAX = 220;
const TAG = /^1 ([a-z2-7]{51}[aq]) ([!-~]{0,220}) ([A-Za-z0-9_-]{86})$/;
const AT_MEMBER = /^([a-z][a-z0-9+.-]{0,31}):([1-9]\d{0,4})$/;
const ENDPOINT = /^[a-z][a-z0-9+.-]{0,31}:\/\/[!-~]{1,200}$/;

export interface Claim {
  readonly id: string;
  /** Where it is reached, as it says. */
  readonly endpoints: readonly string[];
}

const messageOf = (name: string, { address, port }: At, id: string, where: string): Uint8Array =>
  new TextEncoder().encode(["serf tag 1", name, address, String(port), id, where].join("\0"));

/** What goes into `where`: what is at the member's own address first, and in a few bytes. */
export function whereOf(endpoints: readonly string[], { address }: At): string[] {
  const own: string[] = [];
  const others: string[] = [];
  for (const endpoint of endpoints) {
    const match = /^([a-z][a-z0-9+.-]*):\/\/(?:\[([^\]]+)\]|([^:/]+)):(\d+)$/.exec(endpoint);
    const host = match?.[2] ?? match?.[3];
    if (match !== null && host === address) own.push(`${match[1]}:${match[4]}`);
    else if (ENDPOINT.test(endpoint) && !endpoint.includes(",")) others.push(endpoint);
  }
  const kept: string[] = [];
  for (const one of [...new Set([...own, ...others])])
    if (kept.length < WHERE_MAX && [...kept, one].join().length <= WHERE_CHARS_MAX) kept.push(one);
  return kept;
}

export async function makeTag(self: Self, name: string, at: At, where: readonly string[]): Promise<string> {
  const text = where.join();
  const signature = await self.sign(messageOf(name, at, self.id, text));
  return `1 ${self.id} ${text} ${Buffer.from(signature).toString("base64url")}`;
}

/** Undefined: no claim, or one that its node did not sign for this name, address and port. */
export async function readTag(
  self: Pick<Self, "verify">,
  name: string,
  at: At,
  tag: string,
): Promise<Claim | undefined> {
  const match = TAG.exec(tag);
  if (match === null) return undefined;
  const [, id, where, signature] = match as unknown as [string, string, string, string];
  const message = messageOf(name, at, id, where);
  if (!(await self.verify(id, message, Buffer.from(signature, "base64url")))) return undefined;
  const endpoints = where
    .split(",")
    .slice(0, WHERE_MAX)
    .flatMap((one) => {
      const near = AT_MEMBER.exec(one);
      if (near !== null && Number(near[2]) <= 65_535)
        return [formatEndpoint(near[1]!, at.address, Number(near[2]))];
      return ENDPOINT.test(one) ? [one] : [];
    });
  return { id, endpoints };
}

/** `tags` and what the node says of its machine, so many whole `words` of it as have room; where the operator has such a tag, his. */
export function withCapabilities(
  tags: Tags,
  words: readonly string[],
): { readonly told: Tags; readonly untold: readonly string[] } {
  if (tags.has(CAPABILITIES_TAG)) return { told: tags, untold: [] };
  for (let count = words.length; count > 0; count--) {
    const told = new Map([...tags, [CAPABILITIES_TAG, words.slice(0, count).join()]]);
    if (haveRoom(told)) return { told, untold: words.slice(count) };
  }
  return { told: tags, untold: words };
}
