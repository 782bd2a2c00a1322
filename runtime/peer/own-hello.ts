/** What this node says of itself at the start of a link, and how often. docs/protocol/frames.md "Hello". */
import type { Clock, Random } from "@godwit/sdk";
import { Backoff } from "../kernel/backoff.ts";
import { handshakeTiming, QUEUED_TIMEOUT_MS } from "../link/constants.ts";
import { Repeating } from "../link/repeating.ts";
import { isPaced, type Session } from "../link/types.ts";
import { PROTOCOL_VERSION_MAX, PROTOCOL_VERSION_MIN } from "../wire/constants.ts";
import { encodeHello } from "../wire/peer-messages.ts";

export interface OwnHello {
  readonly bootId: Uint8Array;
  /** Of the hellos from now on. */
  helloEpoch(): Uint8Array;
  ownRecord(): Uint8Array;
  /** The wall clock as neighbours are told it; undefined: not at all. */
  toldMs?(): number | undefined;
}

export const helloOf = (own: OwnHello): Uint8Array =>
  encodeHello({
    versionMin: PROTOCOL_VERSION_MIN,
    versionMax: PROTOCOL_VERSION_MAX,
    bootId: own.bootId,
    storeEpoch: own.helloEpoch(),
    record: own.ownRecord(),
    wallMs: own.toldMs?.(),
  });

/** A session that does not say hello in this time, or in that of its class's handshake if longer, is closed. */
const HELLO_TIMEOUT_MS = 10_000;

export function helloTimeoutMs(session: Session): number {
  const { linkClass, isCarried, answerMs } = session;
  const { timeoutMs } = handshakeTiming(linkClass, isCarried === true ? answerMs : 0);
  return Math.max(HELLO_TIMEOUT_MS, timeoutMs, isPaced(session) ? QUEUED_TIMEOUT_MS : 0);
}

export interface HelloDeps extends OwnHello {
  readonly clock: Clock;
  readonly random: Random;
}

/**
 * Says hello; over datagrams again until the answer, or anything else of a link, shows that it has come: the caller then calls what this answers.
 * `tooNarrow`: what the path carries turned out to be less while the far end has not heard it.
 */
export function sayHello(session: Session, deps: HelloDeps, tooNarrow: (bytes: number) => void): () => void {
  const { clock, random } = deps;
  const { resendFirstMs, resendCapMs } = handshakeTiming(session.linkClass);
  const backoff = new Backoff({ firstMs: resendFirstMs, capMs: resendCapMs }, random);
  const repeating = new Repeating({ clock, backoff, answerMs: () => session.answerMs ?? 0 });
  repeating.start((departure) => {
    const hello = helloOf(deps);
    if (hello.length > session.frameBytesMax || session.isReliable) repeating.stop();
    if (hello.length > session.frameBytesMax) return tooNarrow(hello.length);
    session.send(hello, departure);
    session.flush();
  });
  return () => repeating.stop();
}
