import { expect, test } from "bun:test";
import { formatHex } from "../kernel/ids.ts";
import {
  decodeObserved,
  decodePunch,
  encodeObserved,
  encodePunch,
  isCallable,
  PUNCH_ENDPOINTS_MAX,
  PUNCH_NONCE_BYTES,
  PunchStep,
} from "./punch.ts";

test("golden bytes", () => {
  expect(formatHex(encodeObserved("udp://192.0.2.1:4861"))).toBe(
    "60147564703a2f2f3139322e302e322e313a34383631",
  );
  const punch = { step: PunchStep.call, nonce: new Uint8Array(8).fill(7), endpoints: ["udp://192.0.2.1:1"] };
  expect(formatHex(encodePunch(punch))).toBe("01070707070707070701117564703a2f2f3139322e302e322e313a31");
});

test("what is encoded is read again, the signature beside it", () => {
  const punch = {
    step: PunchStep.answer,
    nonce: new Uint8Array(8).fill(1),
    endpoints: ["udp://192.0.2.1:4861", "udp://[2001:db8::1]:4861"],
  };
  const body = encodePunch(punch);
  const found = decodePunch(Buffer.concat([body, new Uint8Array(64).fill(9)]));
  expect(found).toMatchObject({ step: punch.step, endpoints: punch.endpoints });
  expect([found.body.length, found.signature.length]).toEqual([body.length, 64]);
  expect(decodeObserved(encodeObserved("udp://10.0.0.1:5"))).toBe("udp://10.0.0.1:5");
});

test("nobody is sent to loopback, a group, everybody, a name or another transport", () => {
  for (const good of [
    "udp://192.0.2.1:1",
    "udp://10.0.0.1:65535",
    "udp://[fd00::1]:5",
    "udp://[2001:db8::1]:5",
  ])
    expect([good, isCallable(good)]).toEqual([good, true]);
  for (const bad of [
    "tcp://192.0.2.1:1",
    "udp://localhost:1",
    "udp://127.0.0.1:1",
    "udp://0.0.0.0:1",
    "udp://224.0.0.1:1",
    "udp://255.255.255.255:1",
    "udp://169.254.1.1:1",
    "udp://192.0.2.1:0",
    "udp://192.0.2.1:65536",
    "udp://192.0.2.256:1",
    "udp://[::1]:1",
    "udp://[::]:1",
    "udp://[fe80::1]:1",
    "udp://[ff02::1]:1",
    "udp://[::ffff:127.0.0.1]:1",
  ])
    expect([bad, isCallable(bad)]).toEqual([bad, false]);
  expect(() => decodeObserved(encodeObserved("udp://127.0.0.1:53"))).toThrow("may not be called");
});

test("a punch has at most four endpoints", () => {
  const endpoints = (count: number) => Array.from({ length: count }, (_, n) => `udp://192.0.2.${n + 1}:53`);
  const encoded = (count: number) => {
    const body = encodePunch({
      step: PunchStep.call,
      nonce: new Uint8Array(PUNCH_NONCE_BYTES),
      endpoints: endpoints(count),
    });
    return new Uint8Array([...body, ...new Uint8Array(64)]);
  };
  expect(decodePunch(encoded(PUNCH_ENDPOINTS_MAX)).endpoints).toHaveLength(PUNCH_ENDPOINTS_MAX);
  expect(() => decodePunch(encoded(PUNCH_ENDPOINTS_MAX + 1))).toThrow("5 endpoints");
});
