/** The sender of updates among neighbours that acknowledge, forget to, repeat themselves and make things up. */
import { expect, test } from "bun:test";
import fc from "fast-check";
import { ManualClock } from "../kernel/clock.ts";
import { formatNodeId, type NodeId } from "../kernel/ids.ts";
import { silentLog } from "../kernel/log.ts";
import { seededRandom } from "../kernel/random.ts";
import { decodeUpdateHeader, encodeRouteAck, readUpdateEntry, UNREACHABLE } from "../wire/route-messages.ts";
import { RouteCore } from "./core.ts";
import { routeLimits, UPDATE_FRAME_BYTES, UPDATES_UNDER_WAY_BYTES_MAX } from "./limits.ts";
import { Neighbour, type LinkCost } from "./neighbour.ts";
import type { Destination } from "./table.ts";
import { UpdateSender } from "./updates.ts";

const NEIGHBOURS = 4;
const LIAR = NEIGHBOURS - 1;
const DESTINATIONS = 150;
const OWN_TAG = 7;
const idOf = (n: number) => formatNodeId(new Uint8Array(32).fill(n));
const link: LinkCost = { cost: 3, mtu: 1_300, bottleneck: 0, profile: "fast" };

/** What one neighbour was told, as it would hold it. */
class Hearer {
  readonly told = new Map<NodeId, { readonly serial: number; readonly metric: number }>();
  readonly unanswered: number[] = [];

  hear(frame: Uint8Array): void {
    const { serial, entries } = decodeUpdateHeader(frame);
    while (entries.remaining > 0) {
      const { destination, any } = readUpdateEntry(entries);
      if (serial > (this.told.get(destination)?.serial ?? 0))
        this.told.set(destination, { serial, metric: any.metric });
    }
  }
}

class World {
  readonly clock = new ManualClock();
  readonly core: RouteCore;
  readonly sender: UpdateSender;
  readonly neighbours: Neighbour[] = [];
  readonly hearers: Hearer[] = [];
  readonly destinations: Destination[] = [];
  readonly source = new Neighbour(idOf(200), "boot", { ...link, profile: "slow" }, 1);
  /** Frames that are lost. */
  isLossy = false;

  constructor() {
    this.core = new RouteCore(
      {
        self: idOf(255),
        network: "test",
        bootEpoch: 1,
        clock: this.clock,
        random: seededRandom(1),
        log: silentLog,
        sign: () => new Uint8Array(64),
        verify: () => true,
        send: (to, frame) => this.#onSend(to, frame),
        malformed() {},
        onChange() {},
        ownRecord: () => undefined,
        knownRecord: () => undefined,
        onRecord: () => true,
        outrun: () => undefined,
      },
      routeLimits,
    );
    this.core.runEvent = (work) => {
      work();
      this.#settle();
    };
    this.sender = new UpdateSender(this.core);
    this.core.table.candidates.enter(this.source);
    for (let n = 0; n < DESTINATIONS; n++) {
      const destination = this.core.addDestination(idOf(n + 1), this.source.id);
      destination.verifiedSeqno = 1;
      destination.proof = { seqno: 1, recordHash: new Uint8Array(8), signature: new Uint8Array(64) };
      this.destinations.push(destination);
    }
    for (let who = 0; who < NEIGHBOURS; who++) this.come(who);
  }

  come(who: number): void {
    const neighbour = new Neighbour(idOf(220 + who), "boot", link, OWN_TAG);
    neighbour.peerTag = 9;
    this.neighbours[who] = neighbour;
    this.hearers[who] = new Hearer();
    this.core.neighbours.set(neighbour.id, neighbour);
    this.sender.markAll(neighbour);
  }

  go(who: number): void {
    const neighbour = this.neighbours[who]!;
    this.core.neighbours.delete(neighbour.id);
    this.core.urgent.delete(neighbour);
    neighbour.cancelTimers();
    this.sender.forget(neighbour);
  }

  /** It has forgotten all, and says so. */
  beginAnew(who: number): void {
    const neighbour = this.neighbours[who]!;
    this.hearers[who] = new Hearer();
    this.sender.forget(neighbour);
    neighbour.resetSending();
    this.sender.markAll(neighbour);
  }

  offer(n: number, metric: number): void {
    const { candidates } = this.core.table;
    const destination = this.destinations[n]!;
    const row = candidates.find(destination.list, this.source);
    const any = metric === 0 ? UNREACHABLE : { seqno: 1, metric, mtu: 1_300, bottleneck: 0 as const };
    this.core.put(destination, this.source, row, 1, any, any);
  }

  acknowledge(who: number, serial: number, tag = OWN_TAG): void {
    this.sender.handleAck(this.neighbours[who]!, encodeRouteAck({ tag, serial }));
  }

  wait(forMs: number): void {
    const untilMs = this.clock.monotonicMs() + forMs;
    while (this.clock.runNext(untilMs));
    this.clock.jumpTo(untilMs);
  }

  check(): void {
    this.#settle();
    let bytes = 0;
    for (const { inFlight } of this.neighbours)
      for (const frame of inFlight) {
        bytes += frame.bytes;
        expect(frame.bytes).toBeGreaterThan(0);
      }
    expect(this.sender.underWayBytes).toBe(bytes);
    expect(bytes).toBeLessThanOrEqual(UPDATES_UNDER_WAY_BYTES_MAX + NEIGHBOURS * UPDATE_FRAME_BYTES);
  }

  #settle(): void {
    for (const neighbour of this.core.urgent) {
      this.core.urgent.delete(neighbour);
      this.sender.flush(neighbour);
    }
  }

  #onSend(to: NodeId, frame: Uint8Array): void {
    const who = this.neighbours.findIndex(({ id }) => id === to);
    const hearer = this.hearers[who];
    if (hearer === undefined || this.isLossy) return;
    hearer.hear(frame);
    hearer.unanswered.push(decodeUpdateHeader(frame).serial);
  }
}

const act = fc.record({
  what: fc.constantFrom(
    ...(["offer", "offer", "offer", "ack", "ack", "again", "invented", "foreign", "wait"] as const),
    ...(["resend", "anew", "leave", "loss", "crossed"] as const),
  ),
  who: fc.nat(NEIGHBOURS - 1),
  n: fc.nat(DESTINATIONS - 1),
  metric: fc.constantFrom(0, 1, 5, 5, 50, 500),
});

test("bytes under way are those of the frames under way, and in the end each honest neighbour holds what it should", () => {
  fc.assert(
    fc.property(fc.array(act, { minLength: 20, maxLength: 200 }), (acts) => {
      const world = new World();
      for (const { what, who, n, metric } of acts) {
        const { unanswered } = world.hearers[who]!;
        const serials = world.neighbours[who]!.inFlight.map(({ serial }) => serial);
        if (what === "offer") for (let i = 0; i < 20; i++) world.offer((n + i) % DESTINATIONS, metric);
        // Whoever lies says so of what it never got as well.
        else if (what === "ack" && who === LIAR) for (const serial of serials) world.acknowledge(who, serial);
        else if (what === "ack") for (const serial of unanswered.splice(0, n)) world.acknowledge(who, serial);
        else if (what === "again") for (const serial of unanswered) world.acknowledge(who, serial);
        else if (what === "invented") world.acknowledge(who, 2 ** 48 - 1 - n);
        else if (what === "foreign")
          for (const serial of serials) world.acknowledge(who, serial, OWN_TAG + 1);
        else if (what === "wait") world.wait(n * 10);
        else if (what === "resend") world.sender.resend(world.neighbours[who]!);
        else if (what === "anew") world.beginAnew(who);
        else if (what === "loss") world.isLossy = n % 2 === 0;
        else if (what === "crossed") {
          // The acknowledgement of one comes when the next of the same destination is under way, and lost.
          for (const [isLossy, said] of [[false, metric] as const, [true, metric + 1] as const]) {
            world.isLossy = isLossy;
            world.offer(n, said);
            world.wait(40);
          }
          for (const serial of unanswered.splice(0)) world.acknowledge(who, serial);
        } else {
          world.go(who);
          world.come(who);
        }
        world.check();
      }
      world.isLossy = false;
      for (let round = 0; round < 400; round++) {
        world.wait(500);
        for (const [who, { unanswered }] of world.hearers.entries())
          for (const serial of unanswered.splice(0)) world.acknowledge(who, serial);
        world.check();
      }
      expect(world.sender.underWayBytes).toBe(0);
      for (const [who, { told }] of world.hearers.entries()) {
        if (who === LIAR) continue;
        const neighbour = world.neighbours[who]!;
        expect(neighbour.isSettled).toBe(true);
        for (const destination of world.destinations) {
          const { metric } = world.core.exported(destination, "any", neighbour);
          expect(told.get(destination.id)?.metric ?? UNREACHABLE.metric).toBe(metric);
        }
      }
      world.core.close();
    }),
    { numRuns: 100 },
  );
});
