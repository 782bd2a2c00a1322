/** A mesh over the fakes of the rooms below, and neighbours by hand. For tests only. */
import { custodyLimitsDefault } from "../custody/context.ts";
import { generateIdentity, verifySignature, type Identity } from "../identity/keys.ts";
import { openPrekeys } from "../identity/prekeys.ts";
import { createSealer } from "../identity/sealer.ts";
import type { ManualClock } from "../kernel/clock.ts";
import { Hub } from "../kernel/hub.ts";
import type { NodeId } from "../kernel/ids.ts";
import { silentLog } from "../kernel/log.ts";
import { Metrics } from "../kernel/metrics.ts";
import { seededRandom } from "../kernel/random.ts";
import { type FakeSession, sessionPair } from "../peer/testing.ts";
import { openMemoryStore, SimDisk } from "../store/memory.ts";
import { testTime } from "../time/testing.ts";
import { encodeHello } from "../wire/peer-messages.ts";
import type { MeshDeps } from "./deps.ts";
import type { MeshEvents } from "./events.ts";
import type { Mesh } from "./mesh.ts";

const heardKinds: Readonly<Record<Exclude<keyof MeshEvents, "recordChanged">, true>> = {
  ...{ peerUp: true, peerDown: true, linkUp: true, linkDown: true, routeChanged: true, hintHeard: true },
  ...{
    nameConflict: true,
    trustChanged: true,
    namesChanged: true,
    onionConsidered: true,
    identityDoubled: true,
    storeBehind: true,
    revoked: true,
    memberChanged: true,
    memberForgotten: true,
    delivered: true,
  },
  ...{
    outboxChanged: true,
    outboxProgress: true,
    lostDelivery: true,
    honestRoute: true,
    peerQuarantined: true,
  },
  ...{ clockChanged: true, peerRestored: true, joined: true, inviteConflict: true },
};

/** Everything that a mesh is given, over fakes that the rooms below ship. `events` are what the node around it hears. */
export async function depsFor(clock: ManualClock, seed = 1, changes: Partial<MeshDeps> = {}) {
  const random = seededRandom(seed);
  const identity = generateIdentity(random);
  const metrics = new Metrics();
  const store = await openMemoryStore(new SimDisk(), { clock, random, commitDelayMs: 0 });
  const heard: string[] = [];
  const events = new Hub<MeshEvents>((_, error) => {
    throw error;
  });
  for (const kind of Object.keys(heardKinds) as (keyof MeshEvents)[]) events.on(kind, () => heard.push(kind));
  const deps = {
    ...{
      identity,
      network: "test",
      clock,
      time: testTime(clock).time,
      random,
      log: silentLog,
      metrics,
      store,
    },
    liveSecrets: () => [],
    callsign: undefined,
    location: undefined,
    limits: custodyLimitsDefault,
    names: new Map(),
    trust: new Map(),
    trustRules: [],
    promoteAfterMs: undefined,
    linksWanted: 2,
    canDial: () => true,
    addresses: () => [],
    dialNetworks: [],
    hopCostMs: 0,
    verify: verifySignature,
    openSealing: async (recordOf) => {
      const prekeys = await openPrekeys({ store, random, clock, callsign: undefined, onRotate() {} });
      await prekeys.stop();
      return {
        prekeys,
        sealer: createSealer({ identity, prekeys, recordOf, sessions: { network: "test", clock, random } }),
      };
    },
    dial: (_endpoint, signal) =>
      new Promise((_, reject) =>
        signal.addEventListener("abort", () => reject(signal.reason as Error), { once: true }),
      ),
    handshake: () => Promise.reject(new Error("no pipe opens here")),
    events,
    system: () => Promise.resolve(),
    ...changes,
  } satisfies MeshDeps as MeshDeps;
  return { deps, identity, metrics, heard, random };
}

/** A mesh whose store answers only while time passes. */
export async function settled<T>(clock: ManualClock, promise: Promise<T>): Promise<T> {
  const state = { isDone: false };
  const watched = promise.finally(() => (state.isDone = true));
  watched.catch(() => {});
  for (let i = 0; i < 100 && !state.isDone; i++) await clock.advance(1);
  return await watched;
}

/** A neighbour by hand: its session, and its hello said. */
export function neighbour(
  clock: ManualClock,
  mesh: Mesh,
  self: NodeId,
  far: Identity,
  linkClass: "fast" | "slow" = "fast",
  frameBytesMax = 61_440,
  wallMs?: number,
): FakeSession {
  const [session] = sessionPair(clock, self, far.id);
  session.isCarrying = false;
  session.linkClass = linkClass;
  if (linkClass === "slow") session.rateBitsPerSecond = 1_074;
  mesh.adopt(session);
  session.frameBytesMax = frameBytesMax;
  const life = { bootId: new Uint8Array(8).fill(1), storeEpoch: new Uint8Array(8).fill(1) };
  session.receive(encodeHello({ versionMin: 1, versionMax: 1, ...life, record: new Uint8Array(0), wallMs }));
  return session;
}
