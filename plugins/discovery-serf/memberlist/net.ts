/** What memberlist needs of sockets: messages to and from addresses, already out of their envelopes. `transport.ts` implements it. */
import type { At } from "../wire/messages.ts";

export interface Net {
  /** Bytes that the messages of one datagram may have together, two for the length of each included. */
  readonly room: number;
  /** One datagram. Borrowed. May be lost. `hasChecksum`: its receiver is known to take one. */
  packet(to: At, messages: readonly Uint8Array[], hasChecksum: boolean): void;
  /** Opens a stream, says that, and waits for one message. Rejects with GODWIT_DIAL_FAILED, also when there was none within the time. */
  ask(to: At, message: Uint8Array, timeoutMs: number): Promise<Uint8Array>;
  /** Opens a stream, says that, and closes it. Rejects as `ask` does. */
  tell(to: At, message: Uint8Array, timeoutMs: number): Promise<void>;
}

/** What comes in. Whatever these throw is counted as malformed. */
export interface NetHandlers {
  /** Bytes are borrowed. */
  packet(message: Uint8Array, from: At): void;
  /** The first message of a stream that somebody opened; what is answered is sent, then the stream is closed. */
  stream(message: Uint8Array, from: At): Uint8Array | undefined;
}
