/**
 * The seam between a link and the peer above it. A session is an authenticated, encrypted, framed channel to one node
 * over one pipe. Two kinds exist: the real one (`session.ts`, Noise) and the simulator's, which passes the same suite.
 */
import type { GodwitError, LinkClass, PipeDirection } from "@godwit/sdk";
import type { Invite } from "../identity/invite.ts";
import type { Departure } from "../kernel/departure.ts";
import type { NodeId } from "../kernel/ids.ts";

export interface SessionHandlers {
  /** One whole frame of the far end. Borrowed: valid until the call returns. A throw closes the session as a protocol error. */
  frame(bytes: Uint8Array): void;
  /** Bytes came over the medium, whole frames or not; told after the frames among them. */
  bytes?(): void;
  /** After `send` returned false: there is room again. */
  drain(): void;
  /** Exactly once, last. No error when one end closed politely. */
  closed(error?: GodwitError): void;
}

export interface Session {
  /** Proven by the handshake. */
  readonly remote: NodeId;
  readonly direction: PipeDirection;
  /** Set: the dialling end proved no membership, only this invitation. Such a session enrols and does nothing else. */
  readonly invite?: Invite | undefined;
  readonly remoteEndpoint: string;
  readonly localEndpoint: string;
  /** Of the protocol inside the link, the highest that both ends speak. */
  readonly version: number;
  /** Names the network secret that both ends used; undefined in an open mesh. */
  readonly secretEpoch?: string | undefined;
  readonly linkClass: LinkClass;
  readonly rateBitsPerSecond: number;
  /** The medium is carried: it takes much, and answers come after hours or days. */
  readonly isCarried?: boolean;
  /**
   * From when something has left until an answer to it can be there at the earliest, ms: of a medium where what is sent waits for long, and how long an answer may
   * take of one that is carried. 0 or none: as soon as the class says. It follows how long things waited of late.
   */
  readonly answerMs?: number;
  /** The one that it speaks through, which whoever opened it holds; undefined: it is that itself. */
  readonly over?: Session;
  /** True over a stream pipe: frames arrive once and in order or the session closes. Over datagrams they may be lost or reordered, never duplicated. */
  readonly isReliable: boolean;
  /** Largest frame `send` takes, in bytes. Over datagrams it follows what the path carries. */
  readonly frameBytesMax: number;
  /** Bytes accepted and not yet with the operating system. */
  readonly bufferedBytes: number;
  /** Sent and received on the medium since the start, overhead included. */
  readonly bytesSent: number;
  readonly bytesReceived: number;
  /** Starts delivery; called exactly once. Frames that came earlier are kept (bounded by the pipe being paused). */
  open(handlers: SessionHandlers): void;
  /**
   * Sends one frame; borrowed until the call returns. Frames of one turn of the event loop share a record. False:
   * more than the high-water mark is buffered, stop until `drain` (the frame was taken all the same). After close: ignored.
   * `departure` is told when all of the frame has really left this node, or was dropped here.
   */
  send(frame: Uint8Array, departure?: Departure): boolean;
  /** Hands the open batch to the pipe now instead of at the end of this turn. */
  flush(): void;
  /** Stops reading from the medium while true, so that a slow consumer bounds memory. */
  pause(paused: boolean): void;
  /** Idempotent; the far end sees a polite close. */
  close(): void;
}

/** What is sent may wait for long before it leaves, and the session tells when it has: a radio with a budget of airtime, not a medium that is carried. */
export const isPaced = ({ isCarried, answerMs = 0 }: Pick<Session, "isCarried" | "answerMs">): boolean =>
  answerMs > 0 && isCarried !== true;
