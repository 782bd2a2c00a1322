/** Two ends of a real session of class slow over datagrams, each with the compact form over it. For tests only. */
import { generateIdentity, type Identity } from "../identity/keys.ts";
import { Metrics } from "../kernel/metrics.ts";
import { seededRandom } from "../kernel/random.ts";
import { Collector, startLink } from "../link/fixture.ts";
import type { MemoryPipe, MemoryPipeOptions } from "../link/testing.ts";
import { type Bundle, decodeBundleFrame, encodeBundleFrame, encodeCustodyAck } from "../wire/bundle.ts";
import { compacted } from "./compact-session.ts";

export interface CompactEnd {
  readonly collector: Collector;
  readonly pipe: MemoryPipe;
  readonly metrics: Metrics;
}

export interface CompactPair {
  readonly near: CompactEnd;
  readonly far: CompactEnd;
  advance(ms: number): Promise<void>;
}

export const identityOf = (seed: number): Identity => generateIdentity(seededRandom(seed));

/** `near` dials `far`; by default both speak the newest version. */
export async function openCompactPair(
  [near, far]: readonly [Identity, Identity],
  options: { readonly wire?: Partial<MemoryPipeOptions>; readonly version?: number } = {},
): Promise<CompactPair> {
  const versions = options.version === undefined ? {} : { versions: { min: 1, max: options.version } };
  const link = startLink({
    kind: "datagram",
    linkClass: "slow",
    wire: { isRecording: true, mtu: 1_000, ...options.wire },
    a: { identity: near, remote: far.id, ...versions },
    b: { identity: far },
  });
  await link.clock.advance(60_000);
  const ends = await Promise.all(
    [near, far].map(async (own, i): Promise<CompactEnd> => {
      const { session, error } = await (i === 0 ? link.a : link.b);
      if (session === undefined) throw error;
      const metrics = new Metrics();
      const deps = { self: own.id, clock: link.clock, metrics, recordOf: () => undefined };
      const collector = new Collector(compacted(session, deps));
      return { collector, pipe: i === 0 ? link.wire.a : link.wire.b, metrics };
    }),
  );
  await link.clock.advance(60_000);
  return { near: ends[0]!, far: ends[1]!, advance: (ms) => link.clock.advance(ms) };
}

/** Sends a bundle from `near`, which arrives, and has it acknowledged. Answers what each of the two took on the medium, in bytes. */
export async function sendAcknowledged(
  { near, far, advance }: CompactPair,
  bundle: Bundle,
  journey: { readonly remainingMs: number; readonly hops: number },
): Promise<{ readonly sent: number; readonly acknowledged: number; readonly arrived: Uint8Array }> {
  near.collector.session.send(encodeBundleFrame(bundle, { ...journey, trace: [] }));
  await advance(1_000);
  const sent = near.pipe.sent.at(-1)!.length;
  const arrived = far.collector.frames.at(-1)!;
  far.collector.session.send(encodeCustodyAck([decodeBundleFrame(arrived).bundle.id]));
  await advance(1_000);
  return { sent, acknowledged: far.pipe.sent.at(-1)!.length, arrived };
}
