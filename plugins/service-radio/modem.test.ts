import { describe, expect, test } from "bun:test";
import { bitsPerSecond, frameMs } from "./lora.ts";
import { modemOf, packetBytes, PRESETS, regionOf } from "./modem.ts";

const preset = (modemPreset: number, region = 3) =>
  modemOf({ usePreset: true, modemPreset, region, bandwidth: 0, spreadFactor: 0, codingRate: 0 });

/**
 * Payloads of 20, 100, 200 and 233 bytes in a frame, ms: others' figures, not computed here. They count 5 or 6 bytes around a payload. docs/meshtastic.md
 * shows those of 20 and 200.
 */
const table: Readonly<Record<number, readonly [string, number, number, number, number]>> = {
  8: ["ShortTurbo", 24, 53, 89, 102],
  6: ["ShortFast", 48, 107, 178, 204],
  5: ["ShortSlow", 85, 188, 316, 362],
  16: ["MediumTurbo", 80, 172, 285, 321],
  4: ["MediumFast", 160, 345, 570, 642],
  3: ["MediumSlow", 300, 628, 1037, 1181],
  9: ["LongTurbo", 378, 837, 1459, 1656],
  0: ["LongFast", 559, 1133, 1911, 2157],
  7: ["LongMod", 1774, 4002, 7016, 7934],
  1: ["LongSlow", 3285, 7479, 12722, 14295],
  10: ["LiteFast", 321, 689, 1140, 1283],
  11: ["LiteSlow", 600, 1255, 2075, 2361],
  12: ["NarrowFast", 218, 500, 844, 967],
  13: ["NarrowSlow", 386, 878, 1492, 1713],
};

describe("airtime", () => {
  for (const [number, [name, ...published]] of Object.entries(table))
    test(`${name} is within 2 % of the published table`, () => {
      const modem = preset(Number(number))!;
      expect(modem.name).toBe(name);
      for (const [at, bytes] of [20, 100, 200, 233].entries()) {
        const ms = frameMs(modem, Math.min(255, 16 + bytes + (bytes < 128 ? 5 : 6)));
        expect(Math.abs(ms / published[at]! - 1)).toBeLessThan(0.02);
      }
    });

  test("the table has each preset that is known", () => {
    expect(Object.keys(table).toSorted()).toEqual(Object.keys(PRESETS).toSorted());
  });

  test("the page shows it", async () => {
    const page = await Bun.file(`${import.meta.dir}/../../docs/meshtastic.md`).text();
    const shown = [...page.matchAll(/^\| (\w+) +\| (\d+) +\| (\d+) +\|$/gm)].map(([, ...cells]) =>
      cells.join(" "),
    );
    const expected = Object.values(table).map(([name, of20, , of200]) => `${name} ${of20} ${of200}`);
    expect(shown.toSorted()).toEqual(expected.toSorted());
  });

  test("LongFast is what the firmware measures", () => {
    const modem = preset(0)!;
    expect(frameMs(modem, 38)).toBeCloseTo(518, 0);
    expect(Math.abs(frameMs(modem, 242) / 2_050 - 1)).toBeLessThan(0.02);
    expect(bitsPerSecond(modem)).toBeCloseTo(1_074, 0);
  });

  test("what the firmware adds is counted: signature, seal, bit field", () => {
    const all = { hasSignatures: true, hasPkc: true };
    const none = { hasSignatures: false, hasPkc: false };
    expect(packetBytes(24, 413, "one", none)).toBe(16 + 24 + 5 + 2);
    expect(packetBytes(24, 413, "all", none)).toBe(16 + 24 + 5 + 2);
    expect(packetBytes(24, 413, "all", all)).toBe(16 + 24 + 5 + 2 + 66);
    expect(packetBytes(24, 413, "one", all)).toBe(16 + 24 + 5 + 2 + 12);
    // It signs only what still fits then.
    expect(packetBytes(165, 413, "all", all)).toBe(255);
    expect(packetBytes(166, 413, "all", all)).toBe(16 + 166 + 6 + 2);
    expect(packetBytes(200, 413, "one", all)).toBe(16 + 200 + 6 + 2 + 12);
    expect(packetBytes(20, 1, "one", none)).toBe(16 + 20 + 4 + 2);
  });
});

describe("regions and presets", () => {
  test("unset and unknown ones are none", () => {
    expect(regionOf(0)).toBeUndefined();
    expect(regionOf(77)).toBeUndefined();
    expect(preset(77)).toBeUndefined();
    expect(regionOf(3)?.dutyCycle).toBe(0.1);
    expect(regionOf(29)?.dutyCycle).toBe(0.025);
  });

  test("2.4 GHz is wider by the same name", () => {
    expect(preset(0, 13)?.bandwidthHz).toBe(812_500);
  });

  test("settings by hand are taken where a chip has them", () => {
    const custom = {
      usePreset: false,
      modemPreset: 0,
      region: 3,
      bandwidth: 62,
      spreadFactor: 9,
      codingRate: 5,
    };
    expect(modemOf(custom)).toMatchObject({ bandwidthHz: 62_500, spreadingFactor: 9, codingRate: 5 });
    expect(modemOf({ ...custom, spreadFactor: 0 })).toBeUndefined();
    expect(modemOf({ ...custom, codingRate: 9 })).toBeUndefined();
    expect(modemOf({ ...custom, bandwidth: 0 })).toBeUndefined();
  });
});
