/** What the link's own tests share: two nodes, a wire between them, and what came out of each session. */
import type { GodwitError, LinkClass } from "@godwit/sdk";
import { generateIdentity, type Identity } from "../identity/keys.ts";
import { ManualClock } from "../kernel/clock.ts";
import { seededRandom, type Random } from "../kernel/random.ts";
import { HandshakeGuard, type GuardLimits } from "./guard.ts";
import { openSession, type OpenSessionOptions } from "./handshake.ts";
import { memoryPipePair, type MemoryPipeOptions, type MemoryPipePair } from "./testing.ts";
import type { Session } from "./types.ts";

export const alice = generateIdentity(seededRandom(101));
export const bob = generateIdentity(seededRandom(102));
export const carol = generateIdentity(seededRandom(103));

export type Settled = { session: Session; error?: undefined } | { session?: undefined; error: GodwitError };

export interface LinkTest {
  readonly clock: ManualClock;
  readonly random: Random;
  readonly wire: MemoryPipePair;
  readonly guardA: HandshakeGuard;
  readonly guardB: HandshakeGuard;
  readonly a: Promise<Settled>;
  readonly b: Promise<Settled>;
}

export interface LinkTestOptions {
  readonly kind?: "stream" | "datagram";
  readonly linkClass?: LinkClass;
  readonly seed?: number;
  readonly wire?: Partial<MemoryPipeOptions>;
  readonly a?: Partial<OpenSessionOptions>;
  readonly b?: Partial<OpenSessionOptions>;
  readonly guard?: Partial<GuardLimits>;
  readonly clock?: ManualClock;
  /** How long the handshake takes at most where datagrams wait, ms. */
  readonly openMs?: number;
}

export const settled = (opening: Promise<Session>): Promise<Settled> =>
  opening.then(
    (session) => ({ session }),
    (error: GodwitError) => ({ error }),
  );

/** Alice dials Bob (IK unless told otherwise); both handshakes are under way. */
export function startLink(options: LinkTestOptions = {}): LinkTest {
  const clock = options.clock ?? new ManualClock();
  const random = seededRandom(options.seed ?? 1);
  const wire = memoryPipePair({
    kind: options.kind ?? "stream",
    clock,
    random,
    linkClass: options.linkClass ?? "fast",
    ...options.wire,
  });
  const guardA = new HandshakeGuard(clock, random, options.guard);
  const guardB = new HandshakeGuard(clock, random, options.guard);
  const common = { network: "telex", secrets: [], clock, random };
  const signal = new AbortController().signal;
  const a = settled(
    openSession(
      wire.a,
      { ...common, role: "initiator", identity: alice, remote: bob.id, guard: guardA, ...options.a },
      signal,
    ),
  );
  const b = settled(
    openSession(wire.b, { ...common, role: "responder", identity: bob, guard: guardB, ...options.b }, signal),
  );
  return { clock, random, wire, guardA, guardB, a, b };
}

/** Everything that a session delivered. */
export class Collector {
  readonly session: Session;
  readonly frames: Uint8Array[] = [];
  drains = 0;
  /** Undefined while open. */
  closed: { error: GodwitError | undefined } | undefined;
  onFrame: (bytes: Uint8Array) => void = () => {};
  onDrain: () => void = () => {};

  constructor(session: Session) {
    this.session = session;
    session.open({
      frame: (bytes) => {
        if (this.closed !== undefined) throw new Error("a frame after closed");
        this.frames.push(new Uint8Array(bytes));
        this.onFrame(bytes);
      },
      drain: () => {
        this.drains++;
        this.onDrain();
      },
      closed: (error) => {
        if (this.closed !== undefined) throw new Error("closed twice");
        this.closed = { error };
      },
    });
  }
}

export interface OpenLink extends LinkTest {
  readonly left: Collector;
  readonly right: Collector;
}

/** Both sessions, opened: as soon as they are there where that takes long. */
export async function openLink(options: LinkTestOptions = {}): Promise<OpenLink> {
  const link = startLink(options);
  const { kind, openMs } = options;
  const isWaitedFor = openMs !== undefined;
  const early = isWaitedFor ? Promise.all([opened(link.a), opened(link.b)]) : undefined;
  await link.clock.advance(openMs ?? (kind === "datagram" ? 4_000 : 100));
  const [left, right] = await (early ?? Promise.all([opened(link.a), opened(link.b)]));
  if (!isWaitedFor) await link.clock.advance(kind === "datagram" ? 4_000 : 10);
  return { ...link, left, right };
}

async function opened(settling: Promise<Settled>): Promise<Collector> {
  const { session, error } = await settling;
  if (session === undefined) throw error;
  return new Collector(session);
}

export const bytesOf = (length: number, fill: number): Uint8Array => new Uint8Array(length).fill(fill);
export type { Identity };
