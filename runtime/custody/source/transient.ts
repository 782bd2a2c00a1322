/**
 * Messages now or never: sealed like others and handed to routing as one packet. In no box here, without receipt, and
 * nothing waits: what cannot leave at once is refused. docs/protocol/frames.md "Packet".
 */
import { STORE_EPOCH_BYTES } from "../../wire/peer-messages.ts";
import { godwitError } from "../../kernel/errors.ts";
import type { MessageId, NodeId } from "../../kernel/ids.ts";
import { compactStart, encodeCompact } from "../../wire/mail-compact.ts";
import { encodeInnerMessage, type InnerMessage, messageIdOf } from "../../wire/message.ts";
import { packetAssociated, PacketKind } from "../../wire/packet.ts";
import type { CustodyContext } from "../context.ts";
import type { Content } from "./order.ts";

/** Answers the id once it left this node. Throws GODWIT_NO_ROUTE, GODWIT_QUEUE_FULL, and what sealing throws. */
export function sendTransient(ctx: CustodyContext, destination: NodeId, content: Content): MessageId {
  const { self, random, clock, sealer, carrier } = ctx;
  // An epoch of its own for each: transient messages are deduplicated, but need no unbroken counters.
  const mailEpoch = random.bytes(STORE_EPOCH_BYTES);
  ctx.regard.wrote(destination);
  const { priority, subject, contentType, body } = content;
  const inner: InnerMessage = {
    mailEpoch,
    counter: 0,
    to: destination,
    createdAtMs: clock.wallMs(),
    machines: [],
    failoverDelayMs: 0,
    subject,
    contentType,
    body,
  };
  const compact = sealer.sessions?.compactTo(destination);
  const start = compact && compactStart(inner, { id: destination, ...compact, context: undefined });
  const plaintext = start === undefined ? encodeInnerMessage(inner) : encodeCompact(start, inner);
  const sealed = sealer.sealOnce(
    destination,
    plaintext,
    packetAssociated({ kind: PacketKind.transient, destination, source: self }),
    random.bytes(16),
  );
  switch (carrier.sendPacket(destination, PacketKind.transient, sealed, priority)) {
    case "sent":
      return messageIdOf(self, destination, mailEpoch, 0);
    case "no_room":
      throw godwitError(
        "GODWIT_QUEUE_FULL",
        "the way there is full or the message too large for it; send it without transient",
      );
    case "no_route":
      throw godwitError("GODWIT_NO_ROUTE", "no route there now; send it without transient and it will wait");
  }
}
