/**
 * What was ever delivered here: per (sender, mail epoch, address) a run-length set of counters, kept without expiry, so that
 * nothing is delivered twice however late it comes. Sets in use are rows of their own; those that rest are folded into one row a
 * sender. Bounded by refusing, never by forgetting. Ages count running time (`coveredMs` of time/node-time.ts), which no clock can lead astray. docs/protocol/delivery.md "Exactly once".
 */
import type { NodeId } from "../../kernel/ids.ts";
import { type Check, parseMeta } from "../../kernel/json.ts";
import { loadSound } from "../../store/sound.ts";
import { Quota } from "../../kernel/quota.ts";
import { EARLIER_RUN, type Share } from "../../kernel/room.ts";
import type { Store, StoreOp, StoreRow } from "../../store/types.ts";
import { addCounter, areRuns, hasCounter, hourOf, removeCounter, type Runs } from "./runs.ts";
import { SeenArchive } from "./seen-archive.ts";

/**
 * Senders ever delivered from. To forget one could deliver its mail twice, so strangers are refused by name when they have their
 * share, and known ones always have room (kernel/quota.ts).
 */
export const SEEN_SENDERS_MAX = 65_536;
/** Sets of one sender that are rows of their own. One more, and all but `SETS_KEPT` are folded: seldom, because it writes them all. */
export const SEEN_SETS_LIVE_MAX = 16;
const SETS_KEPT = 8;

const isRuns: Check = (value) => Array.isArray(value) && areRuns(value);

interface SenderSets {
  /** Least recently used first. */
  readonly live: Map<string, Runs>;
  archive: SeenArchive;
}

/** A row of `seen` as it lies in the store; undefined for a damaged one. `since` of a run is missing in rows of earlier releases. */
export function readSeenRow({ key, meta }: Pick<StoreRow, "key" | "meta">): SeenRow | undefined {
  const sender = key.slice(0, key.indexOf("/")) as NodeId;
  if (key === archiveKey(sender)) {
    const archive = SeenArchive.parse(meta);
    return archive === undefined ? undefined : { sender, archive };
  }
  const runs = parseMeta<(readonly [number, number, number?])[]>(meta, isRuns);
  return runs === undefined ? undefined : { sender, name: key.slice(sender.length + 1), runs };
}

export type SeenRow =
  | { readonly sender: NodeId; readonly archive: SeenArchive }
  | {
      readonly sender: NodeId;
      /** `<epoch>/<address>`. */
      readonly name: string;
      readonly runs: readonly (readonly [number, number, number?])[];
    };

export class Seen {
  readonly #quota: Quota<NodeId>;
  readonly #bySender = new Map<NodeId, SenderSets>();

  constructor(sendersMax: number = SEEN_SENDERS_MAX) {
    this.#quota = new Quota({ countMax: sendersMax, bytesMax: Number.MAX_SAFE_INTEGER, oneShare: 1 });
  }

  async load(store: Store, coveredMs: number): Promise<void> {
    await loadSound(store, "seen", (stored) => {
      const row = readSeenRow(stored);
      if (row === undefined) return undefined;
      const sets = this.#load(row.sender);
      if ("archive" in row) sets.archive = row.archive;
      else
        sets.live.set(
          row.name,
          row.runs.map(([first, last, since]) => [first, last, since ?? hourOf(coveredMs)]),
        );
      return row;
    });
  }

  has(sender: NodeId, epoch: string, address: string, counter: number): boolean {
    const sets = this.#bySender.get(sender);
    if (sets === undefined) return false;
    const name = setName(epoch, address);
    const runs = use(sets, name) ?? sets.archive.get(name);
    return runs !== undefined && hasCounter(runs, counter);
  }

  /** It is not known here, and there is no place for it. */
  hasNoPlace(sender: NodeId, share: Share): boolean {
    return !this.#bySender.has(sender) && this.#quota.refusal(sender, share, 0) !== undefined;
  }

  /**
   * Marks in memory. Answers the key of the set, to be made durable by `ops` in the commit of the delivery; undefined
   * when there is no room: the message has to wait for those before it.
   */
  add(
    sender: NodeId,
    share: Share,
    epoch: string,
    address: string,
    counter: number,
    coveredMs: number,
  ): string | undefined {
    if (this.hasNoPlace(sender, share)) return undefined;
    if (!this.#bySender.has(sender)) this.#quota.add(sender, sender, share, 0);
    const sets = this.#setsOf(sender);
    const name = setName(epoch, address);
    let runs = use(sets, name) ?? sets.archive.get(name);
    if (
      runs === undefined &&
      sets.live.size >= SEEN_SETS_LIVE_MAX &&
      !sets.archive.hasRoom(hourOf(coveredMs))
    )
      return undefined;
    runs ??= [];
    if (!addCounter(runs, counter, hourOf(coveredMs))) return undefined;
    sets.live.set(name, runs);
    return `${sender}/${name}`;
  }

  /** What makes the set durable, and what is folded because of it. Once a commit, however many counters it adds. */
  ops(key: string, coveredMs: number): StoreOp[] {
    const sender = key.slice(0, key.indexOf("/")) as NodeId;
    const sets = this.#setsOf(sender);
    const runs = sets.live.get(key.slice(sender.length + 1));
    if (runs === undefined) return [];
    const ops: StoreOp[] = [{ op: "put", in: "seen", key, meta: JSON.stringify(runs) }];
    if (sets.live.size <= SEEN_SETS_LIVE_MAX) return ops;
    const folded = [...sets.live].slice(0, sets.live.size - SETS_KEPT);
    sets.archive = sets.archive.with(folded, hourOf(coveredMs));
    for (const [name] of folded) {
      sets.live.delete(name);
      ops.push({ op: "delete", in: "seen", key: `${sender}/${name}` });
    }
    ops.push({ op: "put", in: "seen", key: archiveKey(sender), meta: sets.archive.text });
    return ops;
  }

  /** Takes back an `add` whose commit failed. */
  undo(sender: NodeId, epoch: string, address: string, counter: number, coveredMs: number): void {
    const runs = this.#bySender.get(sender)?.live.get(setName(epoch, address));
    if (runs !== undefined) removeCounter(runs, counter, hourOf(coveredMs));
  }

  #load(sender: NodeId): SenderSets {
    if (!this.#bySender.has(sender)) this.#quota.add(sender, sender, EARLIER_RUN, 0);
    return this.#setsOf(sender);
  }

  #setsOf(sender: NodeId): SenderSets {
    let sets = this.#bySender.get(sender);
    if (sets === undefined)
      this.#bySender.set(sender, (sets = { live: new Map(), archive: SeenArchive.empty }));
    return sets;
  }
}

/** The set, as the one used last; undefined when it is not among the live ones. */
function use({ live }: SenderSets, name: string): Runs | undefined {
  const runs = live.get(name);
  if (runs === undefined) return undefined;
  live.delete(name);
  live.set(name, runs);
  return runs;
}

const setName = (epoch: string, address: string): string => `${epoch}/${address}`;
/** No epoch: those are hex. */
export const archiveKey = (sender: NodeId): string => `${sender}/archive`;
