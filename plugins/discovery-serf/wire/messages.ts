/**
 * Messages of memberlist: their fields as Go writes them, and the bounds of each. Bytes of addresses become text here and nowhere else. Decoders
 * throw GODWIT_DECODE. A decoded message's bytes are views of the input.
 */
import { formatIp, tryParseIp } from "@godwit/sdk/netlink";
import { ByteWriter, type Decoded, type Encodable, Fields, ValueReader, wireError } from "./msgpack.ts";
import { META_BYTES_MAX, MessageType, NAME_BYTES_MAX, NodeState, OWN_VSN } from "./types.ts";

const U32_MAX = 0xffff_ffff;
const PORT_MAX = 65_535;
/** Of an ack: a coordinate has about 120. */
const ACK_BYTES_MAX = 1_024;

/** Where a member listens. */
export interface At {
  readonly address: string;
  readonly port: number;
}

export interface Ping {
  readonly seq: number;
  /** Who is meant; empty: whoever listens there. */
  readonly node: string;
  /** Where to answer, and who asks, as newer members say it. */
  readonly source: At | undefined;
  readonly sourceNode: string;
}

export interface IndirectPing extends Ping {
  readonly target: At;
  readonly wantsNack: boolean;
}

export interface Alive {
  readonly incarnation: number;
  readonly node: string;
  readonly at: At;
  readonly meta: Uint8Array;
  readonly vsn: readonly number[];
}

/** `suspect` and `dead`. A dead message of a node about itself says that it leaves. */
export interface Accusation {
  readonly incarnation: number;
  readonly node: string;
  readonly from: string;
}

export interface NodeEntry extends Alive {
  readonly state: NodeState;
}

export interface PushPull {
  readonly isJoin: boolean;
  readonly nodes: readonly NodeEntry[];
  /** Of nodes that were not taken, by their bound or their content. */
  readonly skipped: number;
  readonly userState: Uint8Array;
}

const bytesOf = (address: string): Uint8Array => {
  const bytes = tryParseIp(address);
  if (bytes === undefined) throw wireError(`"${address}" is no address`);
  return bytes;
};

/** IPv4 inside IPv6 is IPv4, as Go has it. */
export function addressOf(bytes: Uint8Array): string {
  if (bytes.length !== 4 && bytes.length !== 16) throw wireError("an address of neither 4 nor 16 bytes");
  const isMapped =
    bytes.length === 16 &&
    bytes.subarray(0, 10).every((byte) => byte === 0) &&
    bytes[10] === 0xff &&
    bytes[11] === 0xff;
  return formatIp(isMapped ? bytes.subarray(12) : bytes);
}

const message = (type: number, fields: Encodable): Uint8Array =>
  new ByteWriter().u8(type).value(fields).finish();

/** In the order in which Go writes them: by name. */
const sourceFields = ({ source, sourceNode }: Pick<Ping, "source" | "sourceNode">) => ({
  ...(source === undefined ? {} : { SourceAddr: bytesOf(source.address) }),
  ...(sourceNode === "" ? {} : { SourceNode: sourceNode }),
  ...(source === undefined ? {} : { SourcePort: source.port }),
});

export const encodePing = (ping: Ping): Uint8Array =>
  message(MessageType.ping, { Node: ping.node, SeqNo: ping.seq, ...sourceFields(ping) });

export const encodeIndirectPing = (ping: IndirectPing): Uint8Array =>
  message(MessageType.indirectPing, {
    Nack: ping.wantsNack,
    Node: ping.node,
    Port: ping.target.port,
    SeqNo: ping.seq,
    ...sourceFields(ping),
    Target: bytesOf(ping.target.address),
  });

export const encodeAck = (seq: number, payload: Uint8Array | undefined): Uint8Array =>
  message(MessageType.ack, { Payload: payload ?? null, SeqNo: seq });

export const encodeNack = (seq: number): Uint8Array => message(MessageType.nack, { SeqNo: seq });

export const encodeError = (text: string): Uint8Array => message(MessageType.error, { Error: text });

const aliveFields = ({ incarnation, node, at, meta, vsn }: Alive) => ({
  Addr: bytesOf(at.address),
  Incarnation: incarnation,
  Meta: meta,
  Node: node,
  Port: at.port,
  Vsn: Uint8Array.from(vsn),
});

export const encodeAlive = (alive: Alive): Uint8Array => message(MessageType.alive, aliveFields(alive));

const encodeAccusation = (type: number, { from, incarnation, node }: Accusation): Uint8Array =>
  message(type, { From: from, Incarnation: incarnation, Node: node });

export const encodeSuspect = (suspect: Accusation): Uint8Array =>
  encodeAccusation(MessageType.suspect, suspect);
export const encodeDead = (dead: Accusation): Uint8Array => encodeAccusation(MessageType.dead, dead);

/** | 6 | {Join, Nodes, UserStateLen} | a map of each node | user state | */
export function encodePushPull(
  nodes: readonly NodeEntry[],
  userState: Uint8Array,
  isJoin: boolean,
): Uint8Array {
  const writer = new ByteWriter()
    .u8(MessageType.pushPull)
    .value({ Join: isJoin, Nodes: nodes.length, UserStateLen: userState.length });
  for (const entry of nodes) {
    const { Node, ...fields } = aliveFields(entry);
    writer.value({ ...fields, Name: Node, State: entry.state });
  }
  return writer.bytes(userState).finish();
}

/** Over UDP the message is all there is; over a stream its length goes before it. */
export const encodeUser = (body: Uint8Array): Uint8Array =>
  new ByteWriter().u8(MessageType.user).bytes(body).finish();
export const encodeUserStream = (body: Uint8Array): Uint8Array =>
  new ByteWriter().u8(MessageType.user).value({ UserMsgLen: body.length }).bytes(body).finish();

const seqOf = (fields: Fields): number => fields.uint("SeqNo", U32_MAX);
const nodeOf = (fields: Fields, name = "Node"): string => fields.text(name, NAME_BYTES_MAX);

/** A name is what everything else goes by: an empty one is none. */
function namedIn(fields: Fields, name = "Node"): string {
  const node = nodeOf(fields, name);
  if (node === "") throw wireError("a node without a name");
  return node;
}

function sourceIn(fields: Fields): Pick<Ping, "source" | "sourceNode"> {
  const bytes = fields.bytes("SourceAddr", 16);
  const port = fields.uint("SourcePort", PORT_MAX);
  const source = bytes.length === 0 || port === 0 ? undefined : { address: addressOf(bytes), port };
  return { source, sourceNode: nodeOf(fields, "SourceNode") };
}

export function decodePing(body: Uint8Array): Ping {
  const fields = Fields.of(body);
  return { seq: seqOf(fields), node: nodeOf(fields), ...sourceIn(fields) };
}

export function decodeIndirectPing(body: Uint8Array): IndirectPing {
  const fields = Fields.of(body);
  return {
    seq: seqOf(fields),
    node: nodeOf(fields),
    target: { address: addressOf(fields.bytes("Target", 16)), port: fields.uint("Port", PORT_MAX) },
    wantsNack: fields.flag("Nack"),
    ...sourceIn(fields),
  };
}

export function decodeAck(body: Uint8Array): { readonly seq: number; readonly payload: Uint8Array } {
  const fields = Fields.of(body);
  return { seq: seqOf(fields), payload: fields.bytes("Payload", ACK_BYTES_MAX) };
}

export const decodeNack = (body: Uint8Array): number => seqOf(Fields.of(body));

export const decodeError = (body: Uint8Array): string => Fields.of(body).text("Error", 1_024);

/** Most members speak as this one does: they share the list. */
const vsnOf = (vsn: readonly number[]): readonly number[] =>
  vsn.every((version, i) => version === OWN_VSN[i]) ? OWN_VSN : vsn;

function aliveIn(fields: Fields, name: string): Alive {
  const vsn = [...fields.bytes("Vsn", 16)];
  const [least = 0, most = 0] = vsn;
  if (vsn.length < 6) throw wireError("a node without all its versions");
  if (least === 0 || most === 0 || least > most) throw wireError("a node of a version that is none");
  return {
    incarnation: fields.uint("Incarnation", U32_MAX),
    node: namedIn(fields, name),
    at: { address: addressOf(fields.bytes("Addr", 16)), port: fields.uint("Port", PORT_MAX) },
    meta: fields.bytes("Meta", META_BYTES_MAX),
    vsn: vsnOf(vsn.slice(0, 6)),
  };
}

export const decodeAlive = (body: Uint8Array): Alive => aliveIn(Fields.of(body), "Node");

export function decodeAccusation(body: Uint8Array): Accusation {
  const fields = Fields.of(body);
  return {
    incarnation: fields.uint("Incarnation", U32_MAX),
    node: namedIn(fields),
    from: nodeOf(fields, "From"),
  };
}

/** `message` with its type. A node that is malformed is left out and counted; at most `nodesMax` are read. */
export function decodePushPull(bytes: Uint8Array, nodesMax: number): PushPull {
  const reader = new ValueReader(bytes, 1);
  const header = new Fields(reader.value());
  const count = header.uint("Nodes", 0xffff_ffff);
  const userLength = header.uint("UserStateLen", bytes.length);
  const nodes: NodeEntry[] = [];
  for (let i = 0; i < Math.min(count, nodesMax); i++) {
    const entry = entryOf(reader.value());
    if (entry !== undefined) nodes.push(entry);
  }
  // What is behind a state that is too large stands at its end.
  const userState = bytes.subarray(bytes.length - userLength);
  return { isJoin: header.flag("Join"), nodes, skipped: count - nodes.length, userState };
}

function entryOf(value: Decoded): NodeEntry | undefined {
  try {
    const fields = new Fields(value);
    const state = fields.uint("State", NodeState.left) as NodeState;
    return { ...aliveIn(fields, "Name"), state };
  } catch {
    return undefined;
  }
}

export function decodeUserStream(bytes: Uint8Array): Uint8Array {
  const reader = new ValueReader(bytes, 1);
  const length = new Fields(reader.value()).uint("UserMsgLen", bytes.length);
  return reader.take(length);
}
