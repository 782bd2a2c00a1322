/**
 * Frames of paths found on demand over slow links: kinds 3 to 5 of a route update. Pure. docs/protocol/slow.md "Paths on demand" draws
 * them. Decoders skip bytes behind the fields that they know.
 */
import type { NodeId } from "../kernel/ids.ts";
import { decodeError, Writer, type Reader } from "./bytes.ts";
import { FrameType, type Bottleneck } from "./constants.ts";
import {
  appendProof,
  kindReader,
  METRIC_INFINITE,
  MTU_MAX,
  PROOF_BYTES,
  readProof,
  UpdateKind,
  type PlaneRoute,
  type SeqnoProof,
} from "./route-messages.ts";

/** What the life of a path is told in, ms. */
export const PATH_LIFE_UNIT_MS = 120_000;

const NEEDS = 1;
const HOLDS = 2;
const PROOF = 1;
const CLASS_SHIFT = 4;

export interface PathQuestion {
  /** 16 bits; the answer to this one has the same. */
  readonly number: number;
  /** Links that it may still cross, this one among them, 0 to 255. */
  readonly hopsLeft: number;
  readonly destination: NodeId;
  /** The smallest sequence number that helps; undefined: any. */
  readonly needsSeqno: number | undefined;
  /** The asker holds a proof of it; undefined: of none. */
  readonly holdsSeqno: number | undefined;
}

export interface PathAnswer {
  readonly number: number;
  /** How long the sender will have the path, ms, from when it was asked; a multiple of the unit, at most 255 of them. */
  readonly lifeMs: number;
  readonly destination: NodeId;
  readonly route: PlaneRoute;
  /** Missing where the asker holds one that covers the route. Its byte fields share the frame's memory when decoded. */
  readonly proof: SeqnoProof | undefined;
}

export function encodePathQuestion(question: PathQuestion): Uint8Array {
  const { number, hopsLeft, destination, needsSeqno, holdsSeqno } = question;
  const writer = new Writer(50)
    .u8(FrameType.routeUpdate)
    .u8(UpdateKind.pathQuestion)
    .u8((needsSeqno === undefined ? 0 : NEEDS) | (holdsSeqno === undefined ? 0 : HOLDS))
    .u16(number)
    .u8(hopsLeft)
    .nodeId(destination);
  if (needsSeqno !== undefined) writer.u48(needsSeqno);
  if (holdsSeqno !== undefined) writer.u48(holdsSeqno);
  return writer.finish();
}

export function decodePathQuestion(frame: Uint8Array): PathQuestion {
  const reader = kindReader(frame, UpdateKind.pathQuestion);
  const flags = reader.u8();
  return {
    number: reader.u16(),
    hopsLeft: reader.u8(),
    destination: reader.nodeId(),
    needsSeqno: (flags & NEEDS) === 0 ? undefined : reader.u48(),
    holdsSeqno: (flags & HOLDS) === 0 ? undefined : reader.u48(),
  };
}

export function encodePathAnswer({ number, lifeMs, destination, route, proof }: PathAnswer): Uint8Array {
  const writer = new Writer(52 + PROOF_BYTES)
    .u8(FrameType.routeUpdate)
    .u8(UpdateKind.pathAnswer)
    .u8((route.bottleneck << CLASS_SHIFT) | (proof === undefined ? 0 : PROOF))
    .u16(number)
    .u8(Math.floor(lifeMs / PATH_LIFE_UNIT_MS))
    .nodeId(destination)
    .u48(route.seqno)
    .varint(route.metric)
    .varint(route.mtu);
  if (proof !== undefined) appendProof(writer, proof);
  return writer.finish();
}

/** Throws GODWIT_DECODE for an infinite metric, a class or an mtu that does not exist. */
export function decodePathAnswer(frame: Uint8Array): PathAnswer {
  const reader = kindReader(frame, UpdateKind.pathAnswer);
  const flags = reader.u8();
  const number = reader.u16();
  const lifeMs = reader.u8() * PATH_LIFE_UNIT_MS;
  const destination = reader.nodeId();
  const route = readRoute(reader, (flags >> CLASS_SHIFT) & 3);
  const proof = (flags & PROOF) === 0 ? undefined : readProof(reader);
  return { number, lifeMs, destination, route, proof };
}

function readRoute(reader: Reader, bottleneck: number): PlaneRoute {
  if (bottleneck === 3) throw decodeError("path has an unknown bottleneck class");
  const seqno = reader.u48();
  const metric = reader.varint();
  const mtu = reader.varint();
  if (metric >= METRIC_INFINITE) throw decodeError("path has an infinite metric");
  if (mtu > MTU_MAX) throw decodeError(`mtu ${mtu} is above ${MTU_MAX}`);
  return { seqno, metric, mtu, bottleneck: bottleneck as Bottleneck };
}

/** The sender has no path there any more. */
export const encodePathGone = (destination: NodeId): Uint8Array =>
  new Writer(34).u8(FrameType.routeUpdate).u8(UpdateKind.pathGone).nodeId(destination).finish();

export const decodePathGone = (frame: Uint8Array): NodeId => kindReader(frame, UpdateKind.pathGone).nodeId();
