/**
 * What this node says of itself in multicast DNS, and what others say of theirs, as records: pure, no socket and no clock. One service type for
 * each transport that a LAN can dial (RFC 6763). The instance is named after the node's id, which nobody else has, and records are shared ones (RFC 6762
 * section 10.2): two interfaces of one node in one subnet say the same name with other addresses, and neither contests the other.
 */
import { isIPv4, isIPv6 } from "node:net";
import type { Answer, DecodedPacket, Question } from "dns-packet";
import { isWildcard, parseHostPort } from "@godwit/sdk";

export interface Service {
  readonly type: string;
  readonly scheme: string;
  /** Behind host and port of its endpoints. */
  readonly path: string;
}

/** Overlays and onions have names of their own and no business on the LAN; the certificate of `wss` is for a name that this has not. */
export const SERVICES: readonly Service[] = [
  { type: "_godwit._tcp.local", scheme: "tcp", path: "" },
  { type: "_godwit._udp.local", scheme: "udp", path: "" },
  { type: "_godwit-ws._tcp.local", scheme: "ws", path: "/godwit" },
];
/** RFC 6763 section 9: where browsers ask which types there are. */
const TYPES = "_services._dns-sd._udp.local";

/** RFC 6762 section 10: of what is about a host, and of the rest. */
const HOST_TTL_S = 120;
const OTHER_TTL_S = 4_500;
/** Of one node on one interface, so that all it says is one packet of an Ethernet. */
export const OFFERS_MAX = 4;
const ADDRESSES_SAID_MAX = 4;
/** RFC 1035 section 2.3.4. */
const LABEL_BYTES_MAX = 63;
/** The first characters of an id, as logs and tables show it. */
const SHORT_ID_CHARS = 10;

/** Who says it. */
export interface Speaker {
  /** 52 characters. */
  readonly id: string;
  readonly callsign: string | undefined;
  readonly protocols: { readonly min: number; readonly max: number };
}

/** What one interface hears of this node. */
export interface Announcement {
  readonly speaker: Speaker;
  readonly offers: readonly { readonly service: Service; readonly port: number }[];
  /** Without zones. */
  readonly addresses: readonly string[];
}

/** Undefined where none of the sockets is to be reached over the interface. `addresses`: its own, without zones. */
export function planAnnouncement(
  speaker: Speaker,
  sockets: readonly string[],
  addresses: readonly string[],
): Announcement | undefined {
  const offers = new Map<string, { service: Service; port: number }>();
  const said = new Set<string>();
  for (const socket of sockets) {
    const service = SERVICES.find(({ scheme, path }) => matches(socket, scheme, path));
    if (service === undefined) continue;
    const place = placeOf(socket, service);
    const reached = addresses.filter((address) => isReached(place.host, address));
    const key = `${service.type} ${place.port}`;
    if (reached.length === 0 || (offers.size >= OFFERS_MAX && !offers.has(key))) continue;
    offers.set(key, { service, port: place.port });
    for (const address of reached) said.add(address);
  }
  if (offers.size === 0) return undefined;
  return { speaker, offers: [...offers.values()], addresses: [...said].slice(0, ADDRESSES_SAID_MAX) };
}

const matches = (socket: string, scheme: string, path: string): boolean =>
  socket.startsWith(`${scheme}://`) && socket.replace(/^[^:]+:\/\/[^/]*/, "") === path;

const placeOf = (socket: string, { scheme, path }: Service) =>
  parseHostPort(socket.slice(scheme.length + "://".length, socket.length - path.length));

function isReached(bound: string, address: string): boolean {
  if (isWildcard(bound)) return bound === "::" || isIPv4(address);
  return (bound === "localhost" ? "127.0.0.1" : bound.replace(/%.*$/, "")) === address;
}

interface Named {
  readonly service: Service;
  readonly port: number;
  readonly instance: string;
}

function named({ speaker, offers }: Announcement): Named[] {
  const taken = new Set<string>();
  return offers.map(({ service, port }) => {
    const short = speaker.id.slice(0, SHORT_ID_CHARS);
    // A second socket of the same transport is another instance.
    const label = taken.has(service.type) ? `${short}-${port}` : short;
    taken.add(service.type);
    return { service, port, instance: `${label}.${service.type}` };
  });
}

const hostOf = ({ speaker }: Announcement): string => `${speaker.id.slice(0, SHORT_ID_CHARS)}.local`;

/** All of it, as an answer and as an announcement. */
export function recordsOf(announcement: Announcement): Answer[] {
  const { speaker, addresses } = announcement;
  const host = hostOf(announcement);
  const text = [
    `id=${speaker.id}`,
    ...(speaker.callsign === undefined ? [] : [`callsign=${speaker.callsign}`]),
    `protocol=${speaker.protocols.min}-${speaker.protocols.max}`,
  ];
  const all = named(announcement);
  const types = [...new Set(all.map(({ service }) => service.type))];
  return [
    ...all.flatMap(({ service, port, instance }): Answer[] => [
      { type: "PTR", name: service.type, ttl: OTHER_TTL_S, data: instance },
      {
        type: "SRV",
        name: instance,
        ttl: HOST_TTL_S,
        data: { priority: 0, weight: 0, port, target: host },
      },
      { type: "TXT", name: instance, ttl: OTHER_TTL_S, data: text },
    ]),
    ...addresses.map((address): Answer => ({
      type: isIPv4(address) ? "A" : "AAAA",
      name: host,
      ttl: HOST_TTL_S,
      data: address,
    })),
    ...types.map((type): Answer => ({ type: "PTR", name: TYPES, ttl: OTHER_TTL_S, data: type })),
  ];
}

/** What of `before` is not true any more, with a time to live of 0 (RFC 6762 section 10.1). The types stay: others may have them too. */
export function goodbyesOf(before: Announcement, now: Announcement | undefined): Answer[] {
  const keyOf = ({ name, type, ...rest }: Answer) =>
    JSON.stringify([name, type, "data" in rest ? rest.data : null]);
  const left = new Set((now === undefined ? [] : recordsOf(now)).map(keyOf));
  return recordsOf(before)
    .filter((record) => record.name !== TYPES && !left.has(keyOf(record)))
    .map((record) => ({ ...record, ttl: 0 }) as Answer);
}

/** Whether a question is about what is announced, and its answer is not known to whoever asks (RFC 6762 section 7.1). */
export function isAsked(
  { questions = [], answers = [] }: DecodedPacket,
  announcement: Announcement,
): boolean {
  const records = recordsOf(announcement);
  const known = new Set(
    answers.flatMap((record) =>
      record.type === "PTR" && (record.ttl ?? 0) >= OTHER_TTL_S / 2 ? [pointerKey(record)] : [],
    ),
  );
  return records.some(
    (record) =>
      questions.some((question) => asksFor(question, record)) &&
      !(record.type === "PTR" && known.has(pointerKey(record))),
  );
}

const pointerKey = ({ name, data }: { readonly name: string; readonly data: string }): string =>
  `${name} ${data}`.toLowerCase();

const asksFor = ({ name, type }: Question, record: Answer): boolean =>
  name.toLowerCase() === record.name.toLowerCase() && ((type as string) === "ANY" || type === record.type);

/** What one packet says of one instance; parts that it leaves out are undefined. */
export interface Said {
  readonly service: Service;
  /** Whole, in lower case. */
  readonly instance: string;
  /** For how long, seconds; 0: it goes. */
  readonly ttlS: number;
  readonly at: { readonly port: number; readonly target: string } | undefined;
  readonly text: ReadonlyMap<string, string> | undefined;
  /** Of `target`, if it is there too. */
  readonly addresses: readonly string[];
}

/** Records of a packet that are looked at; it was refused above as many before it was decoded. */
export function readPacket({ answers = [], additionals = [] }: DecodedPacket): Said[] {
  const found = new Map<string, { -readonly [Key in keyof Said]: Said[Key] }>();
  const addresses = new Map<string, string[]>();
  const of = (name: string, ttlS: number) => {
    const instance = name.toLowerCase();
    const service = SERVICES.find(({ type }) => instance.endsWith(`.${type}`));
    if (service === undefined || !isName(instance)) return undefined;
    let said = found.get(instance);
    if (said === undefined)
      found.set(
        instance,
        (said = { service, instance, ttlS, at: undefined, text: undefined, addresses: [] }),
      );
    return said;
  };
  for (const record of [...answers, ...additionals]) {
    if (record.type === "PTR") {
      const said = SERVICES.some(({ type }) => type === record.name.toLowerCase())
        ? of(record.data, record.ttl ?? 0)
        : undefined;
      // How long it is there is the pointer's to say.
      if (said !== undefined) said.ttlS = record.ttl ?? 0;
    } else if (record.type === "SRV") {
      const said = of(record.name, record.ttl ?? 0);
      if (said === undefined || record.data.port === 0) continue;
      said.at = { port: record.data.port, target: record.data.target.toLowerCase() };
      if (record.ttl === 0) said.ttlS = 0;
    } else if (record.type === "TXT") {
      const said = of(record.name, record.ttl ?? 0);
      if (said !== undefined) said.text = readText(record.data);
    } else if (record.type === "A" || record.type === "AAAA") {
      const name = record.name.toLowerCase();
      const isOne = record.type === "A" ? isIPv4(record.data) : isIPv6(record.data);
      if (isOne && record.ttl !== 0) addresses.set(name, [...(addresses.get(name) ?? []), record.data]);
    }
  }
  return [...found.values()].map((said) => ({
    ...said,
    addresses: said.at === undefined ? [] : (addresses.get(said.at.target) ?? []),
  }));
}

/** Whether it can be said again as it was read: labels that are no text, or hold a dot, are others then. */
const isName = (name: string): boolean =>
  name.split(".").every((label) => label !== "" && Buffer.byteLength(label) <= LABEL_BYTES_MAX);

/** RFC 6763 section 6.4: the first of each key counts, in lower case. */
function readText(data: unknown): Map<string, string> {
  const pairs = new Map<string, string>();
  for (const part of [data].flat()) {
    const text = Buffer.from(part as string | Uint8Array).toString("utf8");
    const at = text.indexOf("=");
    const key = (at < 0 ? text : text.slice(0, at)).toLowerCase();
    if (!pairs.has(key)) pairs.set(key, at < 0 ? "" : text.slice(at + 1));
  }
  return pairs;
}

/** Undefined where it has none; "odd" where it is none. */
export function protocolsOf(text: string | undefined): { min: number; max: number } | "odd" | undefined {
  if (text === undefined) return undefined;
  const match = /^(\d{1,3})-(\d{1,3})$/.exec(text);
  return match === null ? "odd" : { min: Number(match[1]), max: Number(match[2]) };
}
