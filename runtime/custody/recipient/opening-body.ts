/**
 * A large message that is opened while it comes: each segment once, as soon as it is whole, and nothing of it kept but its head. So nothing is read
 * back when the last of it is here. Must never answer before every segment was opened; what was opened is still nothing to anybody before the
 * bundle's id holds, which whoever brings the bytes sees to. docs/protocol/delivery.md "Large bundles".
 */
import { assert } from "../../kernel/errors.ts";
import type { NodeId } from "../../kernel/ids.ts";
import { encodeBundleHeader, type BundleHeader } from "../../wire/bundle.ts";
import { decodeMail } from "../../wire/mail-compact.ts";
import type { InnerMessage } from "../../wire/message.ts";
import { namedSession } from "../../wire/sealed.ts";
import type {
  CustodyContext,
  Directory,
  Opened,
  OpenedBody,
  OpeningBody,
  SegmentOpening,
  SessionRoots,
} from "../context.ts";

type Opening = SegmentOpening & Opened;

/** The message that was opened here, with what it left out. Throws GODWIT_DECODE. */
export const decodeOpened = (
  { self, directory }: Pick<CustodyContext, "self" | "directory">,
  plaintext: Uint8Array,
  { session }: Opened,
): InnerMessage =>
  decodeMail(plaintext, {
    id: self,
    callsign: session?.callsign,
    context: session?.context,
    machinesAt: (address) => machinesAt(directory, self, address),
  });

/** Of the location of that address, this node first. */
function machinesAt(directory: Directory, self: NodeId, address: string): readonly NodeId[] {
  try {
    const meant = directory.resolve(address, true);
    return [self, ...(meant.kind === "nodes" ? meant.nodes.filter((node) => node !== self) : [])];
  } catch {
    return [self]; // what its sender wrote is no address
  }
}

export class SegmentsOpening implements OpeningBody {
  readonly #ctx: Pick<CustodyContext, "self" | "sealer" | "directory">;
  readonly #roots: SessionRoots;
  readonly #header: BundleHeader;
  readonly #sealedBytes: number;
  /** Undefined before the first bytes; null: it is not sealed in segments. */
  #opening: Opening | null | undefined;
  #index = 0;
  /** The beginning of a segment of which the rest comes with the next bytes. */
  #partial = new Uint8Array(0);
  #partialBytes = 0;
  #inner: InnerMessage | undefined;
  /** Plaintext before the body. */
  #before = 0;
  #failure: { readonly error: unknown } | undefined;
  #namedSession: string | undefined;

  constructor(
    ctx: Pick<CustodyContext, "self" | "sealer" | "directory">,
    roots: SessionRoots,
    header: BundleHeader,
    sealedBytes: number,
  ) {
    this.#ctx = ctx;
    this.#roots = roots;
    this.#header = header;
    this.#sealedBytes = sealedBytes;
  }

  get namedSession(): string | undefined {
    return this.#namedSession;
  }

  take(bytes: Uint8Array): void {
    if (this.#opening === null || this.#failure !== undefined) return;
    try {
      this.#take(this.#opening === undefined ? this.#begin(bytes) : bytes);
    } catch (error) {
      this.#failure = { error };
    }
  }

  opened(): OpenedBody | undefined {
    if (this.#failure !== undefined) throw this.#failure.error;
    const opening = this.#opening;
    if (opening === null || opening === undefined) return undefined;
    const { plainBytes, segmentBytes, key, openingBytes, forwardSecret, session } = opening;
    assert(this.#index * segmentBytes >= plainBytes, "all of a message has come before it is opened");
    const opened = { plainBytes, key, openingBytes, forwardSecret, session };
    return { inner: this.#inner!, before: this.#before, ...opened };
  }

  /** What follows the opening. */
  #begin(bytes: Uint8Array): Uint8Array {
    const { source } = this.#header;
    const associated = encodeBundleHeader(this.#header);
    this.#namedSession = namedSession(bytes);
    this.#opening =
      this.#ctx.sealer.openInSegments?.(source, bytes, this.#sealedBytes, associated, this.#roots) ?? null;
    if (this.#opening === null) return bytes.subarray(bytes.length);
    this.#partial = new Uint8Array(this.#opening.segmentBytes + this.#opening.tagBytes);
    return bytes.subarray(this.#opening.openingBytes);
  }

  #take(bytes: Uint8Array): void {
    for (let at = 0; at < bytes.length;) {
      const size = this.#segmentBytes();
      const missing = size - this.#partialBytes;
      const part = bytes.subarray(at, at + missing);
      at += part.length;
      if (part.length === size) this.#open(part);
      else {
        this.#partial.set(part, this.#partialBytes);
        this.#partialBytes += part.length;
        if (this.#partialBytes === size) this.#open(this.#partial.subarray(0, size));
      }
    }
  }

  /** Sealed bytes of the one that comes now. */
  #segmentBytes(): number {
    const { segmentBytes, tagBytes, plainBytes } = this.#opening!;
    return Math.min(segmentBytes, plainBytes - this.#index * segmentBytes) + tagBytes;
  }

  #open(sealed: Uint8Array): void {
    const plain = this.#opening!.segment(this.#index++, sealed);
    this.#partialBytes = 0;
    if (this.#inner !== undefined) return;
    this.#inner = decodeOpened(this.#ctx, plain, this.#opening!);
    this.#before = plain.length - this.#inner.body.length;
  }
}
