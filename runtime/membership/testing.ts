/** Nodes and tellers by number, and a record book over a memory disk. For tests only. */
import { formatNodeId, type NodeId } from "../kernel/ids.ts";
import { generateIdentity, verifySignature } from "../identity/keys.ts";
import { ManualClock } from "../kernel/clock.ts";
import { seededRandom } from "../kernel/random.ts";
import { openMemoryStore, SimDisk } from "../store/memory.ts";
import { RecordBook, type RecordBookDeps } from "./records.ts";
import { noRegard } from "../trust/testing.ts";

export const node = formatNodeId(new Uint8Array(32).fill(2));
export const nobody = { isKnown: () => false, isLinked: () => false };

export const id = (n: number): NodeId => {
  const bytes = new Uint8Array(32);
  new DataView(bytes.buffer).setUint32(0, n);
  return formatNodeId(bytes);
};

export const liar = id(999_999);
export const regard = {
  worthOf: () => "none" as const,
  shareOf: (teller: NodeId) => ({ by: teller === liar ? "liar" : "others", isKnown: false }),
};

export const identity = generateIdentity(seededRandom(1));

export async function book(options: Partial<RecordBookDeps> = {}, disk = new SimDisk()) {
  const changes: number[] = [];
  const clock = new ManualClock();
  const forgotten: NodeId[] = [];
  const store = await openMemoryStore(disk, { clock, random: seededRandom(2), commitDelayMs: 1 });
  const records = new RecordBook({
    self: identity.id,
    regard: noRegard,
    authority: undefined,
    store,
    network: "net",
    verify: verifySignature,
    changed: (_id, { sequence }) => changes.push(sequence),
    ...options,
    forgot: (gone) => forgotten.push(gone),
  });
  return { records, changes, forgotten, store, clock };
}
