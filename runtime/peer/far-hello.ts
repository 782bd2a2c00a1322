/** The first frame of a far end: its hello, or why there will be no link. docs/protocol/frames.md "Hello" */
import { godwitError } from "../kernel/errors.ts";
import type { NodeId } from "../kernel/ids.ts";
import type { Session } from "../link/types.ts";
import { FrameType, PROTOCOL_VERSION_MAX, PROTOCOL_VERSION_MIN } from "../wire/constants.ts";
import {
  decodeGoodbye,
  decodeHello,
  encodeGoodbye,
  GoodbyeReason,
  type Hello,
} from "../wire/peer-messages.ts";

/** Throws where there can be no link; the far end is told why. */
export function readHello(session: Session, bytes: Uint8Array, isBlocked: (id: NodeId) => boolean): Hello {
  if (bytes[0] === FrameType.goodbye) {
    throw godwitError(
      "GODWIT_LINK_CLOSED",
      `the far end refused the link: ${goodbyeName(decodeGoodbye(bytes))}`,
    );
  }
  const hello = decodeHello(bytes);
  if (isBlocked(session.remote)) {
    session.send(encodeGoodbye(GoodbyeReason.blocked));
    session.flush();
    throw godwitError("GODWIT_PEER_BLOCKED", "the operator blocked the node while it connected");
  }
  if (hello.versionMin > PROTOCOL_VERSION_MAX || hello.versionMax < PROTOCOL_VERSION_MIN) {
    session.send(encodeGoodbye(GoodbyeReason.version));
    session.flush();
    throw godwitError(
      "GODWIT_HANDSHAKE_FAILED",
      `the far end speaks protocol ${hello.versionMin} to ${hello.versionMax}, this node ${PROTOCOL_VERSION_MIN} to ${PROTOCOL_VERSION_MAX}: update the older one`,
    );
  }
  return hello;
}

export const goodbyeName = (code: number): string =>
  Object.entries(GoodbyeReason).find(([, value]) => value === code)?.[0] ?? `reason ${code}`;
