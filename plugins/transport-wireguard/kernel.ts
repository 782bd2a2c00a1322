/**
 * The kernel's WireGuard over generic netlink (include/uapi/linux/wireguard.h): family `wireguard`, version 1. The codec is pure and
 * checked against what wireguard-tools sends.
 *
 *   device: 1 index | 2 name | 3 private key | 4 public key | 5 flags | 6 port u16 | 7 mark | 8 peers [ 0 peer ... ]
 *   peer:   1 public key | 2 preshared key | 3 flags | 4 sockaddr | 5 keepalive u16 | 6 handshake | 7, 8 bytes | 9 allowed [ 0 ... ]
 *   allowed: 1 family u16 | 2 address | 3 length u8
 */
import { GodwitError, type Clock, type HostPort } from "@godwit/sdk";
import {
  attributeList,
  buildGeneric,
  FAMILY_V4,
  FAMILY_V6,
  formatIp,
  GENERIC_HEADER_BYTES,
  malformed,
  type NetlinkBuilder,
  NetlinkFlag,
  type NetlinkMessage,
  NetlinkSocket,
  parseAttributes,
  parseIp,
  readU16,
  readU64,
  resolveFamily,
} from "@godwit/sdk/netlink";
import type { WgChange, WgDevice, WgDoor, WgPeer, WgPeerChange } from "./device.ts";
import { Secret } from "@godwit/sdk/secret";
import { KEY_BYTES, keyText, parseKey } from "./keys.ts";

export const FAMILY = "wireguard";
const VERSION = 1;
const GET_DEVICE = 0;
const SET_DEVICE = 1;
const DeviceAttribute = { name: 2, privateKey: 3, publicKey: 4, listenPort: 6, peers: 8 } as const;
const PeerAttribute = {
  publicKey: 1,
  presharedKey: 2,
  flags: 3,
  endpoint: 4,
  keepalive: 5,
  handshake: 6,
  received: 7,
  sent: 8,
  allowedIps: 9,
} as const;
const AllowedAttribute = { family: 1, address: 2, length: 3 } as const;
const PeerFlag = { remove: 1, replaceAllowedIps: 2 } as const;
/** In one message: far below what one may hold. */
const PEERS_PER_MESSAGE = 32;

export const buildGetDevice = (family: number, name: string): NetlinkBuilder =>
  buildGeneric(family, GET_DEVICE, VERSION, NetlinkFlag.ack | NetlinkFlag.dump).attributeText(
    DeviceAttribute.name,
    name,
  );

/** One message; at most `PEERS_PER_MESSAGE` peers belong in it. */
export function buildSetDevice(family: number, name: string, change: WgChange): NetlinkBuilder {
  const { privateKey, listenPort, peers = [] } = change;
  const builder = buildGeneric(family, SET_DEVICE, VERSION, NetlinkFlag.ack).attributeText(
    DeviceAttribute.name,
    name,
  );
  if (privateKey !== undefined) builder.attribute(DeviceAttribute.privateKey, privateKey.reveal());
  if (listenPort !== undefined) builder.attributeU16(DeviceAttribute.listenPort, listenPort);
  if (peers.length === 0) return builder;
  return builder.nest(DeviceAttribute.peers, (list) => {
    for (const peer of peers) list.nest(0, (inside) => writePeer(inside, peer));
  });
}

function writePeer(inside: NetlinkBuilder, peer: WgPeerChange): void {
  const { publicKey, presharedKey, endpoint, keepaliveSeconds, allowedIps, isRemoved } = peer;
  inside.attribute(PeerAttribute.publicKey, parseKey(publicKey)!);
  if (isRemoved === true) return void inside.attributeU32(PeerAttribute.flags, PeerFlag.remove);
  if (presharedKey !== undefined)
    inside.attribute(PeerAttribute.presharedKey, presharedKey?.reveal() ?? new Uint8Array(KEY_BYTES));
  if (endpoint !== undefined) inside.attribute(PeerAttribute.endpoint, encodeSockaddr(endpoint));
  if (keepaliveSeconds !== undefined) inside.attributeU16(PeerAttribute.keepalive, keepaliveSeconds);
  if (allowedIps === undefined) return;
  inside.attributeU32(PeerAttribute.flags, PeerFlag.replaceAllowedIps);
  if (allowedIps.length === 0) return;
  inside.nest(PeerAttribute.allowedIps, (list) => {
    for (const text of allowedIps) {
      const [address, length] = text.split("/");
      const bytes = parseIp(address!);
      list.nest(0, (entry) =>
        entry
          .attributeU16(AllowedAttribute.family, bytes.length === 4 ? FAMILY_V4 : FAMILY_V6)
          .attribute(AllowedAttribute.address, bytes)
          .attributeU8(AllowedAttribute.length, Number(length)),
      );
    }
  });
}

/** struct sockaddr_in or sockaddr_in6. The host must be an address. */
export function encodeSockaddr({ host, port }: HostPort): Uint8Array {
  const address = parseIp(host);
  const bytes = new Uint8Array(address.length === 4 ? 16 : 28);
  const view = new DataView(bytes.buffer);
  view.setUint16(0, address.length === 4 ? FAMILY_V4 : FAMILY_V6, true);
  view.setUint16(2, port);
  bytes.set(address, address.length === 4 ? 4 : 8);
  return bytes;
}

/** Undefined for other families. Throws GODWIT_DECODE. */
export function parseSockaddr(bytes: Uint8Array): HostPort | undefined {
  if (bytes.length < 4) throw malformed("an endpoint is cut short");
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const family = view.getUint16(0, true);
  if (family !== FAMILY_V4 && family !== FAMILY_V6) return undefined;
  const [from, length] = family === FAMILY_V4 ? [4, 4] : [8, 16];
  if (bytes.length < from + length) throw malformed("an endpoint is cut short");
  return { host: formatIp(bytes.subarray(from, from + length)), port: view.getUint16(2) };
}

/** All messages of one GET_DEVICE: a peer with many allowed addresses goes on in the next. Throws GODWIT_DECODE. */
export function parseDevice(messages: readonly NetlinkMessage[]): WgDevice {
  let publicKey: string | undefined;
  let listenPort = 0;
  const peers: (WgPeer & { readonly allowedIps: string[] })[] = [];
  for (const { body } of messages) {
    const attributes = parseAttributes(body, GENERIC_HEADER_BYTES);
    const key = attributes.get(DeviceAttribute.publicKey);
    if (key?.length === KEY_BYTES && key.some((byte) => byte !== 0)) publicKey = keyText(key);
    listenPort = readU16(attributes, DeviceAttribute.listenPort) ?? listenPort;
    const list = attributes.get(DeviceAttribute.peers);
    for (const { value } of list === undefined ? [] : attributeList(list)) {
      const peer = parsePeer(value);
      const last = peers.at(-1);
      if (last?.publicKey === peer.publicKey) last.allowedIps.push(...peer.allowedIps);
      else peers.push(peer);
    }
  }
  return { publicKey, listenPort, peers };
}

function parsePeer(bytes: Uint8Array): WgPeer & { readonly allowedIps: string[] } {
  const attributes = parseAttributes(bytes);
  const key = attributes.get(PeerAttribute.publicKey);
  if (key?.length !== KEY_BYTES) throw malformed("a peer without its key");
  const preshared = attributes.get(PeerAttribute.presharedKey);
  const endpoint = attributes.get(PeerAttribute.endpoint);
  const list = attributes.get(PeerAttribute.allowedIps);
  return {
    publicKey: keyText(key),
    presharedKey:
      preshared?.length === KEY_BYTES && preshared.some((byte) => byte !== 0)
        ? new Secret(preshared)
        : undefined,
    endpoint: endpoint === undefined ? undefined : parseSockaddr(endpoint),
    keepaliveSeconds: readU16(attributes, PeerAttribute.keepalive) ?? 0,
    handshakeMs: parseTime(attributes.get(PeerAttribute.handshake)),
    receivedBytes: readU64(attributes, PeerAttribute.received) ?? 0,
    sentBytes: readU64(attributes, PeerAttribute.sent) ?? 0,
    allowedIps: (list === undefined ? [] : attributeList(list)).map(({ value }) => parseAllowed(value)),
  };
}

function parseAllowed(bytes: Uint8Array): string {
  const attributes = parseAttributes(bytes);
  const address = attributes.get(AllowedAttribute.address);
  const length = attributes.get(AllowedAttribute.length)?.[0];
  if ((address?.length !== 4 && address?.length !== 16) || length === undefined)
    throw malformed("an allowed address is incomplete");
  return `${formatIp(address)}/${length}`;
}

/** struct __kernel_timespec: seconds and nanoseconds of 64 bits. */
function parseTime(bytes: Uint8Array | undefined): number {
  if (bytes?.length !== 16) return 0;
  const view = new DataView(bytes.buffer, bytes.byteOffset, 16);
  return Number(view.getBigInt64(0, true)) * 1_000 + Math.floor(Number(view.getBigInt64(8, true)) / 1e6);
}

export class KernelDoor implements WgDoor {
  readonly #name: string;
  readonly #clock: Clock;
  readonly #socket: NetlinkSocket;
  #family: Promise<number> | undefined;

  /** Throws GODWIT_NETLINK. */
  constructor(name: string, clock: Clock) {
    this.#name = name;
    this.#clock = clock;
    this.#socket = NetlinkSocket.open("generic");
  }

  async read(): Promise<WgDevice> {
    const family = await this.#resolve();
    return parseDevice(
      await this.#socket.request(`read ${this.#name}`, () => buildGetDevice(family, this.#name), {
        clock: this.#clock,
      }),
    );
  }

  async change(change: WgChange): Promise<void> {
    const family = await this.#resolve();
    const peers = change.peers ?? [];
    let part: WgChange = { ...change, peers: peers.slice(0, PEERS_PER_MESSAGE) };
    for (let at = PEERS_PER_MESSAGE; ; at += PEERS_PER_MESSAGE) {
      const now = part;
      await this.#socket.request(`change ${this.#name}`, () => buildSetDevice(family, this.#name, now), {
        clock: this.#clock,
      });
      if (at >= peers.length) return;
      part = { peers: peers.slice(at, at + PEERS_PER_MESSAGE) };
    }
  }

  close(): void {
    this.#socket.close();
  }

  #resolve(): Promise<number> {
    this.#family ??= resolveFamily(this.#socket, FAMILY, { clock: this.#clock }).then(
      (family) => {
        if (family !== undefined) return family.id;
        throw new GodwitError("GODWIT_PLUGIN_FAILED", "the kernel has no WireGuard", { kind: "transport" });
      },
      (error: unknown) => {
        this.#family = undefined;
        throw error;
      },
    );
    return this.#family;
  }
}
