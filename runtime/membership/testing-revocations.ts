/** Who holds revocations, and two of them in talk, frame by frame. For tests only. */
import { generateIdentity, verifySignature } from "../identity/keys.ts";
import { encodeRevocation } from "../identity/record.ts";
import { ManualClock } from "../kernel/clock.ts";
import { formatNodeId, type NodeId } from "../kernel/ids.ts";
import { Metrics } from "../kernel/metrics.ts";
import { seededRandom } from "../kernel/random.ts";
import { RecordBook } from "./records.ts";
import { RevocationSpread } from "./revocations.ts";
import { openMemoryStore, SimDisk } from "../store/memory.ts";
import { noRegard } from "../trust/testing.ts";

export const random = seededRandom(11);
export const authority = generateIdentity(random);
export const clock = new ManualClock();

export interface TestNode {
  readonly id: NodeId;
  readonly records: RecordBook;
  readonly spread: RevocationSpread;
  readonly changes: NodeId[];
}

/** Two nodes whose frames wait in one queue until `run`; counts what went. */
export class Pair {
  frames: { to: number; bytes: Uint8Array }[] = [];
  sent = 0;
  bytesMax = 61_440;
  loses = false;
  hasRoom = true;
  readonly nodes: TestNode[] = [];

  static async of(authorities: readonly (NodeId | undefined)[], verify = verifySignature): Promise<Pair> {
    const pair = new Pair();
    for (const [index, by] of authorities.entries()) pair.nodes.push(await pair.#node(index, by, verify));
    return pair;
  }

  async #node(index: number, by: NodeId | undefined, verify: typeof verifySignature): Promise<TestNode> {
    const store = await openMemoryStore(new SimDisk(), { clock, random: seededRandom(2), commitDelayMs: 1 });
    const changes: NodeId[] = [];
    const records = new RecordBook({
      self: formatNodeId(new Uint8Array(32)),
      regard: noRegard,
      forgot() {},
      store,
      network: "net",
      authority: by,
      verify,
      changed: (id, record) => {
        changes.push(id);
        if (record.isRevoked) spread.onRevoked(records.get(id)!);
      },
    });
    const spread: RevocationSpread = new RevocationSpread({
      clock,
      metrics: new Metrics(),
      records,
      shareOf: (teller) => ({ by: teller, isKnown: false }),
      send: (_to, frame) => {
        if (!this.hasRoom) return false;
        this.sent++;
        if (!this.loses) this.frames.push({ to: 1 - index, bytes: frame.slice() });
        return true;
      },
      frameBytesMax: () => this.bytesMax,
    });
    return { id: formatNodeId(new Uint8Array(32).fill(index + 1)), records, spread, changes };
  }

  connect(): void {
    const [a, b] = this.nodes as [TestNode, TestNode];
    a.spread.onNeighbourUp(b.id);
    b.spread.onNeighbourUp(a.id);
  }

  run(): void {
    for (let turns = 0; this.frames.length > 0; turns++) {
      if (turns > 5_000) throw new Error("the two never stop talking");
      const { to, bytes } = this.frames.shift()!;
      this.nodes[to]!.spread.onFrame(this.nodes[1 - to]!.id, bytes[0]!, bytes);
    }
  }

  get counts(): number[] {
    return this.nodes.map(({ records }) => records.revocations.size);
  }
}

/** A revocation of a made-up node; its signature is the authority's. */
export const idOf = (n: number): NodeId => {
  const bytes = new Uint8Array(32).fill(9);
  new DataView(bytes.buffer).setUint32(0, Math.imul(n + 1, 0x9e3779b1) >>> 0);
  return formatNodeId(bytes);
};
export const revocationOf = (n: number): Uint8Array => encodeRevocation(authority, idOf(n), "net", "lost");
