import { describe, expect, test } from "bun:test";
import vectors from "../../test/vectors/stage0.json";
import { emitStage0, formatListing } from "./stage0.ts";

const machines = ["x64", "arm64"] as const;

describe.each(machines)("%s", (arch) => {
  const { bytes, listing } = emitStage0(arch);

  test("every byte is the one that was reviewed", () => {
    expect(Buffer.from(bytes).toString("hex")).toBe(vectors[arch]);
  });

  test("every byte is told what it is for", () => {
    let at = 0;
    for (const row of listing) {
      expect(row.offset).toBe(at);
      expect(row.does.length).toBeGreaterThan(3);
      at += row.bytes.length;
    }
    expect(at).toBe(bytes.length);
    expect(formatListing(listing).split("\n")).toHaveLength(listing.length + 1);
  });

  test("the header is that of a static program with one segment, never writable", () => {
    const view = new DataView(bytes.buffer);
    expect(Buffer.from(bytes.subarray(0, 4)).toString("latin1")).toBe("\u007fELF");
    expect(view.getUint16(16, true)).toBe(2);
    expect(view.getUint16(18, true)).toBe(arch === "x64" ? 62 : 183);
    expect(view.getUint16(56, true)).toBe(1);
    expect(view.getUint32(68, true)).toBe(5);
    expect(Number(view.getBigUint64(96, true))).toBe(bytes.length);
    const entry = Number(view.getBigUint64(24, true)) - Number(view.getBigUint64(80, true));
    expect(listing.find(({ offset }) => offset === entry)?.does).toMatch(/program/);
    expect(bytes.length).toBeLessThan(640);
  });
});
