import { expect, test } from "bun:test";
import { decideClock, encodeSntpRequest, isBelievable, parseSavedClock, readSntpAnswer } from "./time.ts";

const BUILT = Date.UTC(2026, 10, 1);
const DAY = 86_400_000;

test.each([
  ["a board in 1970, first boot", 5_000, undefined, { wallMs: BUILT, source: "floor", isSet: true }],
  [
    "a board in 1970 that saved its time",
    5_000,
    BUILT + DAY,
    { wallMs: BUILT + DAY, source: "floor", isSet: true },
  ],
  [
    "a clock of its own",
    BUILT + 2 * DAY,
    BUILT + DAY,
    { wallMs: BUILT + 2 * DAY, source: "hardware", isSet: false },
  ],
  [
    "a clock that stood while the machine was off",
    BUILT + DAY,
    BUILT + 2 * DAY,
    { wallMs: BUILT + 2 * DAY, source: "floor", isSet: true },
  ],
  ["a saved time before the image", 5_000, BUILT - DAY, { wallMs: BUILT, source: "floor", isSet: true }],
  [
    "a saved time that is nonsense",
    5_000,
    BUILT + 4_000 * DAY,
    { wallMs: BUILT, source: "floor", isSet: true },
  ],
  [
    "a clock in 2099",
    Date.UTC(2099, 0, 1),
    BUILT + DAY,
    { wallMs: BUILT + DAY, source: "floor", isSet: true },
  ],
  ["exactly the floor", BUILT, undefined, { wallMs: BUILT, source: "hardware", isSet: false }],
] as const)("%s", (_name, now, saved, wanted) => {
  expect(decideClock(now, BUILT, saved)).toEqual(wanted);
});

test("a server's word has bounds", () => {
  expect(isBelievable(BUILT, BUILT)).toBe(true);
  expect(isBelievable(BUILT - 1, BUILT)).toBe(false);
  expect(isBelievable(Date.UTC(2104, 0, 1), BUILT)).toBe(false);
});

test("the saved clock", () => {
  expect(parseSavedClock("1793491200000\n")).toBe(1_793_491_200_000);
  for (const text of ["", "\n", "-1", "1e12", "1793491200000 ", "99999999999999999", "0x0"])
    expect(parseSavedClock(text)).toBeUndefined();
});

const nonce = Uint8Array.of(1, 2, 3, 4, 5, 6, 7, 8);

/** As chrony 4.3 answered `encodeSntpRequest(01..08)` on 2026-11-25: a captured answer, not one of ours. */
const CAPTURED =
  "240500e600000000000000007f7f0101eeb1bd1d65db9f670102030405060708eeb1bd1ea913374feeb1bd1eaa0dddb6";
/** When it arrived, by the clock that the server told. */
const CAPTURED_AT_MS = 1_795_636_894_665;

test("a captured answer", () => {
  const captured = Uint8Array.from(Buffer.from(CAPTURED, "hex"));
  expect(Math.abs(readSntpAnswer(captured, nonce, 2)! - CAPTURED_AT_MS)).toBeLessThan(3);
});

test("the request says nothing but the nonce", () => {
  const bytes = encodeSntpRequest(nonce);
  expect(Buffer.from(bytes).toString("hex")).toBe(`23${"00".repeat(39)}0102030405060708`);
});

function answer(change: (view: DataView, bytes: Uint8Array) => void = () => {}): Uint8Array {
  const bytes = new Uint8Array(48);
  const view = new DataView(bytes.buffer);
  bytes.set([0x24, 2]);
  bytes.set(nonce, 24);
  view.setUint32(32, 4_000_000_000);
  view.setUint32(40, 4_000_000_000);
  view.setUint32(44, 0x8000_0000);
  change(view, bytes);
  return bytes;
}

test("half of the way back is added, the server's own time left out", () => {
  const sentMs = (4_000_000_000 - 2_208_988_800) * 1_000 + 500;
  // 500 ms of the 900 are the server's.
  expect(readSntpAnswer(answer(), nonce, 900)).toBe(sentMs + 200);
});

test("2036 is no end", () => {
  const bytes = answer((view) => {
    view.setUint32(32, 100);
    view.setUint32(40, 100);
    view.setUint32(44, 0);
  });
  expect(new Date(readSntpAnswer(bytes, nonce, 0)!).getUTCFullYear()).toBe(2036);
});

test("what is no answer", () => {
  const bad: [string, (view: DataView, bytes: Uint8Array) => void][] = [
    ["a server that does not know", (_view, bytes) => (bytes[0] = 0xe4)],
    ["a client", (_view, bytes) => (bytes[0] = 0x23)],
    ["a kiss of death", (_view, bytes) => (bytes[1] = 0)],
    ["stratum 16", (_view, bytes) => (bytes[1] = 16)],
    ["for another question", (_view, bytes) => (bytes[25] = 99)],
    ["no time", (view) => view.setUint32(40, 0)],
    ["a time before 1970", (view) => view.setUint32(40, 2_200_000_000)],
  ];
  for (const [, change] of bad) expect(readSntpAnswer(answer(change), nonce, 1)).toBeUndefined();
  expect(readSntpAnswer(answer().subarray(0, 47), nonce, 1)).toBeUndefined();
});
