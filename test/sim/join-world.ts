/**
 * A closed mesh of many members as a newcomer meets it: real invitations, tokens, handshakes, enrolments and redemptions
 * (runtime/join/newcomer.ts and what it calls) over memory pipes in virtual time. Links between members are a model: whoever is
 * on is linked with a few others that are, as the peer manager sees to. One seed gives one run.
 */
import { drainMicrotasks } from "bun:jsc";
import type { GodwitError, Pipe } from "@godwit/sdk";
import { generateIdentity, verifySignature, type Identity } from "../../runtime/identity/keys.ts";
import { encodeRecord } from "../../runtime/identity/record.ts";
import { parseToken } from "../../runtime/identity/token.ts";
import { Airtime } from "../../runtime/kernel/airtime.ts";
import { ManualClock } from "../../runtime/kernel/clock.ts";
import { godwitError } from "../../runtime/kernel/errors.ts";
import { silentLog } from "../../runtime/kernel/log.ts";
import { Metrics } from "../../runtime/kernel/metrics.ts";
import { seededRandom } from "../../runtime/kernel/random.ts";
import type { Random } from "@godwit/sdk";
import { HandshakeGuard } from "../../runtime/link/guard.ts";
import { openSession } from "../../runtime/link/handshake.ts";
import { memoryPipePair } from "../../runtime/link/testing.ts";
import { RecordBook } from "../../runtime/membership/records.ts";
import { Hub } from "../../runtime/kernel/hub.ts";
import { Enrolment, type EnrolmentEvents } from "../../runtime/join/enrolment.ts";
import { openPlaces } from "../../runtime/kernel/testing.ts";
import { joinOver, type Joined } from "../../runtime/join/newcomer.ts";
import type { Peer } from "../../runtime/peer/peer.ts";
import { emptyStore } from "../../runtime/store/testing.ts";
import { WORLD_START_MS } from "./time.ts";
import { testTime } from "../../runtime/time/testing.ts";
import { noRegard } from "../../runtime/trust/testing.ts";

export const NETWORK = "telex";
/** Of a member that is nowhere in this world. */
export const STRANGE_ENDPOINT = "tcp://192.0.2.9:4860";
const SECRET = new TextEncoder().encode("correct horse battery staple, once more");
const HOUR_MS = 3_600_000;
const LINK_DELAY_MS = 5;
/** A dead address says nothing; a live one answers after this, ms. */
const LATENCY_MS = 20;
const JOIN_LIMIT_MS = 120_000;
/** Places further on in the ring of those that are on. */
const LINK_STEPS = [1, 5] as const;
export type JoinResult = { readonly joined: Joined } | { readonly refusal: string };

class MeshMember {
  readonly identity: Identity;
  readonly enrolment: Enrolment;
  readonly records: RecordBook;
  isOn = true;
  /** Newcomers it let in. */
  readonly letIn: string[] = [];

  constructor(world: JoinWorld, index: number) {
    this.identity = generateIdentity(world.random);
    this.records = new RecordBook({
      self: this.identity.id,
      regard: noRegard,
      forgot() {},
      store: emptyStore,
      network: NETWORK,
      authority: undefined,
      verify: verifySignature,
      changed() {},
    });
    world.byEndpoint.set(`tcp://10.0.0.${index + 1}:4860`, this);
    const hub = new Hub<EnrolmentEvents>((_, error) => {
      throw error;
    });
    hub.on("joined", ({ id }) => this.letIn.push(id));
    hub.on("inviteConflict", ({ inviteId }) => world.conflicts.push(inviteId));
    this.enrolment = new Enrolment({
      regard: noRegard,
      fullTables: { refused() {} },
      identity: this.identity,
      network: NETWORK,
      clock: world.clock,
      airtime: () => new Airtime(world.clock),
      time: testTime(world.clock).time,
      random: world.random,
      log: silentLog,
      metrics: new Metrics(),
      store: emptyStore,
      verify: verifySignature,
      signal: new AbortController().signal,
      records: this.records,
      secrets: () => [{ secret: SECRET, generation: 0, retiresInMs: undefined, signature: undefined }],
      tell: (to, frame) =>
        world
          .peer(
            this,
            world.members.find(({ identity }) => identity.id === to)!,
          )
          .send("control", frame),
      connected: () => world.linkedWith(this).map((far) => world.peer(this, far)),
      mayPassOn: (_id, endpoint) => world.byEndpoint.has(endpoint) || endpoint === STRANGE_ENDPOINT,
      isReachable: (id) => world.members.some((far) => far.identity.id === id && far.isOn),
      events: hub,
    });
  }
}

export class JoinWorld {
  readonly clock = new ManualClock(WORLD_START_MS);
  readonly random: Random;
  readonly members: MeshMember[] = [];
  readonly byEndpoint = new Map<string, MeshMember>();
  readonly conflicts: string[] = [];

  constructor(seed: number, count: number) {
    this.random = seededRandom(seed);
    for (let index = 0; index < count; index++) this.members.push(new MeshMember(this, index));
    for (const [index, { identity }] of this.members.entries()) {
      const endpoints = [`tcp://10.0.0.${index + 1}:4860`];
      const record = encodeRecord(identity, { sequence: 1, endpoints }, NETWORK);
      for (const { records } of this.members) records.offer(record);
    }
  }

  linkedWith(member: MeshMember): MeshMember[] {
    const ring = this.members.filter(({ isOn }) => isOn);
    const at = ring.indexOf(member);
    if (at < 0) return [];
    const places = LINK_STEPS.flatMap((step) => [at + step, at - step]);
    return [...new Set(places.map((place) => ring.at(place % ring.length)!))].filter((far) => far !== member);
  }

  /** Comes or goes; whoever comes and its new neighbours tell each other what they know. */
  set(member: MeshMember, isOn: boolean): void {
    if (member.isOn === isOn) return;
    member.isOn = isOn;
    if (!isOn) return;
    for (const far of this.linkedWith(member)) {
      member.enrolment.onPeerUp(this.peer(member, far));
      far.enrolment.onPeerUp(this.peer(far, member));
    }
  }

  run(forMs: number, isDone: () => boolean = () => false): void {
    const untilMs = this.clock.monotonicMs() + forMs;
    drainMicrotasks();
    while (!isDone() && this.clock.runNext(untilMs)) drainMicrotasks();
    if (!isDone()) this.clock.jumpTo(untilMs);
  }

  /** `share` of all are switched off, chance decides which; everybody else is on. */
  switchOff(share: number): void {
    const order = this.members
      .map((member) => ({ member, at: this.random.float() }))
      .sort((a, b) => a.at - b.at);
    const off = Math.round(share * order.length);
    for (const [at, { member }] of order.entries()) this.set(member, at >= off);
  }

  invite(by: MeshMember): string {
    return by.enrolment.issue({ ttlMs: HOUR_MS, uses: 1 }).token;
  }

  /** Whether anybody whom the token names is on. */
  namesOneThatIsOn(token: string): boolean {
    return parseToken(token).addresses.some(({ endpoint }) => this.byEndpoint.get(endpoint)?.isOn === true);
  }

  /** A machine with nothing but the token. */
  join(token: string, identity = generateIdentity(this.random)): JoinResult {
    let result: JoinResult | undefined;
    const wish = { token: parseToken(token), callsign: undefined, clock: this.clock, random: this.random };
    joinOver({ ...wish, places: openPlaces(), signal: new AbortController().signal }, identity, {
      dial: (endpoint, signal) => this.#dial(endpoint, signal),
      dialTimeoutMs: () => undefined,
    }).then(
      (joined) => (result = { joined }),
      (error: GodwitError) => (result = { refusal: error.code }),
    );
    this.run(JOIN_LIMIT_MS, () => result !== undefined);
    if (result === undefined) throw new Error("the newcomer neither joined nor was refused");
    // What was said of it reaches everybody.
    this.run(1_000);
    return result;
  }

  peer(from: MeshMember, to: MeshMember): Peer {
    const send = (_lane: unknown, frame: Uint8Array): boolean => {
      const bytes = frame.slice();
      this.clock.after(LINK_DELAY_MS, () => {
        if (from.isOn && to.isOn) to.enrolment.onFrame(from.identity.id, bytes);
      });
      return true;
    };
    return { id: to.identity.id, upAtMs: -HOUR_MS, frameBytesMax: 61_440, send } as unknown as Peer;
  }

  #dial(endpoint: string, signal: AbortSignal): Promise<Pipe> {
    const member = this.byEndpoint.get(endpoint);
    if (member?.isOn !== true) return new Promise((_, reject) => this.#fail(signal, reject));
    const { a, b } = memoryPipePair({
      kind: "stream",
      clock: this.clock,
      random: this.random,
      latencyMs: LATENCY_MS,
    });
    openSession(
      b,
      {
        role: "responder",
        identity: member.identity,
        network: NETWORK,
        secrets: [SECRET],
        judgeInvite: (invite) => member.enrolment.judge(invite),
        clock: this.clock,
        random: this.random,
        guard: new HandshakeGuard(this.clock, this.random),
      },
      new AbortController().signal,
    ).then(
      (session) => member.enrolment.serve(session),
      () => {},
    );
    return Promise.resolve(a);
  }

  /** Some dead addresses refuse, others say nothing until the dial is given up. */
  #fail(signal: AbortSignal, reject: (error: unknown) => void): void {
    const refuse = (): void => reject(godwitError("GODWIT_DIAL_FAILED", "nothing listens there"));
    if (this.random.float() < 0.5) this.clock.after(LATENCY_MS, refuse);
    else signal.addEventListener("abort", () => reject(signal.reason), { once: true });
  }
}
