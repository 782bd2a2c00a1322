/**
 * Packets and streams of the real agent (Debian's serf, 0.8.2-dev) as it put them on the wire: all are opened and understood, and what is written
 * here of their contents is the same to the byte. Append-only.
 */
import { describe, expect, test } from "bun:test";
import { Envelope } from "./envelope.ts";
import { Keyring, parseKey } from "./keyring.ts";
import {
  decodeAccusation,
  decodeAck,
  decodeAlive,
  decodePing,
  decodePushPull,
  encodeAck,
  encodeAlive,
  encodeDead,
  encodePing,
  encodeSuspect,
} from "./messages.ts";
import {
  decodeCoordinate,
  decodeIntent,
  decodeQuery,
  decodeQueryResponse,
  decodeRelay,
  decodeState,
  decodeTags,
  decodeUserEvent,
  encodeCoordinate,
  encodeIntent,
  encodeQuery,
  encodeQueryResponse,
  encodeRelay,
  encodeUserEvent,
} from "./serf-messages.ts";
import { MessageType, SerfType } from "./types.ts";
import vectors from "./vectors.json";

const LONG_NAME = "agent-with-a-name-of-over-thirty-one-bytes";

const envelopeOf = (key: string | null) =>
  new Envelope({
    keyring: key === null ? undefined : new Keyring([parseKey(key)!]),
    label: "",
    random: { bytes: (length) => new Uint8Array(length) },
  });

const nameOf = (message: Uint8Array): string =>
  message[0] === MessageType.user ? `8/${message[1]}` : String(message[0]);

/** As it would be written here. Undefined: there is nothing to compare. */
function again(message: Uint8Array): Uint8Array | undefined {
  const body = message.subarray(1);
  switch (message[0]) {
    case MessageType.ping:
      return encodePing(decodePing(body));
    case MessageType.ack: {
      const { seq, payload } = decodeAck(body);
      return encodeAck(seq, payload.length === 0 ? undefined : encodeCoordinate(decodeCoordinate(payload)));
    }
    case MessageType.alive:
      return encodeAlive(decodeAlive(body));
    case MessageType.suspect:
      return encodeSuspect(decodeAccusation(body));
    case MessageType.dead:
      return encodeDead(decodeAccusation(body));
    case MessageType.user:
      return Buffer.concat([message.subarray(0, 1), serfAgain(body)]);
    default:
      return undefined;
  }
}

function serfAgain(message: Uint8Array): Uint8Array {
  const body = message.subarray(1);
  switch (message[0]) {
    case SerfType.join:
    case SerfType.leave:
      return encodeIntent(decodeIntent(message[0], body));
    case SerfType.userEvent:
      return encodeUserEvent(decodeUserEvent(body));
    case SerfType.query:
      return encodeQuery(decodeQuery(body));
    case SerfType.queryResponse:
      return encodeQueryResponse(decodeQueryResponse(body));
    case SerfType.relay: {
      const relay = decodeRelay(body);
      return encodeRelay(relay.to, "gw", relay.body);
    }
    default:
      throw new Error(`no such message: ${message[0]}`);
  }
}

describe("packets", () => {
  for (const [index, { kind, key, what, types, hex }] of vectors.entries())
    if (what === "packet")
      test(`${index}: ${types}, ${kind}`, () => {
        const messages = envelopeOf(key).openPacket(Buffer.from(hex, "hex"));
        expect(messages.map(nameOf).join()).toBe(types);
        for (const message of messages) {
          const written = again(message);
          expect(written && normalised(written).toString("hex")).toBe(normalised(message).toString("hex"));
        }
      });
});

/** Empty bytes are nil in Go and an empty raw here: every member takes either. */
const normalised = (bytes: Uint8Array): Buffer =>
  Buffer.from(
    Buffer.from(bytes)
      .toString("latin1")
      .replaceAll(/\xa7Payload\xa0/g, "\xa7Payload\xc0")
      .replaceAll(/\xa4Zone\xa0/g, "\xa4Zone\xc0"),
    "latin1",
  );

test("streams, in one piece and byte by byte", () => {
  for (const { key, what, hex } of vectors) {
    if (what !== "stream") continue;
    const bytes = Buffer.from(hex, "hex");
    const whole = envelopeOf(key).streamReader(false).push(bytes)!;
    const reader = envelopeOf(key).streamReader(false);
    const last = [...bytes].reduce<Uint8Array | undefined>(
      (found, byte) => found ?? reader.push(Uint8Array.of(byte)),
      undefined,
    );
    expect(Buffer.from(last!).equals(whole)).toBe(true);
    const { nodes, userState, isJoin } = decodePushPull(whole, 100);
    expect(isJoin).toBe(true);
    expect(nodes.map(({ node }) => node).sort()).toEqual([LONG_NAME, "beta"]);
    for (const node of nodes) {
      expect(node.vsn).toEqual([1, 5, 2, 2, 5, 5]);
      expect(Object.fromEntries(decodeTags(node.meta))).toEqual({ role: "web", dc: "ü1" });
    }
    const state = decodeState(userState.subarray(1), 100);
    expect([...state.statusLTimes.keys()].sort()).toEqual([LONG_NAME, "beta"]);
  }
});

test("a changed byte of a sealed packet, and the wrong key, open nothing", () => {
  const sealed = vectors.find(({ kind, what }) => kind === "aes256" && what === "packet")!;
  const bytes = Buffer.from(sealed.hex, "hex");
  for (const at of [0, 5, 20, bytes.length - 1]) {
    const changed = Buffer.from(bytes);
    changed[at]! ^= 0x40;
    expect(() => envelopeOf(sealed.key).openPacket(changed)).toThrow("sealed");
  }
  const other = Buffer.alloc(32, 1).toString("base64");
  expect(() => envelopeOf(other).openPacket(bytes)).toThrow("sealed");
});
