/** What this node says of itself at the start of a link, as of now. docs/protocol/frames.md "Hello". */
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
