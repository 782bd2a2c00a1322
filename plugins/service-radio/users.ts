/**
 * The service's door: who uses this radio, what each is told, and what each may hand in. Owns the shapes of the messages, which docs/meshtastic.md draws; must
 * never let one user hold up another: who does not read is cut off, and opens again.
 */
import {
  GodwitError,
  type OfferedService,
  type ServiceChannel,
  type ServiceMessage,
  type ServiceRequest,
} from "@godwit/sdk";
import { BoundedMap } from "@godwit/sdk/bounded";
import { z } from "zod/mini";
import type { ReadBy } from "./keyring.ts";
import { encodePacket, type MeshPacket } from "./protocol.ts";
import type { RadioSession, Refusal } from "./session.ts";
import type { Published } from "./tap.ts";

/** Users at once, and packets of one that are not done. */
const USERS_MAX = 16;
const OPEN_SENDS_MAX = 32;
/** Whose airtime is remembered. */
const NAMES_MAX = 64;
const LIFETIME_MS_MAX = 86_400_000;
const U32 = 0xffff_ffff;

const opening = z.strictObject({
  version: z.literal(1),
  /** Which packets it gets: of these ports, or whatever the radio hands over, those that are encrypted among them. */
  packets: z.union([
    z.literal("all"),
    z.array(z.int().check(z.minimum(0), z.maximum(511))).check(z.maxLength(16)),
  ]),
  /** Packets come as the radio's own messages, with whatever newer firmware puts there, instead of their payload. */
  raw: z._default(z.boolean(), false),
});

const sending = z.strictObject({
  t: z.literal("send"),
  /** The user's own, told back with what became of it. */
  tag: z.int().check(z.minimum(0)),
  port: z.int().check(z.minimum(1), z.maximum(511)),
  to: z.int().check(z.minimum(1), z.maximum(U32)),
  channel: z.int().check(z.minimum(0), z.maximum(7)),
  hopLimit: z.int().check(z.minimum(0), z.maximum(7)),
  wantAck: z._default(z.boolean(), false),
  /** What somebody else than whom it is for can read says so. */
  isSealed: z._default(z.boolean(), true),
  /** 0 alarm, 1 text, 2 receipts, 3 presence, 4 digests: who is before others in the queue. */
  rank: z._default(z.int().check(z.minimum(0), z.maximum(4)), 4),
  lifetimeMs: z._default(z.int().check(z.minimum(1_000), z.maximum(LIFETIME_MS_MAX)), 600_000),
});

/** How a packet came, beside what it says itself. */
export interface Origin {
  readonly source: "serial" | "tcp" | "udp" | "mqtt";
  /** By which gateway, where a broker had it. */
  readonly published: Published | undefined;
  /** By which of this node's keys it was read; undefined: its source read it, or nobody did. */
  readonly readBy: ReadBy | undefined;
  /** Whether the sender's number is that of the key it is known by. */
  readonly numberProof: "key" | "other" | "unknown";
}

export type Sender = Pick<RadioSession, "send" | "airtimeOf">;

export interface UsersDeps {
  readonly sender: Sender;
  /** What all are told when it changes; JSON. */
  state(): unknown;
  refused(reason: Refusal | "malformed" | "too_many"): void;
  cutOff(): void;
}

interface User {
  readonly name: string;
  readonly channel: ServiceChannel;
  readonly ports: "all" | ReadonlySet<number>;
  readonly isRaw: boolean;
  openSends: number;
  isOver: boolean;
}

export class Users {
  readonly #deps: UsersDeps;
  readonly #users = new Set<User>();
  /** By who asked for it, ms handed to the radio. */
  readonly airtimeMs = new BoundedMap<string, number>({ name: "users of a radio", max: NAMES_MAX });

  constructor(deps: UsersDeps) {
    this.#deps = deps;
  }

  get count(): number {
    return this.#users.size;
  }

  get service(): OfferedService {
    return {
      request: async ({ ask }) => {
        if (ask !== "state") throw invalid('it answers "state"');
        return Promise.resolve({ json: this.#deps.state() });
      },
      channel: (channel, request) => this.#open(channel, request),
    };
  }

  tellState(): void {
    if (this.#users.size === 0) return;
    const json = { t: "state", state: this.#deps.state() };
    for (const user of this.#users) this.#tell(user, { json });
  }

  tellPacket(packet: MeshPacket, origin: Origin): void {
    const { payloadVariant } = packet;
    const data = payloadVariant.case === "decoded" ? payloadVariant.value : undefined;
    for (const user of this.#users) {
      if (user.ports !== "all" && (data === undefined || !user.ports.has(data.portnum))) continue;
      const bytes = user.isRaw ? encodePacket(packet) : (data?.payload ?? new Uint8Array(0));
      this.#tell(user, { json: { t: "packet", ...metaOf(packet, origin) }, bytes });
    }
  }

  #open(channel: ServiceChannel, { ask, json, consumer }: ServiceRequest): void {
    if (ask !== "use") throw invalid('channels are opened with "use"');
    const asked = opening.safeParse(json);
    if (!asked.success)
      throw invalid("version 1 and the ports that packets are wanted of are said when a channel is opened");
    if (this.#users.size >= USERS_MAX) throw invalid("too many users of this radio");
    const { packets, raw } = asked.data;
    const user: User = {
      name: consumer,
      channel,
      ports: packets === "all" ? "all" : new Set(packets),
      isRaw: raw,
      openSends: 0,
      isOver: false,
    };
    this.#users.add(user);
    channel.open({
      message: (message) => this.#onMessage(user, message),
      drain: () => {},
      closed: () => {
        user.isOver = true;
        this.#users.delete(user);
      },
    });
    this.#tell(user, { json: { t: "state", state: this.#deps.state() } });
  }

  #onMessage(user: User, { json, bytes }: ServiceMessage): void {
    const { sender } = this.#deps;
    const parsed = sending.safeParse(json);
    if (!parsed.success) return this.#deps.refused("malformed");
    const { tag, t: _, ...request } = parsed.data;
    const refuse = (reason: Refusal | "too_many") => {
      this.#deps.refused(reason);
      this.#tell(user, { json: { t: "done", tag, outcome: "refused", reason } });
    };
    if (user.openSends >= OPEN_SENDS_MAX) return refuse("too_many");
    user.openSends++;
    const taken = sender.send({ ...request, payload: bytes }, (outcome) => {
      user.openSends--;
      this.#tell(user, { json: { t: "done", tag, outcome } });
    });
    if (typeof taken === "string") {
      user.openSends--;
      return refuse(taken);
    }
    const ms = sender.airtimeOf(bytes.length, request.port, request.to);
    this.airtimeMs.renew(user.name, (this.airtimeMs.get(user.name) ?? 0) + ms);
  }

  #tell(user: User, message: { readonly json: unknown; readonly bytes?: Uint8Array }): void {
    if (user.isOver || user.channel.send(message)) return;
    user.isOver = true;
    this.#users.delete(user);
    this.#deps.cutOff();
    user.channel.close();
  }
}

const invalid = (message: string) =>
  new GodwitError("GODWIT_REQUEST_INVALID", message, { kind: "protocol", retry: "never" });

function metaOf(packet: MeshPacket, { source, published, readBy, numberProof }: Origin) {
  const isIndexed = readBy === undefined && (source === "serial" || source === "tcp");
  const { payloadVariant } = packet;
  const data = payloadVariant.case === "decoded" ? payloadVariant.value : undefined;
  return {
    from: packet.from,
    to: packet.to,
    id: packet.id,
    source,
    readBy: readBy?.by ?? null,
    // By its index in the radio; what was read here, or did not come by one, is of none there.
    channel: isIndexed ? packet.channel : null,
    channelName: readBy?.by === "channel" ? readBy.name : (published?.channelName ?? null),
    gateway: published?.gateway ?? null,
    numberProof,
    port: data?.portnum ?? null,
    requestId: data?.requestId ?? 0,
    hopLimit: packet.hopLimit,
    hopStart: packet.hopStart,
    relay: packet.relayNode,
    snr: packet.rxSnr,
    rssi: packet.rxRssi,
    rxTime: packet.rxTime,
    isPki: packet.pkiEncrypted,
    viaMqtt: packet.viaMqtt,
    transport: packet.transportMechanism,
  };
}
