/**
 * The oracle of airtime: what every datagram on the air was for, by node and for the whole channel, and what was repeated before
 * its answer could come. It sees the plaintext of each record as the session seals it, so that a frame is known by what it is and
 * not by how long it is.
 */
import { BoundedMap } from "@godwit/sdk/bounded";
import { formatHex } from "../../../runtime/kernel/ids.ts";
import { decodeItems } from "../../../runtime/link/items.ts";
import type { DatagramSession } from "../../../runtime/link/datagram-session.ts";
import type { Session } from "../../../runtime/link/types.ts";
import { BundleKind, decodeBundleFrame, decodeChunk, decodeOffer } from "../../../runtime/wire/bundle.ts";
import { decodeCompactBundle, isCompactBundle } from "../../../runtime/wire/compact.ts";
import { FRAME_BYTES_MAX, FrameType } from "../../../runtime/wire/constants.ts";
import { ControlKind } from "../../../runtime/link/constants.ts";
import type { Frame, Share } from "./channel.ts";
import type { Pipe } from "@godwit/sdk";

/** What is on the air. Mail, receipts and custody, what devices say of their own accord, and `foreign` are no control. */
export const kinds = [
  "mail",
  "receipts",
  "custody",
  "routing",
  "beacons",
  "handshakes",
  "membership",
  "other",
  "device",
  "foreign",
] as const;
export type Kind = (typeof kinds)[number];

const control: ReadonlySet<string> = new Set(["routing", "beacons", "handshakes", "membership", "other"]);
export const isControl = (kind: string): boolean => control.has(kind);

/** A frame's kind, and what is the same in each copy of it. */
export interface Known {
  readonly kind: Kind;
  readonly key: string | undefined;
}

/** Copies of one thing on one pipe. */
interface Copy {
  waiting: number;
  leftAtMs: number;
}

/** A copy that was written too soon. */
export interface EarlyRepeat {
  readonly node: number;
  readonly what: string;
  readonly because: "the first waits still" | "no answer could be there";
  readonly atMs: number;
}

interface Item {
  readonly known: Known;
  readonly bytes: number;
}

/** Of whatever medium. */
interface Sent {
  readonly frame: Pick<Frame, "from" | "shares">;
  readonly startMs: number;
  readonly endMs: number;
}

/** What a pipe tells of itself. */
type Watched = Pick<Pipe, "answerMs">;

/** Who watches what is written, and says what it is. */
export interface Watcher {
  /** Called within `write`, before the datagram waits. */
  written(pipe: Watched, bytes: Uint8Array): { readonly shares: readonly Share[]; left(): void };
}

export class AirtimeLedger {
  /** By address, then by kind, ms. */
  readonly byNode = new Map<number, Map<string, number>>();
  readonly total = new Map<string, number>();
  /** What the average listener hears, its own among it: the use of the channel where not all are in earshot of all. */
  readonly heard = new Map<string, number>();
  readonly early: EarlyRepeat[] = [];
  /** Datagrams of pipes by kind of their largest part. */
  readonly frames = new Map<string, number>();
  readonly #nowMs: () => number;
  readonly #bundleKinds = new Map<string, Kind>();

  constructor(nowMs: () => number) {
    this.#nowMs = nowMs;
  }

  /** `reach`: which part of all listeners it keeps from talking, 0 to 1. */
  onSent({ frame, startMs, endMs }: Sent, reach: number): void {
    const own = this.byNode.get(frame.from) ?? new Map<string, number>();
    this.byNode.set(frame.from, own);
    for (const { kind, part } of frame.shares) {
      const ms = part * (endMs - startMs);
      for (const table of [own, this.total]) table.set(kind, (table.get(kind) ?? 0) + ms);
      this.heard.set(kind, (this.heard.get(kind) ?? 0) + ms * reach);
    }
  }

  /** Of one life. */
  newWatcher(node: number): LifeWatcher {
    return new LifeWatcher(node, this, this.#nowMs);
  }

  /** One datagram was written. */
  count(items: readonly Item[]): void {
    const { kind } = items.reduce((most, item) => (item.bytes > most.bytes ? item : most)).known;
    this.frames.set(kind, (this.frames.get(kind) ?? 0) + 1);
  }

  classify(frame: Uint8Array): Known {
    const type = frame[0]!;
    if (type === FrameType.bundle) {
      const { bundle } = decodeBundleFrame(frame);
      return { kind: this.#noteBundle(bundle.id, bundle.header.kind), key: `bundle ${bundle.id}` };
    }
    if (type === FrameType.offer) {
      const { id, header } = decodeOffer(frame);
      this.#noteBundle(id, header.kind);
      return { kind: "custody", key: `offer ${id}` };
    }
    if (type === FrameType.chunk) {
      const { id, offset } = decodeChunk(frame);
      return { kind: this.#bundleKinds.get(id) ?? "other", key: `chunk ${id} ${offset}` };
    }
    if (isCompactBundle(type)) {
      const { kind, check, rest } = decodeCompactBundle(frame);
      // Sent again it may need a longer check.
      return { kind: kindOf(kind), key: `bundle ${formatHex(check.subarray(0, 2))} ${Bun.hash(rest)}` };
    }
    if (type === FrameType.compactHello) return { kind: "handshakes", key: "hello short" };
    if (type === FrameType.helloWanted) return { kind: "handshakes", key: undefined };
    if (type >= FrameType.compactAck && type <= FrameType.compactUnreadable)
      return { kind: "custody", key: undefined };
    if (type >= 0x30 && type <= 0x3f) return { kind: "custody", key: undefined };
    if (type >= 0x10 && type <= 0x1f) return { kind: "routing", key: undefined };
    if (type >= 0x40 && type <= 0x4f) return { kind: "membership", key: undefined };
    if (type <= 0x0f) return { kind: "handshakes", key: type === FrameType.hello ? "hello" : undefined };
    return { kind: "other", key: undefined };
  }

  #noteBundle(id: string, bundleKind: number): Kind {
    const kind = kindOf(bundleKind);
    this.#bundleKinds.set(id, kind);
    return kind;
  }
}

/** One record while it is sealed: in one datagram or in several. */
interface Sealing {
  readonly items: readonly Item[];
  isNoted: boolean;
  /** Its datagrams that wait. */
  waiting: number;
}

/** Of one pipe. */
interface Seen {
  readonly copies: Map<string, Copy>;
  /** What datagrams were for, by their bytes: pieces of a record come again as they were. */
  readonly datagrams: BoundedMap<string, readonly Item[]>;
}

/** Datagrams of a pipe whose bytes are known again. */
const DATAGRAMS_MAX = 512;

const kindOf = (kind: number): Kind =>
  kind === BundleKind.message ? "mail" : kind === BundleKind.receipt ? "receipts" : "other";

export class LifeWatcher implements Watcher {
  readonly #node: number;
  readonly #ledger: AirtimeLedger;
  readonly #nowMs: () => number;
  #sealing: Sealing | undefined;
  readonly #seen = new WeakMap<Watched, Seen>();

  constructor(node: number, ledger: AirtimeLedger, nowMs: () => number) {
    this.#node = node;
    this.#ledger = ledger;
    this.#nowMs = nowMs;
  }

  /** From now on what a session seals is known. What it wrote before belongs to its handshake. */
  watch(session: Session): void {
    const watched = session as DatagramSession;
    const seal = watched["seal"].bind(watched);
    watched["seal"] = (plaintext: Uint8Array, isBare: boolean) => {
      this.#sealing = { items: this.#itemsOf(plaintext, isBare), isNoted: false, waiting: 0 };
      try {
        seal(plaintext, isBare);
      } finally {
        this.#sealing = undefined;
      }
    };
  }

  written(pipe: Watched, bytes: Uint8Array): { shares: readonly Share[]; left(): void } {
    const seen = this.#seenOn(pipe);
    const name = `datagram ${Bun.hash(bytes)}`;
    const sealing = this.#sealing;
    const items = sealing?.items ?? seen.datagrams.get(name) ?? handshakeOf(bytes);
    seen.datagrams.set(name, items);
    // The same bytes again are a copy of the datagram; what a record holds is a copy of that, however many datagrams it takes.
    const ofRecord = sealing === undefined ? [] : keysOf(sealing.items);
    this.#note(pipe, seen, name);
    if (sealing?.isNoted === false) for (const key of ofRecord) this.#note(pipe, seen, key);
    if (sealing !== undefined) {
      sealing.isNoted = true;
      sealing.waiting++;
    }
    this.#ledger.count(items);
    const whole = items.reduce((sum, item) => sum + item.bytes, 0);
    return {
      shares: items.map(({ known: { kind }, bytes: part }) => ({ kind, part: part / whole })),
      left: () => {
        this.#left(seen, name);
        if (sealing !== undefined && --sealing.waiting === 0)
          for (const key of ofRecord) this.#left(seen, key);
      },
    };
  }

  #seenOn(pipe: Watched): Seen {
    let seen = this.#seen.get(pipe);
    if (seen === undefined) {
      const datagrams = new BoundedMap<string, readonly Item[]>({
        name: "datagrams of a pipe",
        max: DATAGRAMS_MAX,
      });
      this.#seen.set(pipe, (seen = { copies: new Map(), datagrams }));
    }
    return seen;
  }

  #note({ answerMs = 0 }: Watched, { copies }: Seen, key: string): void {
    const copy = copies.get(key) ?? { waiting: 0, leftAtMs: Number.NEGATIVE_INFINITY };
    copies.set(key, copy);
    const atMs = this.#nowMs();
    if (copy.waiting > 0)
      this.#ledger.early.push({ node: this.#node, what: key, because: "the first waits still", atMs });
    else if (atMs < copy.leftAtMs + answerMs)
      this.#ledger.early.push({ node: this.#node, what: key, because: "no answer could be there", atMs });
    copy.waiting++;
  }

  #left({ copies }: Seen, key: string): void {
    const copy = copies.get(key)!;
    copy.waiting--;
    copy.leftAtMs = this.#nowMs();
  }

  #itemsOf(plaintext: Uint8Array, isBare: boolean): Item[] {
    const items: Item[] = [];
    const onFrame = (frame: Uint8Array): boolean => {
      items.push({ known: this.#ledger.classify(frame), bytes: frame.length });
      return true;
    };
    const onControl = (kind: number, body: Uint8Array): boolean => {
      const key = kind === ControlKind.close ? undefined : `control ${kind} ${Bun.hash(body)}`;
      items.push({ known: { kind: "handshakes", key }, bytes: 3 + body.length });
      return true;
    };
    if (isBare) onFrame(plaintext);
    else decodeItems(plaintext, FRAME_BYTES_MAX, { onFrame, onControl });
    // An empty record answers a confirm.
    return items.length > 0 ? items : [{ known: { kind: "handshakes", key: undefined }, bytes: 1 }];
  }
}

const handshakeOf = (bytes: Uint8Array): readonly Item[] => [
  { known: { kind: "handshakes", key: undefined }, bytes: bytes.length },
];

const keysOf = (items: readonly Item[]): string[] => [
  ...new Set(items.flatMap(({ known: { key } }) => (key === undefined ? [] : [key]))),
];
