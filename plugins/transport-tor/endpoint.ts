/** Text forms: endpoints `tor://host:port`, onion addresses (rend-spec-v3, section 6), and where Tor's own doors are. */
import { createHash } from "node:crypto";
import { isIP } from "node:net";
import { GodwitError } from "@godwit/sdk";

export interface TorTarget {
  /** Lower case. A v3 onion address, a host name that only Tor resolves, or an address (IPv6 without brackets). */
  readonly host: string;
  /** 1 to 65,535. */
  readonly port: number;
}

/** What stands for an end that has no address. */
export const ANONYMOUS = "tor://anonymous";

const HOST_CHARS_MAX = 253;
const ONION_CHARS = 56;
const ONION_VERSION = 3;
const BASE32 = "abcdefghijklmnopqrstuvwxyz234567";

/** Throws GODWIT_ENDPOINT_INVALID naming what was expected. */
export function parseTorEndpoint(endpoint: string): TorTarget {
  const match = /^tor:\/\/(?:\[([0-9a-fA-F:.]+)\]|([A-Za-z0-9_.-]+)):(\d{1,5})$/.exec(endpoint);
  // With or without its final dot it is one name, and Tor knows onion addresses without.
  const host = (match?.[1] ?? match?.[2]?.replace(/\.$/, "") ?? "").toLowerCase();
  const port = Number(match?.[3]);
  const isHost = match?.[1] === undefined ? isHostName(host) || isIP(host) === 4 : isIP(host) === 6;
  if (match === null || !isHost || port < 1 || port > 65_535) {
    throw new GodwitError(
      "GODWIT_ENDPOINT_INVALID",
      `"${endpoint.slice(0, 100)}" is not tor://<56 characters>.onion:port or tor://host:port`,
      { kind: "config" },
    );
  }
  return { host, port };
}

export const formatTorEndpoint = ({ host, port }: TorTarget): string =>
  host.includes(":") ? `tor://[${host}]:${port}` : `tor://${host}:${port}`;

function isHostName(host: string): boolean {
  if (host.length > HOST_CHARS_MAX) return false;
  const labels = host.split(".");
  if (labels.at(-1) === "onion") return isOnionHost(host);
  // What ends in digits would be an address, and a wrong one.
  if (/^\d+$/.test(labels.at(-1)!)) return false;
  return labels.every((label) => /^[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?$/.test(label));
}

/** 56 characters of a real key and `.onion`, in lower case: a mistyped one must not cost a search of a minute. */
export function isOnionHost(host: string): boolean {
  const name = /^([a-z2-7]{56})\.onion$/.exec(host)?.[1];
  if (name === undefined) return false;
  return name === onionNameOf(decodeBase32(name).subarray(0, 32));
}

/** The 56 characters before `.onion` of an Ed25519 public key of 32 bytes. */
export function onionNameOf(publicKey: Uint8Array): string {
  const version = Uint8Array.of(ONION_VERSION);
  const checksum = createHash("sha3-256")
    .update(".onion checksum")
    .update(publicKey)
    .update(version)
    .digest()
    .subarray(0, 2);
  return encodeBase32(Buffer.concat([publicKey, checksum, version])).slice(0, ONION_CHARS);
}

/** RFC 4648 without padding, in lower case. */
export function encodeBase32(bytes: Uint8Array): string {
  let text = "";
  let held = 0;
  let bits = 0;
  for (const byte of bytes) {
    held = ((held << 8) | byte) & 0xfff;
    bits += 8;
    for (; bits >= 5; bits -= 5) text += BASE32[(held >> (bits - 5)) & 31];
  }
  return bits > 0 ? text + BASE32[(held << (5 - bits)) & 31] : text;
}

function decodeBase32(text: string): Uint8Array {
  const bytes = new Uint8Array(Math.floor((text.length * 5) / 8));
  let held = 0;
  let bits = 0;
  let at = 0;
  for (const character of text) {
    held = ((held << 5) | BASE32.indexOf(character)) & 0xfff;
    bits += 5;
    if (bits < 8) continue;
    bits -= 8;
    bytes[at++] = (held >> bits) & 0xff;
  }
  return bytes;
}

/** One of Tor's doors on this machine or beside it: TCP, or a unix socket. */
export type Door = { readonly host: string; readonly port: number } | { readonly path: string };

/** `host:port`, `[IPv6]:port` or `unix:/path`; undefined for anything else. */
export function parseDoor(text: string): Door | undefined {
  if (text.startsWith("unix:")) {
    const path = text.slice("unix:".length);
    return path.startsWith("/") && !path.includes("\0") ? { path } : undefined;
  }
  const match = /^(?:\[([0-9a-fA-F:.]+)\]|([^\s:[\]/]+)):(\d{1,5})$/.exec(text);
  const port = Number(match?.[3]);
  if (match === null || port > 65_535) return undefined;
  return { host: match[1] ?? match[2]!, port };
}

export const formatDoor = (door: Door): string =>
  "path" in door
    ? `unix:${door.path}`
    : door.host.includes(":")
      ? `[${door.host}]:${door.port}`
      : `${door.host}:${door.port}`;
