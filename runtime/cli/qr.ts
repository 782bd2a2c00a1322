/** A QR code in the half-block characters of a terminal: two rows of modules a line, dark on light whatever the colours. */
import { encode } from "uqr";

/** Modules of light around the code, as ISO/IEC 18004 asks. */
const QUIET = 4;
/** By what is dark: nothing, the lower module, the upper one, both. The terminal writes light on dark. */
const HALVES = ["█", "▀", "▄", " "] as const;

/** `isInverted`: for a terminal that writes dark on light. Letters of either case are one to the reader of a token. */
export function renderQr(text: string, isInverted = false): string {
  const { data } = encode(text.toUpperCase(), { ecc: "L", border: 0 });
  const size = data.length;
  const isDark = (row: number, column: number) =>
    (data[row - QUIET]?.[column - QUIET] ?? false) !== isInverted;
  let out = "";
  for (let row = 0; row < size + 2 * QUIET; row += 2) {
    for (let column = 0; column < size + 2 * QUIET; column++)
      out += HALVES[(isDark(row, column) ? 2 : 0) + (isDark(row + 1, column) ? 1 : 0)];
    out += "\n";
  }
  return out;
}
