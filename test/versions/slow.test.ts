/**
 * An earlier release at the other end of a slow link, by its own code: no transport that comes with it is slow. Both ends agree on version 1, and each
 * gets every byte of the other's frames as they are. docs/protocol/slow.md
 */
import { afterAll, beforeAll, expect, test } from "bun:test";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { generateIdentity } from "../../runtime/identity/keys.ts";
import { ManualClock } from "../../runtime/kernel/clock.ts";
import { silentLog } from "../../runtime/kernel/log.ts";
import { EARLIER_RUN } from "../../runtime/kernel/room.ts";
import { Metrics } from "../../runtime/kernel/metrics.ts";
import { seededRandom } from "../../runtime/kernel/random.ts";
import { HandshakeGuard } from "../../runtime/link/guard.ts";
import { openSession } from "../../runtime/link/handshake.ts";
import { memoryPipePair } from "../../runtime/link/testing.ts";
import { Peers } from "../../runtime/peer/peers.ts";
import {
  encodeBundleFrame,
  encodeCustodyAck,
  encodeCustodyRefuse,
  makeBundle,
} from "../../runtime/wire/bundle.ts";
import { encodePacket } from "../../runtime/wire/packet.ts";
import { lastOfSchemaTwo, previousRelease, type Release, releaseSource } from "../../scripts/releases.ts";

interface Code {
  readonly Peers: typeof Peers;
  readonly Metrics: typeof Metrics;
  readonly HandshakeGuard: typeof HandshakeGuard;
  readonly openSession: typeof openSession;
  readonly generateIdentity: typeof generateIdentity;
}

const here: Code = { Peers, Metrics, HandshakeGuard, openSession, generateIdentity };
const releases: readonly Release[] = [previousRelease, lastOfSchemaTwo];
const codes = new Map<string, Code>();
let dir: string;

beforeAll(async () => {
  dir = await mkdtemp(join(tmpdir(), "godwit-slow-"));
  for (const release of releases) {
    const own = join(dir, release.commit);
    await Bun.write(join(own, ".keep"), "");
    await releaseSource(release, own);
    const files = [...["peer/peers", "kernel/metrics", "link/guard", "link/handshake", "identity/keys"]].map(
      (file) => import(join(own, `runtime/${file}.ts`)) as Promise<Partial<Code>>,
    );
    codes.set(release.commit, Object.assign({}, ...(await Promise.all(files))) as Code);
  }
}, 60_000);

afterAll(async () => rm(dir, { recursive: true, force: true }));

/** Of one end: what it got. */
function end(code: Code, seed: number, clock: ManualClock) {
  const frames: Uint8Array[] = [];
  const identity = code.generateIdentity(seededRandom(seed));
  const signal = new AbortController().signal;
  const nothing = () => {};
  // What each release asks for, and what no other minds.
  const deps = {
    ...{
      self: identity.id,
      clock,
      random: seededRandom(seed),
      log: silentLog,
      metrics: new code.Metrics(),
      signal,
    },
    ...{
      bootId: new Uint8Array(8).fill(seed),
      storeEpoch: new Uint8Array(8),
      helloEpoch: () => new Uint8Array(8),
    },
    ...{ ownRecord: () => new Uint8Array(300), recordOf: () => new Uint8Array(300) },
    ...{
      isStandingDown: () => false,
      isBlocked: () => false,
      isWelcome: () => true,
      interfaceOf: () => undefined,
    },
    ...{
      regard: { worthOf: () => "none" as const, shareOf: () => EARLIER_RUN },
      welcomeOf: () => "known" as const,
    },
    events: {
      ...{ up: nothing, down: nothing, linkUp: nothing, linkDown: nothing, measured: nothing },
      ...{ record: nothing, writable: nothing },
      frame: (_peer: unknown, _type: number, bytes: Uint8Array) => void frames.push(bytes.slice()),
    },
  };
  return { code, identity, frames, signal, peers: new code.Peers(deps) };
}

test.each(releases.flatMap((release) => [true, false].map((isDialled) => [release, isDialled] as const)))(
  "%j over a slow link, dialled: %p",
  async (release, isDialled) => {
    const clock = new ManualClock();
    const [old, fresh] = [end(codes.get(release.commit)!, 1, clock), end(here, 2, clock)];
    const wire = memoryPipePair({ kind: "datagram", clock, random: seededRandom(3), linkClass: "slow" });
    const [dialler, dialled] = isDialled ? [fresh, old] : [old, fresh];
    const open = (
      { code, identity, signal }: typeof old,
      pipe: typeof wire.a,
      role: "initiator" | "responder",
    ) =>
      code.openSession(
        pipe,
        {
          ...{ role, identity, network: "telex", secrets: [], clock, random: seededRandom(5) },
          guard: new code.HandshakeGuard(clock, seededRandom(6)),
          ...(role === "initiator" ? { remote: dialled.identity.id } : {}),
        },
        signal,
      );
    const opening = Promise.all([open(dialler, wire.a, "initiator"), open(dialled, wire.b, "responder")]);
    await clock.advance(60_000);
    const [a, b] = await opening;
    expect([a.version, b.version]).toEqual([1, 1]);
    dialler.peers.adopt(a);
    dialled.peers.adopt(b);
    await clock.advance(60_000);
    const [source, destination] = [fresh.identity.id, old.identity.id];
    const header = { kind: 0, priority: 2, source, destination, lifetimeMs: 60_000 } as const;
    const bundle = makeBundle(header, new Uint8Array(40).fill(4));
    const journey = { remainingMs: 59_000, hops: 1, trace: [{ node: source, atMs: 5 }] };
    const packet = { priority: 2, plane: "any", hopsLeft: 9, kind: 1, source, destination } as const;
    const frames = [
      encodeBundleFrame(bundle, journey),
      encodeCustodyAck([bundle.id]),
      encodeCustodyRefuse(bundle.id, 7, 1_500),
      encodePacket(packet, new Uint8Array(9)),
    ];
    for (const frame of frames) {
      expect(fresh.peers.get(destination)!.send(2, frame)).toBe(true);
      expect(old.peers.get(source)!.send(2, frame)).toBe(true);
    }
    await clock.advance(60_000);
    expect(old.frames).toEqual(frames);
    expect(fresh.frames).toEqual(frames);
  },
);
