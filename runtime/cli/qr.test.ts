import { expect, test } from "bun:test";
import { encode } from "uqr";
import { renderQr } from "./qr.ts";

/** What a camera sees: for each character, whether its upper and its lower half are written on. */
const written: Readonly<Record<string, readonly [boolean, boolean]>> = {
  "█": [true, true],
  "▀": [true, false],
  "▄": [false, true],
  " ": [false, false],
};

test.each([
  ["light on dark", false],
  ["dark on light", true],
] as const)("%s: every module stands where it belongs, with its quiet zone", (_, isInverted) => {
  const { data } = encode("GODWIT1QYQS2AR9D3JH3L85VD0J5L2J6LXZTWYR860L4", { ecc: "L", border: 4 });
  const lines = renderQr("godwit1qyqs2ar9d3jh3l85vd0j5l2j6lxztwyr860l4", isInverted).split("\n").slice(0, -1);
  const seen = lines.flatMap((line) => {
    const cells = line.split("").map((char) => written[char]!);
    return [cells.map(([upper]) => upper), cells.map(([, lower]) => lower)];
  });
  const dark = seen.map((row) => row.map((isWritten) => isWritten === isInverted));
  expect(dark.slice(0, data.length)).toEqual(data);
  // An odd number of rows leaves half a line, which is light.
  expect(dark.slice(data.length).flat()).not.toContain(true);
});
