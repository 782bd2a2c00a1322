import { describe, expect, test } from "bun:test";
import fc from "fast-check";
import createNoiseC from "noise-c.wasm";
import { dhKeyFromSecret, generateDhKey } from "./keys.ts";
import { GodwitError } from "../kernel/errors.ts";
import { seededRandom } from "../kernel/random.ts";
import { CipherState, HandshakeState, type PatternName, type Role } from "./noise.ts";
import vectorFile from "./noise-vectors.json" with { type: "json" };

interface Vector {
  protocol_name: string;
  init_prologue: string;
  init_static: string;
  init_ephemeral: string;
  init_remote_static?: string;
  init_psks?: string[];
  resp_prologue: string;
  resp_static: string;
  resp_ephemeral: string;
  resp_psks?: string[];
  handshake_hash: string;
  messages: { payload: string; ciphertext: string }[];
}

const hex = (text: string) => new Uint8Array(Buffer.from(text, "hex"));
const toHex = (bytes: Uint8Array) => Buffer.from(bytes).toString("hex");
const random = seededRandom(77);

function stateOf(vector: Vector, role: Role): HandshakeState {
  const own = role === "initiator" ? "init" : "resp";
  const psk = vector[`${own}_psks`]?.[0];
  return new HandshakeState({
    pattern: vector.protocol_name.split("_")[1] as PatternName,
    role,
    prologue: hex(vector[`${own}_prologue`]),
    s: dhKeyFromSecret(hex(vector[`${own}_static`])),
    e: dhKeyFromSecret(hex(vector[`${own}_ephemeral`])),
    random,
    ...(role === "initiator" && vector.init_remote_static !== undefined
      ? { rs: hex(vector.init_remote_static) }
      : {}),
    ...(psk === undefined ? {} : { psk: hex(psk) }),
  });
}

describe("official vectors", () => {
  const vectors: Vector[] = vectorFile.vectors;

  test("all five patterns are there", () => {
    expect(vectors.map((vector) => vector.protocol_name.split("_")[1]!).sort()).toEqual([
      "IK",
      "IKpsk2",
      "XK",
      "XX",
      "XXpsk3",
    ]);
  });

  test.each(vectors.map((vector): [string, Vector] => [vector.protocol_name, vector]))("%s", (_, vector) => {
    const initiator = stateOf(vector, "initiator");
    const responder = stateOf(vector, "responder");
    const transport = new Map<HandshakeState, { send: CipherState; receive: CipherState }>();
    for (const [i, { payload, ciphertext }] of vector.messages.entries()) {
      const [from, to] = i % 2 === 0 ? [initiator, responder] : [responder, initiator];
      if (!initiator.isComplete) {
        const message = from.writeMessage(hex(payload));
        expect(toHex(message)).toBe(ciphertext);
        expect(toHex(to.readMessage(message))).toBe(payload);
        continue;
      }
      for (const state of [initiator, responder]) {
        if (transport.has(state)) continue;
        expect(toHex(state.hash)).toBe(vector.handshake_hash);
        const { send, receive } = state.split();
        transport.set(state, { send: new CipherState(send), receive: new CipherState(receive) });
      }
      const sealed = transport.get(from)!.send.encrypt(new Uint8Array(), hex(payload));
      expect(toHex(sealed)).toBe(ciphertext);
      expect(toHex(transport.get(to)!.receive.decrypt(new Uint8Array(), sealed))).toBe(payload);
    }
    expect(transport.size).toBe(2);
    expect(initiator.exportKey("a")).toEqual(responder.exportKey("a"));
    expect(initiator.exportKey("a")).not.toEqual(initiator.exportKey("b"));
  });
});

test.each(["initiator", "responder"] as const)("speaks XX with noise-c as the %s", async (role) => {
  const noiseC = await new Promise<NoiseC>((resolve) => createNoiseC(resolve));
  const { NOISE_ROLE_INITIATOR, NOISE_ROLE_RESPONDER } = noiseC.constants;
  const theirKey = generateDhKey(random);
  const theirs = noiseC.HandshakeState(
    "Noise_XX_25519_AESGCM_SHA256",
    role === "initiator" ? NOISE_ROLE_RESPONDER : NOISE_ROLE_INITIATOR,
  );
  const prologue = hex("0102030405");
  theirs.Initialize(prologue, theirKey.secret, null, null);
  const ourKey = generateDhKey(random);
  const ours = new HandshakeState({ pattern: "XX", role, prologue, s: ourKey, random });
  for (let i = 0; i < 3; i++) {
    const payload = new Uint8Array([i, i, 7]);
    if ((i % 2 === 0) === (role === "initiator"))
      expect(toHex(theirs.ReadMessage(ours.writeMessage(payload), true)!)).toBe(toHex(payload));
    else expect(toHex(ours.readMessage(theirs.WriteMessage(payload)))).toBe(toHex(payload));
  }
  expect(toHex(ours.remoteStatic!)).toBe(toHex(theirKey.publicKey));
  expect(toHex(theirs.GetRemotePublicKey()!)).toBe(toHex(ourKey.publicKey));
  expect(toHex(theirs.GetHandshakeHash())).toBe(toHex(ours.hash));
  const keys = ours.split();
  const [send, receive] = [new CipherState(keys.send), new CipherState(keys.receive)];
  const [theirSend, theirReceive] = theirs.Split();
  const none = new Uint8Array();
  for (let i = 0; i < 300; i += 100) {
    const text = new Uint8Array(i).fill(i);
    expect(toHex(theirReceive.DecryptWithAd(none, send.encrypt(none, text)))).toBe(toHex(text));
    expect(toHex(receive.decrypt(none, theirSend.EncryptWithAd(none, text)))).toBe(toHex(text));
  }
  theirSend.free();
  theirReceive.free();
});

describe("a handshake that was tampered with", () => {
  const pair = (pattern: PatternName, changes: { responderPrologue?: Uint8Array; psk?: Uint8Array } = {}) => {
    const [a, b] = [generateDhKey(random), generateDhKey(random)];
    const psk = new Uint8Array(32).fill(1);
    const common = { pattern, prologue: hex("00"), random };
    return [
      new HandshakeState({ ...common, role: "initiator", s: a, rs: b.publicKey, psk }),
      new HandshakeState({
        ...common,
        role: "responder",
        s: b,
        rs: a.publicKey,
        psk: changes.psk ?? psk,
        prologue: changes.responderPrologue ?? common.prologue,
      }),
    ] as const;
  };

  /** Runs to the end; which message failed, or -1. */
  function failingMessage(
    [initiator, responder]: readonly [HandshakeState, HandshakeState],
    bend: (message: Uint8Array, i: number) => void = () => {},
  ): number {
    for (let i = 0; !initiator.isComplete; i++) {
      const [from, to] = i % 2 === 0 ? [initiator, responder] : [responder, initiator];
      const message = from.writeMessage(Uint8Array.of(9));
      bend(message, i);
      try {
        to.readMessage(message);
      } catch (error) {
        expect((error as GodwitError).code).toBe("GODWIT_HANDSHAKE_FAILED");
        return i;
      }
    }
    return -1;
  }

  test("another prologue or psk fails where the pattern first authenticates", () => {
    expect(failingMessage(pair("IK"))).toBe(-1);
    expect(failingMessage(pair("IK", { responderPrologue: hex("01") }))).toBe(0);
    expect(failingMessage(pair("XX", { responderPrologue: hex("01") }))).toBe(1);
    expect(failingMessage(pair("IKpsk2", { psk: new Uint8Array(32) }))).toBe(1);
    // With a psk the ephemeral of message 1 is mixed into the key, but the psk itself only at the end of message 3.
    expect(failingMessage(pair("XXpsk3", { psk: new Uint8Array(32) }))).toBe(2);
  });

  test("any flipped bit of any message ends it", () => {
    fc.assert(
      fc.property(
        fc.constantFrom<PatternName>("IK", "XX", "XK", "IKpsk2", "XXpsk3"),
        fc.nat(2),
        fc.nat(10_000),
        (pattern, index, bit) => {
          const which = pattern.startsWith("IK") ? index % 2 : index;
          let bent = -1;
          const failed = failingMessage(pair(pattern), (message, i) => {
            if (i !== which) return;
            bent = bit % (message.length * 8);
            message[bent >> 3]! ^= 1 << (bent & 7);
          });
          // XX message 1 carries no tag, so it shows one message later.
          expect(failed).toBeGreaterThanOrEqual(which);
          expect(failed).toBeLessThanOrEqual(which + 1);
        },
      ),
      { numRuns: 60 },
    );
  });

  test("a clone takes a forged message without harm to the original", () => {
    const [initiator, responder] = pair("XX");
    responder.readMessage(initiator.writeMessage());
    const real = responder.writeMessage();
    const forged = real.slice();
    forged[40]! ^= 1;
    expect(() => initiator.clone().readMessage(forged)).toThrow(GodwitError);
    const reader = initiator.clone();
    reader.readMessage(real);
    responder.readMessage(reader.writeMessage());
    expect(responder.hash).toEqual(reader.hash);
    expect(initiator.isComplete).toBe(false);
  });

  test("truncated messages throw and never crash", () => {
    const [initiator] = pair("IK");
    const message = initiator.writeMessage();
    for (let length = 0; length < message.length; length++)
      expect(() => pair("IK")[1].readMessage(message.subarray(0, length))).toThrow(GodwitError);
  });
});
interface NoiseC {
  constants: { NOISE_ROLE_INITIATOR: number; NOISE_ROLE_RESPONDER: number };
  HandshakeState(name: string, role: number): NoiseCState;
}
interface NoiseCState {
  Initialize(prologue: Uint8Array, s: Uint8Array, rs: null, psk: null): void;
  WriteMessage(payload: Uint8Array): Uint8Array;
  ReadMessage(message: Uint8Array, payloadNeeded: boolean): Uint8Array | null;
  GetRemotePublicKey(): Uint8Array | null;
  GetHandshakeHash(): Uint8Array;
  Split(): [NoiseCCipher, NoiseCCipher];
}
interface NoiseCCipher {
  EncryptWithAd(ad: Uint8Array, plaintext: Uint8Array): Uint8Array;
  DecryptWithAd(ad: Uint8Array, ciphertext: Uint8Array): Uint8Array;
  free(): void;
}
