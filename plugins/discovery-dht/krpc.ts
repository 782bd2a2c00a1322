/**
 * Messages of the DHT (KRPC of BEP 5, items of BEP 44, IPv6 nodes of BEP 32) as this node takes them: each field of the form and length that
 * it must have, everything else left out. Pure: bytes in, values out. What is no message is `undefined`, and costs its sender nothing but a count.
 */
import { type Bencoded, decodeBencode } from "./bencode.ts";

/** No answer of a node that keeps to BEP 44 is longer, and what has one fragment less gets through. */
export const DATAGRAM_BYTES_MAX = 1_472;
export const ID_BYTES = 20;
const TRANSACTION_BYTES_MAX = 16;
const TOKEN_BYTES_MAX = 64;
export const ITEM_BYTES_MAX = 996;
export const SALT_BYTES_MAX = 64;

/** Nodes of one answer that are looked at. */
const NODES_MAX = 32;

export type Family = 4 | 6;

export interface Contact {
  readonly id: Uint8Array;
  readonly host: string;
  /** 1 to 65,535. */
  readonly port: number;
}

/** A mutable item, or an immutable one without `key`. */
export interface Item {
  readonly value: Uint8Array;
  readonly key?: Uint8Array;
  readonly signature?: Uint8Array;
  readonly seq?: number;
  readonly salt?: Uint8Array;
}

export interface Query {
  readonly kind: "query";
  readonly transaction: Uint8Array;
  readonly name: "ping" | "find_node" | "get_peers" | "get" | "put";
  readonly id: Uint8Array;
  /** Of find_node, get_peers, get. */
  readonly target: Uint8Array | undefined;
  /** Of put. */
  readonly token: Uint8Array | undefined;
  readonly cas: number | undefined;
  readonly item: Item | undefined;
  /** BEP 43: whoever asks does not answer, and stands in no table. */
  readonly isReadOnly: boolean;
  /** BEP 32: families asked for; empty: that of whoever asks. */
  readonly want: readonly Family[];
}

export interface Answer {
  readonly kind: "answer";
  readonly transaction: Uint8Array;
  readonly id: Uint8Array;
  readonly token: Uint8Array | undefined;
  readonly nodes: readonly Contact[];
  readonly item: Item | undefined;
}

export interface Failure {
  readonly kind: "failure";
  readonly transaction: Uint8Array;
  readonly code: number;
}

/** A query that is well formed and that this node does not answer. */
export interface Foreign {
  readonly kind: "foreign";
  readonly transaction: Uint8Array;
  readonly why: "method" | "value";
}

const NAMES: ReadonlySet<string> = new Set<Query["name"]>(["ping", "find_node", "get_peers", "get", "put"]);
const isName = (name: string): name is Query["name"] => NAMES.has(name);

type Dictionary = ReadonlyMap<string, Bencoded>;

const textOf = (value: Bencoded | undefined): string | undefined =>
  value instanceof Uint8Array ? Buffer.from(value).toString("latin1") : undefined;
const bytesOf = (value: Bencoded | undefined, min: number, max = min): Uint8Array | undefined =>
  value instanceof Uint8Array && value.length >= min && value.length <= max ? value : undefined;
const numberOf = (value: Bencoded | undefined): number | undefined =>
  typeof value === "number" ? value : undefined;
const dictionaryOf = (value: Bencoded | undefined): Dictionary | undefined =>
  value instanceof Map ? value : undefined;

/** Byte strings of the answer are views of `bytes`. */
export function parseMessage(bytes: Uint8Array): Query | Answer | Failure | Foreign | undefined {
  if (bytes.length > DATAGRAM_BYTES_MAX) return undefined;
  const message = dictionaryOf(decodeBencode(bytes));
  const transaction = bytesOf(message?.get("t"), 1, TRANSACTION_BYTES_MAX);
  if (message === undefined || transaction === undefined) return undefined;
  switch (textOf(message.get("y"))) {
    case "q":
      return parseQuery(message, transaction);
    case "r":
      return parseAnswer(dictionaryOf(message.get("r")), transaction);
    case "e": {
      const list = message.get("e");
      const code = Array.isArray(list) ? numberOf(list[0]) : undefined;
      return { kind: "failure", transaction, code: code ?? 0 };
    }
    default:
      return undefined;
  }
}

function parseQuery(message: Dictionary, transaction: Uint8Array): Query | Foreign | undefined {
  const name = textOf(message.get("q"));
  const given = dictionaryOf(message.get("a"));
  const id = bytesOf(given?.get("id"), ID_BYTES);
  if (name === undefined || given === undefined || id === undefined) return undefined;
  if (!isName(name)) return { kind: "foreign", transaction, why: "method" };
  const target = bytesOf(given.get(name === "get_peers" ? "info_hash" : "target"), ID_BYTES);
  const hasTarget = name !== "ping" && name !== "put";
  const token = bytesOf(given.get("token"), 1, TOKEN_BYTES_MAX);
  const item = name === "put" ? itemOf(given) : undefined;
  if ((hasTarget && target === undefined) || (name === "put" && token === undefined)) return undefined;
  // A value of another form may be right; it is only not kept here.
  if (name === "put" && item === undefined) return { kind: "foreign", transaction, why: "value" };
  return {
    ...{ kind: "query", transaction, name, id, token, item },
    target: hasTarget ? target : undefined,
    cas: numberOf(given.get("cas")),
    isReadOnly: numberOf(message.get("ro")) === 1,
    want: wantOf(given.get("want")),
  };
}

function wantOf(value: Bencoded | undefined): Family[] {
  if (!Array.isArray(value)) return [];
  const words = value.map((one) => textOf(one));
  return [...(words.includes("n4") ? [4 as const] : []), ...(words.includes("n6") ? [6 as const] : [])];
}

function parseAnswer(given: Dictionary | undefined, transaction: Uint8Array): Answer | undefined {
  const id = bytesOf(given?.get("id"), ID_BYTES);
  if (given === undefined || id === undefined) return undefined;
  return {
    ...{ kind: "answer", transaction, id },
    token: bytesOf(given.get("token"), 1, TOKEN_BYTES_MAX),
    nodes: [...contactsOf(given.get("nodes"), 4), ...contactsOf(given.get("nodes6"), 6)],
    item: itemOf(given),
  };
}

/** Undefined: there is none, or what there is breaks BEP 44 or is no byte string, as all of ours are. */
function itemOf(given: Dictionary): Item | undefined {
  const value = bytesOf(given.get("v"), 0, ITEM_BYTES_MAX);
  if (value === undefined) return undefined;
  if (!given.has("k") && !given.has("sig")) return { value };
  const key = bytesOf(given.get("k"), 32);
  const signature = bytesOf(given.get("sig"), 64);
  const seq = numberOf(given.get("seq"));
  const salt = given.has("salt") ? bytesOf(given.get("salt"), 0, SALT_BYTES_MAX) : new Uint8Array(0);
  if (key === undefined || signature === undefined || seq === undefined || seq < 0 || salt === undefined)
    return undefined;
  return { value, key, signature, seq, ...(salt.length === 0 ? {} : { salt }) };
}

const ADDRESS_BYTES = { 4: 4, 6: 16 } as const;

/** Compact node info: id, address, port. What is left over at the end, and a port 0, is skipped. */
export function contactsOf(value: Bencoded | undefined, family: Family): Contact[] {
  if (!(value instanceof Uint8Array)) return [];
  const stride = ID_BYTES + ADDRESS_BYTES[family] + 2;
  const contacts: Contact[] = [];
  for (let at = 0; at + stride <= value.length && contacts.length < NODES_MAX; at += stride) {
    const address = value.subarray(at + ID_BYTES, at + stride - 2);
    const port = value[at + stride - 2]! * 256 + value[at + stride - 1]!;
    if (port > 0)
      contacts.push({ id: value.subarray(at, at + ID_BYTES), host: formatAddress(address), port });
  }
  return contacts;
}

/** The reverse, for contacts of one family. */
export function compactOf(contacts: readonly Contact[]): Buffer {
  return Buffer.concat(
    contacts.flatMap(({ id, host, port }) => [id, addressBytes(host), Uint8Array.of(port >> 8, port & 255)]),
  );
}

export const familyOf = (host: string): Family => (host.includes(":") ? 6 : 4);

/** 4 or 16 bytes as text; IPv6 in the form of RFC 5952. */
export function formatAddress(bytes: Uint8Array): string {
  if (bytes.length === 4) return bytes.join(".");
  const groups = Array.from({ length: 8 }, (_, n) => (bytes[2 * n]! * 256 + bytes[2 * n + 1]!).toString(16));
  return new URL(`http://[${groups.join(":")}]/`).hostname.slice(1, -1);
}

/** Of an address without zone. */
export function addressBytes(host: string): Uint8Array {
  if (familyOf(host) === 4) return Uint8Array.from(host.split(".").map(Number));
  const whole = new URL(`http://[${host}]/`).hostname.slice(1, -1);
  const [head = "", tail] = whole.split("::");
  const front = head === "" ? [] : head.split(":");
  const back = tail === undefined || tail === "" ? [] : tail.split(":");
  const middle = Array.from({ length: 8 - front.length - back.length }, () => "0");
  const groups = [...front, ...middle, ...back].map((group) => Number.parseInt(group, 16));
  return Uint8Array.from(groups.flatMap((group) => [group >> 8, group & 255]));
}
