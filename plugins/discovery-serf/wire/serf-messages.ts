/**
 * Messages of Serf, which travel inside those of memberlist, and the tags in a node's meta data. Decoders throw GODWIT_DECODE; what they
 * answer holds views of the input.
 */
import { tryParseIp } from "@godwit/sdk/netlink";
import { addressOf, type At } from "./messages.ts";
import {
  ByteWriter,
  type Decoded,
  type Encodable,
  Fields,
  Float,
  ValueReader,
  wireError,
} from "./msgpack.ts";
import {
  COORDINATE_VERSION,
  EVENT_BYTES_HARD_MAX,
  FilterType,
  META_BYTES_MAX,
  NAME_BYTES_MAX,
  QUERY_BYTES_MAX,
  QueryFlag,
  SerfType,
  TAGS_MAGIC,
} from "./types.ts";

/** A Lamport time beyond this is a lie: nothing counts so far. */
const LTIME_MAX = 2 ** 52;
const U32_MAX = 0xffff_ffff;
const FILTERS_MAX = 16;
/** Names of one filter; a packet has not room for more. */
const FILTER_NODES_MAX = 512;
const TAGS_MAX = 64;
/** 5 minutes: a query that waits longer is no query. */
const TIMEOUT_MS_MAX = 300_000;
/** Of a push-pull: Serf keeps 512 slots of each. */
const EVENT_SLOTS_MAX = 512;
const EVENTS_A_SLOT_MAX = 64;

export type Tags = ReadonlyMap<string, string>;

export interface Intent {
  readonly type: typeof SerfType.join | typeof SerfType.leave;
  readonly ltime: number;
  readonly node: string;
  /** Forget it as well. */
  readonly isPrune: boolean;
}

export interface UserEvent {
  readonly ltime: number;
  readonly name: string;
  readonly payload: Uint8Array;
  readonly canCoalesce: boolean;
}

export interface TagFilter {
  readonly tag: string;
  readonly expression: string;
}

export interface Query {
  readonly ltime: number;
  readonly id: number;
  readonly at: At;
  readonly sourceNode: string;
  /** All must hold. */
  readonly filters: readonly (readonly string[] | TagFilter)[];
  readonly wantsAck: boolean;
  readonly isBroadcast: boolean;
  readonly relayFactor: number;
  readonly timeoutMs: number;
  readonly name: string;
  readonly payload: Uint8Array;
}

export interface QueryResponse {
  readonly ltime: number;
  readonly id: number;
  readonly from: string;
  readonly isAck: boolean;
  readonly payload: Uint8Array;
}

export interface SerfState {
  readonly ltime: number;
  readonly statusLTimes: ReadonlyMap<string, number>;
  readonly left: ReadonlySet<string>;
  readonly eventLTime: number;
  readonly events: readonly UserEvent[];
  readonly queryLTime: number;
}

export interface KeyResponse {
  readonly isDone: boolean;
  readonly message: string;
  readonly keys: readonly string[];
  readonly primaryKey: string;
}

export interface Coordinate {
  /** Seconds. */
  readonly vector: readonly number[];
  readonly error: number;
  readonly adjustment: number;
  readonly height: number;
}

const decoder = new TextDecoder();
const message = (type: number, fields: Encodable): Uint8Array =>
  new ByteWriter().u8(type).value(fields).finish();
const ltimeIn = (fields: Fields, name = "LTime"): number => fields.uint(name, LTIME_MAX);
const textOf = (value: Decoded, max: number): string => {
  if (!(value instanceof Uint8Array) || value.length > max)
    throw wireError("a text that is none, or too long");
  return decoder.decode(value);
};

/** 255 and a map of text; empty bytes for no tags. Throws GODWIT_DECODE where that is above 512 bytes. */
export function encodeTags(tags: Tags): Uint8Array {
  if (tags.size === 0) return new Uint8Array(0);
  const bytes = message(TAGS_MAGIC, new Map([...tags].sort(([a], [b]) => (a < b ? -1 : 1))));
  if (bytes.length > META_BYTES_MAX)
    throw wireError(`tags of ${bytes.length} bytes, at most ${META_BYTES_MAX} are allowed`);
  return bytes;
}

/** What is no map of tags is the role, as in the first versions of Serf. */
export function decodeTags(meta: Uint8Array): Tags {
  if (meta.length === 0) return new Map();
  if (meta[0] !== TAGS_MAGIC) return new Map([["role", decoder.decode(meta)]]);
  try {
    const value = new ValueReader(meta, 1).value();
    if (!(value instanceof Map) || value.size > TAGS_MAX) return new Map();
    return new Map(
      [...(value as ReadonlyMap<string, Decoded>)].map(([key, text]) => [key, textOf(text, META_BYTES_MAX)]),
    );
  } catch {
    return new Map();
  }
}

export const encodeIntent = ({ type, ltime, node, isPrune }: Intent): Uint8Array =>
  message(
    type,
    type === SerfType.join ? { LTime: ltime, Node: node } : { LTime: ltime, Node: node, Prune: isPrune },
  );

export function decodeIntent(type: Intent["type"], body: Uint8Array): Intent {
  const fields = Fields.of(body);
  const node = fields.text("Node", NAME_BYTES_MAX);
  return { type, ltime: ltimeIn(fields), node, isPrune: fields.flag("Prune") };
}

const eventFields = ({ name, payload }: UserEvent) => ({ Name: name, Payload: payload });

export const encodeUserEvent = (event: UserEvent): Uint8Array =>
  message(SerfType.userEvent, { CC: event.canCoalesce, LTime: event.ltime, ...eventFields(event) });

function eventIn(fields: Fields, ltime: number): UserEvent {
  const payload = fields.bytes("Payload", EVENT_BYTES_HARD_MAX);
  const name = fields.text("Name", EVENT_BYTES_HARD_MAX);
  return { ltime, name, payload, canCoalesce: fields.flag("CC") };
}

export function decodeUserEvent(body: Uint8Array): UserEvent {
  const fields = Fields.of(body);
  return eventIn(fields, ltimeIn(fields));
}

const encodeFilter = (filter: readonly string[] | TagFilter): Uint8Array =>
  "tag" in filter
    ? message(FilterType.tag, { Expr: filter.expression, Tag: filter.tag })
    : message(FilterType.nodes, filter);

export const encodeQuery = (query: Query): Uint8Array =>
  message(SerfType.query, {
    Addr: tryParseIp(query.at.address) ?? null,
    Filters: query.filters.length === 0 ? null : query.filters.map(encodeFilter),
    Flags: (query.wantsAck ? QueryFlag.ack : 0) | (query.isBroadcast ? 0 : QueryFlag.noBroadcast),
    ID: query.id,
    LTime: query.ltime,
    Name: query.name,
    Payload: query.payload,
    Port: query.at.port,
    RelayFactor: query.relayFactor,
    SourceNode: query.sourceNode,
    Timeout: BigInt(Math.round(query.timeoutMs)) * 1_000_000n,
  });

function filterOf(value: Decoded): readonly string[] | TagFilter {
  if (!(value instanceof Uint8Array) || value.length < 2) throw wireError("a filter that is none");
  const inner = new ValueReader(value, 1).value();
  if (value[0] === FilterType.tag) {
    const fields = new Fields(inner);
    return { tag: fields.text("Tag", META_BYTES_MAX), expression: fields.text("Expr", META_BYTES_MAX) };
  }
  if (value[0] !== FilterType.nodes || !Array.isArray(inner) || inner.length > FILTER_NODES_MAX)
    throw wireError("a filter that is none");
  return (inner as readonly Decoded[]).map((name) => textOf(name, NAME_BYTES_MAX));
}

export function decodeQuery(body: Uint8Array): Query {
  const fields = Fields.of(body);
  const flags = fields.uint("Flags", U32_MAX);
  const filters = fields.list("Filters");
  if (filters.length > FILTERS_MAX) throw wireError("too many filters");
  const timeout = fields.get("Timeout") ?? 0;
  if (typeof timeout !== "number" && typeof timeout !== "bigint") throw wireError("Timeout is no number");
  return {
    ltime: ltimeIn(fields),
    id: fields.uint("ID", U32_MAX),
    at: { address: addressOf(fields.bytes("Addr", 16)), port: fields.uint("Port", 65_535) },
    sourceNode: fields.text("SourceNode", NAME_BYTES_MAX),
    filters: filters.map(filterOf),
    wantsAck: (flags & QueryFlag.ack) !== 0,
    isBroadcast: (flags & QueryFlag.noBroadcast) === 0,
    relayFactor: fields.uint("RelayFactor", 255),
    timeoutMs: Math.min(TIMEOUT_MS_MAX, Math.max(0, Number(timeout) / 1e6)),
    name: fields.text("Name", QUERY_BYTES_MAX),
    payload: fields.bytes("Payload", EVENT_BYTES_HARD_MAX),
  };
}

export const encodeQueryResponse = (response: QueryResponse): Uint8Array =>
  message(SerfType.queryResponse, {
    Flags: response.isAck ? QueryFlag.ack : 0,
    From: response.from,
    ID: response.id,
    LTime: response.ltime,
    Payload: response.payload,
  });

export function decodeQueryResponse(body: Uint8Array): QueryResponse {
  const fields = Fields.of(body);
  return {
    ltime: ltimeIn(fields),
    id: fields.uint("ID", U32_MAX),
    from: fields.text("From", NAME_BYTES_MAX),
    isAck: (fields.uint("Flags", U32_MAX) & QueryFlag.ack) !== 0,
    payload: fields.bytes("Payload", EVENT_BYTES_HARD_MAX),
  };
}

/** | 9 | {DestAddr: {IP, Port, Zone}, DestName} | whole message | */
export const encodeRelay = (to: At, name: string, body: Uint8Array): Uint8Array =>
  new ByteWriter()
    .u8(SerfType.relay)
    .value({
      DestAddr: { IP: tryParseIp(to.address) ?? null, Port: to.port, Zone: "" },
      DestName: name,
    })
    .bytes(body)
    .finish();

export function decodeRelay(body: Uint8Array): { readonly to: At; readonly body: Uint8Array } {
  const reader = new ValueReader(body);
  const address = new Fields(new Fields(reader.value()).get("DestAddr"));
  const ip = address.bytes("IP", 64);
  // Newer codecs write an address as text.
  const text = ip.length === 4 || ip.length === 16 ? addressOf(ip) : decoder.decode(ip);
  if (tryParseIp(text) === undefined) throw wireError("a relay to no address");
  return { to: { address: text, port: address.uint("Port", 65_535) }, body: body.subarray(reader.at) };
}

export function encodeState(state: SerfState): Uint8Array {
  const slots: Encodable[] = Array.from({ length: EVENT_SLOTS_MAX }, () => null);
  const byLTime = new Map<number, UserEvent[]>();
  for (const event of state.events) byLTime.set(event.ltime, [...(byLTime.get(event.ltime) ?? []), event]);
  for (const [ltime, events] of byLTime)
    slots[ltime % EVENT_SLOTS_MAX] = { Events: events.map(eventFields), LTime: ltime };
  return message(SerfType.pushPull, {
    EventLTime: state.eventLTime,
    Events: byLTime.size === 0 ? null : slots,
    LTime: state.ltime,
    LeftMembers: [...state.left],
    QueryLTime: state.queryLTime,
    StatusLTimes: state.statusLTimes,
  });
}

/** `body` begins behind the type. At most `namesMax` names of each kind are taken. */
export function decodeState(body: Uint8Array, namesMax: number): SerfState {
  const fields = Fields.of(body);
  const statusLTimes = new Map<string, number>();
  for (const [name, ltime] of fields.map("StatusLTimes")) {
    if (statusLTimes.size >= namesMax) break;
    if (typeof ltime === "number" && ltime >= 0 && ltime <= LTIME_MAX && name.length <= NAME_BYTES_MAX)
      statusLTimes.set(name, ltime);
  }
  const left = fields.list("LeftMembers").slice(0, namesMax);
  return {
    ltime: ltimeIn(fields),
    statusLTimes,
    left: new Set(left.map((name) => textOf(name, NAME_BYTES_MAX))),
    eventLTime: ltimeIn(fields, "EventLTime"),
    events: fields.list("Events").slice(0, EVENT_SLOTS_MAX).flatMap(eventsOf),
    queryLTime: ltimeIn(fields, "QueryLTime"),
  };
}

function eventsOf(slot: Decoded): UserEvent[] {
  if (slot === null) return [];
  const fields = new Fields(slot);
  const ltime = ltimeIn(fields);
  return fields
    .list("Events")
    .slice(0, EVENTS_A_SLOT_MAX)
    .map((event) => eventIn(new Fields(event), ltime));
}

export const encodeKeyRequest = (key: Uint8Array): Uint8Array => message(SerfType.keyRequest, { Key: key });
/** `payload` with its type. */
export function decodeKeyRequest(payload: Uint8Array): Uint8Array {
  if (payload[0] !== SerfType.keyRequest) throw wireError("a key request that is none");
  return Fields.of(payload.subarray(1)).bytes("Key", 64);
}

export const encodeKeyResponse = ({ isDone, message: text, keys, primaryKey }: KeyResponse): Uint8Array =>
  message(SerfType.keyResponse, { Keys: keys, Message: text, PrimaryKey: primaryKey, Result: isDone });

/** `payload` with its type. */
export function decodeKeyResponse(payload: Uint8Array): KeyResponse {
  if (payload[0] !== SerfType.keyResponse) throw wireError("a key response that is none");
  const fields = Fields.of(payload.subarray(1));
  return {
    isDone: fields.flag("Result"),
    message: fields.text("Message", QUERY_BYTES_MAX),
    keys: fields.list("Keys").map((key) => textOf(key, 64)),
    primaryKey: fields.text("PrimaryKey", 64),
  };
}

/** What this node knows of a name, for whoever asks about a conflict. */
export const encodeConflictResponse = (
  member:
    { readonly name: string; readonly at: At; readonly tags: Tags; readonly status: number } | undefined,
): Uint8Array =>
  message(
    SerfType.conflictResponse,
    member === undefined
      ? null
      : {
          Addr: tryParseIp(member.at.address) ?? null,
          Name: member.name,
          Port: member.at.port,
          Status: member.status,
          Tags: member.tags,
        },
  );

export const encodeCoordinate = ({ vector, error, adjustment, height }: Coordinate): Uint8Array =>
  message(COORDINATE_VERSION, {
    Adjustment: new Float(adjustment),
    Error: new Float(error),
    Height: new Float(height),
    Vec: vector.map((value) => new Float(value)),
  });

/** `payload` with its version. */
export function decodeCoordinate(payload: Uint8Array): Coordinate {
  if (payload[0] !== COORDINATE_VERSION) throw wireError("a coordinate of another version");
  const fields = Fields.of(payload.subarray(1));
  const vector = fields.list("Vec").map((value) => {
    if (typeof value !== "number" || !Number.isFinite(value)) throw wireError("a coordinate that is none");
    return value;
  });
  return {
    vector,
    error: fields.float("Error"),
    adjustment: fields.float("Adjustment"),
    height: fields.float("Height"),
  };
}
