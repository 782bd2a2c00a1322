/** An asker and gateways by hand, with record books and names of their own, over links that lose what a test says. For tests only. */
import { generateIdentity, type Identity, verifySignature } from "../identity/keys.ts";
import { Names } from "../identity/names.ts";
import {
  decodeRecord,
  encodeRecord,
  hasNameGrant,
  MAIL_SESSIONS,
  type RecordFields,
} from "../identity/record.ts";
import { ManualClock } from "../kernel/clock.ts";
import type { NodeId } from "../kernel/ids.ts";
import { seededRandom } from "../kernel/random.ts";
import { emptyStore } from "../store/testing.ts";
import { noRegard } from "../trust/testing.ts";
import { decodeLookup, decodeLookupReply, type Lookup, type LookupReply } from "../wire/lookup-messages.ts";
import { LookupAnswers } from "./lookup-answers.ts";
import { LookupQuestions } from "./lookup-questions.ts";
import { RecordBook } from "./records.ts";

export const NETWORK = "lookups";
export const identityOf = (number: number): Identity => generateIdentity(seededRandom(number));

/** Record book and names of one node. */
export class Known {
  readonly records: RecordBook;
  readonly names: Names;

  constructor(self: NodeId, authority?: NodeId, changed: () => void = () => {}) {
    this.names = new Names({
      store: emptyStore,
      configured: new Map(),
      ...(authority === undefined
        ? {}
        : { authority: { id: authority, network: NETWORK, verify: verifySignature } }),
      onChange: changed,
    });
    this.records = new RecordBook({
      ...{ self, store: emptyStore, network: NETWORK, authority, verify: verifySignature, regard: noRegard },
      changed: (_, record) => {
        this.names.observe(record);
        changed();
      },
      forgot: (id) => this.names.drop(id),
    });
  }
}

export function recordBy(who: Identity, fields: Partial<RecordFields> = {}): Uint8Array {
  const prekey = { keyId: who.dh.publicKey[0]! + 1, publicKey: who.dh.publicKey };
  return encodeRecord(
    who,
    { sequence: 1, prekey, capabilities: [MAIL_SESSIONS], withBrief: true, ...fields },
    NETWORK,
  );
}

export interface Sent<Frame> {
  readonly to: NodeId;
  readonly frame: Frame;
  readonly bytes: number;
  readonly atMs: number;
}

/** Counters, by their only label. */
export class Counts {
  readonly #counts = new Map<string, number>();

  counter(): { add(value?: number, labels?: Readonly<Record<string, string>>): void } {
    return {
      add: (value = 1, labels = {}) => {
        for (const label of Object.values(labels)) this.#counts.set(label, this.of(label) + value);
      },
    };
  }

  of(label: string): number {
    return this.#counts.get(label) ?? 0;
  }
}

export class Asker {
  readonly clock = new ManualClock();
  readonly metrics = new Counts();
  readonly id = identityOf(900).id;
  gateways: NodeId[] = [identityOf(901).id, identityOf(902).id];
  neighbours: NodeId[] = [];
  readonly silent = new Set<NodeId>();
  readonly awaited = new Set<string>();
  readonly sent: Sent<Lookup>[] = [];
  hasAirtime = true;
  /** Neighbours whose part of it is spent; undefined: too little is there for this node's own. */
  readonly spent = new Set<NodeId | undefined>();
  /** Whose part paid; undefined: this node's own. */
  readonly payers: (NodeId | undefined)[] = [];
  runMs = 0;
  readonly known: Known;
  readonly questions: LookupQuestions;

  constructor(authority?: NodeId) {
    this.known = new Known(this.id, authority, () => this.#settle());
    const { records, names } = this.known;
    this.questions = new LookupQuestions({
      ...{ clock: this.clock, random: seededRandom(1), metrics: this.metrics, records },
      hasAuthority: authority !== undefined,
      isGranted: (binding) =>
        authority !== undefined && hasNameGrant(binding, authority, NETWORK, verifySignature),
      observe: (record) => names.observe(record),
      runMs: () => this.runMs,
      gateways: () => this.gateways,
      neighbours: () => this.neighbours,
      answerMs: () => 0,
      answers: (id) => !this.silent.has(id),
      takeAirtime: (_to, _bytes, by) => {
        const has = this.hasAirtime && !this.spent.has(by);
        if (has) this.payers.push(by);
        return has;
      },
      send: (to, frame) => {
        const lookup = decodeLookup(frame)!;
        this.sent.push({ to, frame: lookup, bytes: frame.length, atMs: this.clock.monotonicMs() });
        return true;
      },
      nodesOf: (address) => this.#nodesOf(address),
    });
  }

  /** Mail for that address waits. */
  wants(...addresses: readonly string[]): void {
    for (const address of addresses) {
      this.awaited.add(address);
      this.questions.onAwaited(address, this.live);
    }
  }

  get live() {
    const { awaited } = this;
    return {
      get addresses() {
        return [...awaited];
      },
      has: (address: string) => awaited.has(address),
    };
  }

  told(from: NodeId, reply: LookupReply): void {
    this.questions.onReply(from, reply);
  }

  refused(reason: string): number {
    return this.metrics.of(reason);
  }

  #nodesOf(address: string): readonly NodeId[] | undefined {
    if (address.length > 20)
      return this.known.records.get(address as NodeId) === undefined ? [] : [address as NodeId];
    const found = this.known.names.resolve(address);
    if (found.kind === "node") return [found.id];
    return found.kind === "unknown" ? [] : undefined;
  }

  #settle(): void {
    for (const address of this.awaited)
      if (this.#nodesOf(address)?.length === 1) this.awaited.delete(address);
  }
}

export class Gateway {
  readonly clock = new ManualClock();
  readonly metrics = new Counts();
  readonly id = identityOf(910).id;
  readonly known: Known;
  readonly sent: Sent<LookupReply>[] = [];
  readonly blocked = new Set<NodeId>();
  /** Bytes that may be sent. */
  airtime = Number.POSITIVE_INFINITY;
  frameBytesMax = 189;
  verified = 0;
  askOn: (by: NodeId, lookup: Lookup) => boolean = () => false;
  readonly answers: LookupAnswers;

  constructor() {
    this.known = new Known(this.id, undefined, () => this.answers?.onDirectory());
    const { records, names } = this.known;
    this.answers = new LookupAnswers({
      ...{ clock: this.clock, metrics: this.metrics },
      recordOf: (id) => records.get(id)?.record,
      isBlocked: (id) => this.blocked.has(id),
      holderOf: (name) => {
        const found = names.resolve(name);
        return found.kind === "node" ? found.id : undefined;
      },
      machinesAt: (place) => names.machinesAt(place),
      isReachable: () => false,
      isSound: (record) => {
        this.verified++;
        try {
          return decodeRecord(record, NETWORK, verifySignature).isBrief;
        } catch {
          return false;
        }
      },
      frameBytesMax: () => this.frameBytesMax,
      askOn: (by, lookup) => this.askOn(by, lookup),
      takeAirtime: (_, bytes) => {
        if (bytes > this.airtime) return false;
        this.airtime -= bytes;
        return true;
      },
      send: (to, frame) => {
        const reply = decodeLookupReply(frame.slice())!;
        this.sent.push({ to, frame: reply, bytes: frame.length, atMs: this.clock.monotonicMs() });
        return true;
      },
    });
  }

  asked(by: NodeId, lookup: Partial<Lookup> & Pick<Lookup, "subject">): void {
    this.answers.onLookup(by, { newerThan: undefined, wantsProof: false, ...lookup });
  }

  get kinds(): string[] {
    return this.sent.map(({ frame }) => frame.kind);
  }

  refused(reason: string): number {
    return this.metrics.of(reason);
  }
}

export const name = (text: string) => ({ subject: { kind: "name", name: text } }) as const;
export const node = (id: NodeId) => ({ subject: { kind: "node", id } }) as const;
