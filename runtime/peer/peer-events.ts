/** What the peers tell their owner. Called synchronously, from the frame, timer or end of a link that it tells of. */
import type { NodeId } from "../kernel/ids.ts";
import type { Hello } from "../wire/peer-messages.ts";
import type { Link } from "./link.ts";
import type { Peer } from "./peer.ts";

export interface PeerEvents {
  /** First link of a neighbour's life. No frame of it was delivered yet. */
  up(peer: Peer, hello: Hello): void;
  /** Last link gone, or the neighbour restarted (then `up` follows with a new Peer). */
  down(peer: Peer, reason: string, isSilent: boolean): void;
  linkUp(peer: Peer, link: Link): void;
  /** One of several links died: frames on it may be lost. */
  linkDown(peer: Peer, link: Link, reason: string): void;
  /** The only link to a neighbour missed a first probe. */
  quiet?(peer: Peer): void;
  /** `isDoubted` of a neighbour has changed. */
  doubted?(peer: Peer): void;
  /** What the links of a neighbour are worth has changed. */
  measured(peer: Peer): void;
  /** Any frame that is not about the link itself. Borrowed. A throw closes the link as a protocol error. */
  frame(peer: Peer, type: number, bytes: Uint8Array): void;
  /** A neighbour runs on two machines at once. */
  double?(id: NodeId): void;
  /** What it acknowledged may be gone: its hello on a living link has another store epoch, which `peer` shows already. */
  storeLost?(peer: Peer): void;
  /** What its clock says, with a hello; only from who has it confirmed. */
  clock?(id: NodeId, wallMs: number): void;
  /** A record came with a hello; not verified. */
  record(id: NodeId, bytes: Uint8Array): void;
  /** A link drained and its lanes are empty again. */
  writable(peer: Peer): void;
}
