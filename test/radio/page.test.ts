/** The figures of docs/radio.md are what the formulas say that Godwit goes by. */
import { expect, test } from "bun:test";
import { frameMs } from "../../plugins/service-radio/lora.ts";
import {
  packetBytes,
  presetNames,
  presetNumber,
  presetOf,
  regionNames,
  regionNumber,
  regionOf,
} from "../../plugins/service-radio/modem.ts";
import { packetBytesOf } from "../../plugins/transport-meshtastic/wire.ts";
import { readPage } from "../../scripts/pages.ts";

const page = readPage("docs/radio.md");
/** docs/protocol/slow.md, "Sizes", over one link: a message in a session with 100 bytes of text, and an ack. */
const TELEX_BYTES = 43 + 100;
const ACK_BYTES = 15;
const PORT = 413;
const SHARES = [0.01, 0.1] as const;
const HOUR_MS = 3_600_000;

/** Rows below the heading row that begins so, as trimmed cells. */
function rowsOf(head: string, text = page): string[][] {
  const lines = text.split("\n");
  const at = lines.findIndex((line) => line.startsWith(`| ${head} `));
  const rows: string[][] = [];
  for (const line of lines.slice(at + 2)) {
    if (!line.startsWith("|")) break;
    rows.push(
      line
        .split("|")
        .slice(1, -1)
        .map((cell) => cell.trim()),
    );
  }
  return rows;
}

test("the bytes are those of the table of sizes", () => {
  const [links, message, , , , ack] = rowsOf("links", readPage("docs/protocol/slow.md"))[0]!.map(Number);
  expect(links).toBe(1);
  expect([message! + 100, ack]).toEqual([TELEX_BYTES, ACK_BYTES]);
});

test("every preset has its row, and what an hour carries follows from its airtime", () => {
  const airtimeMs = (preset: string, bytes: number) => {
    const additions = { hasSignatures: true, hasPkc: true };
    const modem = presetOf(presetNumber(preset)!)!;
    return frameMs(modem, packetBytes(packetBytesOf(bytes), PORT, "one", additions));
  };
  const wanted = presetNames().map((preset) => {
    const ms = airtimeMs(preset, TELEX_BYTES) + airtimeMs(preset, ACK_BYTES);
    return [
      preset,
      (ms / 1_000).toFixed(2),
      ...SHARES.map((share) => `${Math.floor((share * HOUR_MS) / ms)}`),
    ];
  });
  const byName = (rows: string[][]) => rows.toSorted(([a], [b]) => (a! < b! ? -1 : 1));
  expect(byName(rowsOf("preset"))).toEqual(byName(wanted));
});

test("every region that limits the time has its row, and Godwit half of it", () => {
  const percent = (share: number) => `${Number((100 * share).toFixed(3))} %`;
  const wanted = regionNames()
    .map((name) => [name, regionOf(regionNumber(name)!)!.dutyCycle] as const)
    .filter(([, dutyCycle]) => dutyCycle < 1)
    .map(([name, dutyCycle]) => [name, percent(dutyCycle), percent(dutyCycle / 2)]);
  const told = rowsOf("region of the radio");
  expect(told.at(-1)).toEqual(["others", "not limited", "50 %"]);
  expect(told.slice(0, -1).toSorted()).toEqual(wanted.toSorted());
});
