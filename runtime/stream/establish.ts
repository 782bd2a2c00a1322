/**
 * The handshake of an end-to-end session: Noise IK to the key that belongs to the far node's id, so that both ends are
 * proven and the keys are forward secret. Message 1 may be a replay: what it makes delivers nothing before the
 * initiator's first record. docs/protocol/streams.md "Handshake"
 */
import { createHmac } from "node:crypto";
import type { Random } from "@godwit/sdk";
import { asGodwitError } from "../kernel/errors.ts";
import type { NodeId } from "../kernel/ids.ts";
import { dhPublicKeyOf, nodeIdOfDh, type DhKey } from "../identity/keys.ts";
import { HandshakeState } from "../identity/noise.ts";
import { Writer } from "../wire/bytes.ts";
import { STREAM_VERSION, TOKEN_BYTES } from "./constants.ts";
import type { SessionFacts } from "./session-types.ts";
import { encodeAccept, encodeOpen } from "./wire.ts";

export interface HandshakeDeps {
  readonly self: NodeId;
  readonly network: string;
  readonly dh: DhKey;
  readonly goneKey: Uint8Array;
  readonly random: Random;
}

type Facts = Omit<SessionFacts, "header">;

/** Binds a session to this use, this network and both ends. */
const prologue = (network: string, initiator: NodeId, responder: NodeId): Uint8Array =>
  new Writer(128)
    .text("godwit stream")
    .u8(STREAM_VERSION)
    .text(network)
    .nodeId(initiator)
    .nodeId(responder)
    .finish();

/** What proves that the node which held `index` does not know it any more; `peer` learned it in the handshake. */
export const goneToken = (key: Uint8Array, index: number, peer: NodeId): Uint8Array =>
  new Uint8Array(
    createHmac("sha256", key)
      .update(new Writer(36).u32(index).nodeId(peer).finish())
      .digest()
      .subarray(0, TOKEN_BYTES),
  );

/** Our attempt at a session. */
export class Initiation {
  readonly localIndex: number;
  /** The payload that asks; repeated until it is answered. */
  readonly message: Uint8Array;
  readonly #remote: NodeId;
  readonly #handshake: HandshakeState;

  /** Throws GODWIT_ID_INVALID. */
  constructor(deps: HandshakeDeps, remote: NodeId, localIndex: number) {
    this.localIndex = localIndex;
    this.#remote = remote;
    this.#handshake = new HandshakeState({
      pattern: "IK",
      role: "initiator",
      prologue: prologue(deps.network, deps.self, remote),
      s: deps.dh,
      rs: dhPublicKeyOf(remote),
      random: deps.random,
    });
    const noise = this.#handshake.writeMessage(goneToken(deps.goneKey, localIndex, remote));
    this.message = encodeOpen({ index: localIndex, noise });
  }

  /** Reads an answer; undefined: a forged one, which must not end the attempt. */
  finish(remoteIndex: number, noise: Uint8Array): Facts | undefined {
    const attempt = this.#handshake.clone();
    const token = readMessage(attempt, noise);
    if (token === undefined) return undefined;
    const { send, receive } = attempt.split();
    return {
      remote: this.#remote,
      isInitiator: true,
      localIndex: this.localIndex,
      remoteIndex,
      sendKey: send,
      receiveKey: receive,
      goneToken: token,
    };
  }
}

/** Answers a message 1; undefined: it is forged, for another node, or its sender is not who the packet says. */
export function answerHandshake(
  deps: HandshakeDeps,
  source: NodeId,
  asked: { localIndex: number; remoteIndex: number; noise: Uint8Array },
): { facts: Facts; message: Uint8Array } | undefined {
  const handshake = new HandshakeState({
    pattern: "IK",
    role: "responder",
    prologue: prologue(deps.network, source, deps.self),
    s: deps.dh,
    random: deps.random,
  });
  const token = readMessage(handshake, asked.noise);
  if (token === undefined || !isKeyOf(handshake.remoteStatic, source)) return undefined;
  const noise = handshake.writeMessage(goneToken(deps.goneKey, asked.localIndex, source));
  const { send, receive } = handshake.split();
  return {
    facts: {
      remote: source,
      isInitiator: false,
      localIndex: asked.localIndex,
      remoteIndex: asked.remoteIndex,
      sendKey: send,
      receiveKey: receive,
      goneToken: token,
    },
    message: encodeAccept({ to: asked.remoteIndex, index: asked.localIndex, noise }),
  };
}

/** The token inside; undefined when the message does not authenticate. */
function readMessage(handshake: HandshakeState, noise: Uint8Array): Uint8Array | undefined {
  try {
    const payload = handshake.readMessage(noise);
    return payload.length === TOKEN_BYTES ? payload : undefined;
  } catch (error) {
    if (asGodwitError(error).kind === "protocol") return undefined;
    throw error;
  }
}

function isKeyOf(dhPublicKey: Uint8Array | undefined, id: NodeId): boolean {
  try {
    return dhPublicKey !== undefined && nodeIdOfDh(dhPublicKey) === id;
  } catch {
    return false;
  }
}
