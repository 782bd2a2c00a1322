/**
 * The oracle of airtime: what every datagram on the air was for, by node and for the whole channel, and what was repeated before
 * its answer could come. It sees the plaintext of each record as the session seals it, so that a frame is known by what it is and
 * not by how long it is.
 */
import { decodeItems } from "../../../runtime/link/items.ts";
import type { DatagramSession } from "../../../runtime/link/datagram-session.ts";
import type { Session } from "../../../runtime/link/types.ts";
import { BundleKind, decodeBundleFrame, decodeChunk, decodeOffer } from "../../../runtime/wire/bundle.ts";
import { FRAME_BYTES_MAX, FrameType } from "../../../runtime/wire/constants.ts";
import { ControlKind } from "../../../runtime/link/constants.ts";
import type { Share, Transmission } from "./channel.ts";
import type { RadioPipe, Watcher } from "./port.ts";

/** What is on the air. All but the first two, and `foreign`, is control. */
export const kinds = [
  "mail",
  "receipts",
  "custody",
  "routing",
  "beacons",
  "handshakes",
  "membership",
  "other",
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

export class AirtimeLedger {
  /** By address, then by kind, ms. */
  readonly byNode = new Map<number, Map<string, number>>();
  readonly total = new Map<string, number>();
  readonly early: EarlyRepeat[] = [];
  /** Datagrams of pipes by kind of their largest part. */
  readonly frames = new Map<string, number>();
  readonly #nowMs: () => number;
  readonly #bundleKinds = new Map<string, Kind>();

  constructor(nowMs: () => number) {
    this.#nowMs = nowMs;
  }

  onSent({ frame, startMs, endMs }: Transmission): void {
    const own = this.byNode.get(frame.from) ?? new Map<string, number>();
    this.byNode.set(frame.from, own);
    for (const { kind, part } of frame.shares)
      for (const table of [own, this.total])
        table.set(kind, (table.get(kind) ?? 0) + part * (endMs - startMs));
  }

  /** Of one life. */
  newWatcher(node: number): LifeWatcher {
    return new LifeWatcher(node, this, this.#nowMs);
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
    if (type >= 0x30 && type <= 0x3f) return { kind: "custody", key: undefined };
    if (type >= 0x10 && type <= 0x1f) return { kind: "routing", key: undefined };
    if (type >= 0x40 && type <= 0x4f) return { kind: "membership", key: undefined };
    if (type <= 0x0f) return { kind: "handshakes", key: type === FrameType.hello ? "hello" : undefined };
    return { kind: "other", key: undefined };
  }

  #noteBundle(id: string, bundleKind: number): Kind {
    const kind =
      bundleKind === BundleKind.message ? "mail" : bundleKind === BundleKind.receipt ? "receipts" : "other";
    this.#bundleKinds.set(id, kind);
    return kind;
  }
}

export class LifeWatcher implements Watcher {
  readonly #node: number;
  readonly #ledger: AirtimeLedger;
  readonly #nowMs: () => number;
  /** Of the record that is being sealed. */
  #sealing: readonly Item[] | undefined;
  readonly #copies = new WeakMap<RadioPipe, Map<string, Copy>>();

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
      this.#sealing = this.#itemsOf(plaintext, isBare);
      try {
        seal(plaintext, isBare);
      } finally {
        this.#sealing = undefined;
      }
    };
  }

  written(pipe: RadioPipe, bytes: Uint8Array): { shares: readonly Share[]; left(): void } {
    const items = this.#sealing ?? [
      { known: { kind: "handshakes", key: `datagram ${Bun.hash(bytes)}` }, bytes: bytes.length } as const,
    ];
    const whole = items.reduce((sum, item) => sum + item.bytes, 0);
    const copies = this.#copies.get(pipe) ?? new Map<string, Copy>();
    this.#copies.set(pipe, copies);
    const keys = items.flatMap(({ known: { key } }) => (key === undefined ? [] : [key]));
    for (const key of keys) this.#note(pipe, copies, key);
    const first = items.reduce((most, item) => (item.bytes > most.bytes ? item : most));
    this.#ledger.frames.set(first.known.kind, (this.#ledger.frames.get(first.known.kind) ?? 0) + 1);
    return {
      shares: items.map(({ known: { kind }, bytes: part }) => ({ kind, part: part / whole })),
      left: () => {
        for (const key of keys) {
          const copy = copies.get(key)!;
          copy.waiting--;
          copy.leftAtMs = this.#nowMs();
        }
      },
    };
  }

  #note(pipe: RadioPipe, copies: Map<string, Copy>, key: string): void {
    const copy = copies.get(key) ?? { waiting: 0, leftAtMs: Number.NEGATIVE_INFINITY };
    copies.set(key, copy);
    const atMs = this.#nowMs();
    if (copy.waiting > 0)
      this.#ledger.early.push({ node: this.#node, what: key, because: "the first waits still", atMs });
    else if (atMs < copy.leftAtMs + pipe.answerMs)
      this.#ledger.early.push({ node: this.#node, what: key, because: "no answer could be there", atMs });
    copy.waiting++;
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
