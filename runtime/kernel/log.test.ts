import { describe, expect, test } from "bun:test";
import { fstatSync, mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import fc from "fast-check";
import { ManualClock } from "./clock.ts";
import { godwitError } from "./errors.ts";
import { createLog, isJournal, signedLog, silentLog, type LogFields } from "./log.ts";

function capture(format: "json" | "text", level: "debug" | "info" | "warn" | "error" = "debug") {
  const lines: string[] = [];
  const log = createLog({
    level,
    format,
    clock: new ManualClock(0),
    sink: { write: (line) => lines.push(line) },
  });
  return { lines, log };
}

describe("json", () => {
  test("one object a line, child fields first, undefined left out, errors by message and code", () => {
    const { lines, log } = capture("json");
    log.child({ plugin: "x", a: 1 }).warn("link down", {
      a: 2,
      gone: undefined,
      list: ["p", "q"],
      error: godwitError("GODWIT_LINK_CLOSED", "the link is gone"),
    });
    expect(lines.map((line) => JSON.parse(line) as unknown)).toEqual([
      {
        time: "1970-01-01T00:00:00.000Z",
        level: "warn",
        event: "link down",
        plugin: "x",
        a: 2,
        list: ["p", "q"],
        error: "the link is gone",
        error_code: "GODWIT_LINK_CLOSED",
      },
    ]);
  });

  test("a field named like a part of the line does not replace it", () => {
    const { lines, log } = capture("json");
    log.info("trust changed", { level: "blocked", event: "x", time: "y" });
    expect(JSON.parse(lines[0]!)).toMatchObject({ level: "info", event: "trust changed", level_: "blocked" });
  });
});

test("whoever has a signed log cannot pass for another in it, nor by a child of it", () => {
  const { lines, log } = capture("json");
  const own = signedLog(log.child({ part: "host" }), { plugin: "service.x" });
  own.info("a", { plugin: "service.telex", part: "p" });
  own.child({ plugin: "service.telex", more: 1 }).error("b", { plugin: "" });
  expect(lines.map((line) => JSON.parse(line) as unknown)).toMatchObject([
    { level: "info", event: "a", plugin: "service.x", part: "p" },
    { level: "error", event: "b", plugin: "service.x", part: "host", more: 1 },
  ]);
});

test("text that a plugin chose as event or key drives no terminal and begins no line", () => {
  const { lines, log } = capture("text");
  log.info("a\u001b[2J\nb\u202e", { "k\u001b]0;x\u0007 a=b": "v", plain: 1 });
  expect(lines.map((line) => line.slice(13))).toEqual([
    String.raw`info  "a\u001b[2J\nb\u202e" "k\u001b]0;x\u0007 a=b"=v plain=1`,
  ]);
});

test("levels below the threshold are not written", () => {
  const { lines, log } = capture("text", "warn");
  log.debug("a");
  log.info("b");
  log.warn("c");
  log.error("d");
  expect(lines.map((line) => line.split(" ").at(-1))).toEqual(["c", "d"]);
  silentLog.child({}).error("nothing");
});

test("no field can forge a line or drive a terminal", () => {
  const hostile = fc.string({
    unit: fc.oneof(
      fc.constantFrom(
        "\n",
        "\r",
        "\u001b",
        "\u009b",
        "\u0085",
        "\u2028",
        "\u202e",
        "\u200f",
        "\u061c",
        "\u2066",
        "\u007f",
        '"',
        " ",
        "=",
      ),
      fc.string({ minLength: 1, maxLength: 1 }),
    ),
  });
  fc.assert(
    fc.property(hostile, fc.constantFrom<"json" | "text">("json", "text"), (text, format) => {
      const { lines, log } = capture(format);
      const fields: LogFields = { text, list: [text, "b"], error: new Error(text) };
      log.info("event", fields);
      // oxlint-disable-next-line no-control-regex
      const acted = /[\u0000-\u001f\u007f-\u009f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]/;
      expect(lines[0]).not.toMatch(acted);
      if (format === "json") expect(JSON.parse(lines[0]!)).toMatchObject({ text, list: [text, "b"] });
    }),
  );
});

test("the journal gets text with its level and without a time; a file that is not the journal gets JSON", async () => {
  const folder = mkdtempSync(join(tmpdir(), "godwit-log-"));
  try {
    const path = join(folder, "journal");
    writeFileSync(path, "");
    const { dev, ino } = statSync(path, { bigint: true });
    const program = `const { autoFormat, createLog, stderrSinkFor } = await import(${JSON.stringify(join(import.meta.dir, "log.ts"))});
      const { systemClock } = await import(${JSON.stringify(join(import.meta.dir, "clock.ts"))});
      const log = createLog({ level: "info", format: autoFormat(process.env), clock: systemClock, sink: stderrSinkFor(process.env) });
      log.warn("open mesh", { network: "a b" });`;
    const said = async (stream: string): Promise<string> => {
      const env = { PATH: process.env["PATH"], JOURNAL_STREAM: stream };
      writeFileSync(path, "");
      await Bun.spawn([process.execPath, "-e", program], { env, stderr: Bun.file(path) }).exited;
      return readFileSync(path, "utf8");
    };
    expect(await said(`${dev}:${ino}`)).toBe('<4>warn  open mesh network="a b"\n');
    expect(await said(`${dev}:${ino + 1n}`)).toMatch(
      /^\{"time":".*","level":"warn","event":"open mesh","network":"a b"\}\n$/,
    );
  } finally {
    rmSync(folder, { recursive: true });
  }
});

test("a stream is the journal's only when it is that very file", () => {
  const { dev, ino } = fstatSync(2, { bigint: true });
  expect(isJournal(`${dev}:${ino}`, 2)).toBe(true);
  expect(isJournal(`${dev}:${ino + 1n}`, 2)).toBe(false);
  for (const text of [undefined, "", ":", "1", "1:x", "-1:2"]) expect(isJournal(text, 2)).toBe(false);
  expect(isJournal("1:2", 9_999)).toBe(false);
});
