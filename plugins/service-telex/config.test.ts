import { afterAll, beforeAll, expect, test } from "bun:test";
import { chmodSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Secret } from "@godwit/sdk/secret";
import { telexConfig } from "./config.ts";
import { Printer, safeLine, safeLines, wrap } from "./printer.ts";

let dir: string;
const file = (name: string, text: string, mode = 0o600): string => {
  const path = join(dir, name);
  writeFileSync(path, text);
  chmodSync(path, mode);
  return `file:${path}`;
};
beforeAll(() => void (dir = mkdtempSync(join(tmpdir(), "godwit-telex-"))));
afterAll(() => rmSync(dir, { recursive: true }));

const check = (value: unknown) =>
  telexConfig["~standard"].validate(value) as {
    value?: Record<string, unknown>;
    issues?: { message: string; path: readonly unknown[]; params?: unknown }[];
  };

test("nothing said is loopback, and sizes and durations have units", () => {
  expect(check({}).value).toMatchObject({
    listen: { host: "127.0.0.1", port: 8023 },
    max_connections: 100,
    message_max: 65_536,
    idle_timeout: 3_600_000,
  });
  expect(check({ message_max: "1MiB", idle_timeout: "0s" }).value).toMatchObject({
    message_max: 1_048_576,
    idle_timeout: 0,
  });
});

test.each(["0.0.0.0:8023", "[::]:8023", "192.0.2.1:8023", "[2001:db8::1]:8023"])(
  "%s needs a password or allow_from",
  (listen) => {
    const [issue] = check({ listen }).issues ?? [];
    expect(issue?.path).toEqual(["listen"]);
    expect(issue?.message).toMatch(/password = .* allow_from = /);
    expect(check({ listen, allow_from: ["10.0.0.0/8"] }).issues).toBeUndefined();
    expect(check({ listen, password: file("good", "correct horse\n") }).issues).toBeUndefined();
    expect(check({ listen, allow_from: [] }).issues?.length).toBeGreaterThan(0);
  },
);

test.each([
  ["listen", { listen: 8023 }],
  ["listen", { listen: "telex.example:8023" }],
  ["message_max", { message_max: 65_536 }],
  ["message_max", { message_max: "2MiB" }],
  ["message_max", { message_max: "64KiBs" }],
  ["idle_timeout", { idle_timeout: "8d" }],
  ["idle_timeout", { idle_timeout: "1 constructor" }],
  ["max_connections", { max_connections: 0 }],
  ["allow_from", { allow_from: ["10.0.0.1/8"] }],
  ["password", { password: "correct horse" }],
  ["password", { password: "env:GODWIT_NO_SUCH_VARIABLE" }],
  ["password", { password: "file:/nonexistent/password" }],
])("%s: %j is refused there", (key, value) => {
  expect(check(value).issues?.[0]?.path[0]).toBe(key);
});

test("a password is read without its newline; short, open, hidden or many-lined ones are refused; none is shown", () => {
  const read = (reference: string) => {
    const { value, issues } = check({ password: reference });
    expect(`${Bun.inspect(value)} ${JSON.stringify([value, issues])}`).not.toContain("horse");
    const found = value?.["password"];
    return found instanceof Secret ? found.revealText() : JSON.stringify(issues);
  };
  expect(read(file("one", "correct horse\r\n"))).toBe("correct horse");
  expect(read(file("short", "1234567\n"))).toContain("8 to 256");
  expect(read(file("open", "correct horse\n", 0o604))).toContain("chmod 600");
  expect(read(file("lines", "correct\nhorse\n"))).toContain("control characters");
  expect(read(file("brace", "{correct horse}"))).toContain("brace");
  expect(read(file("long", "x".repeat(10_000)))).toContain("more than 256 bytes");
  expect(read(`file:${dir}`)).toContain("not a plain file");
  expect(read("correct horse")).toContain("not shown");
});

test("text of others is made safe, text of ours is cut to a teletype", () => {
  expect(safeLine("a\u001b[2J\u202eb\u0085\tc\n")).toBe("a?[2J?b? c?");
  expect(safeLines("a\r\nNNNN\n*** forged\rZCZC")).toEqual(["a", " NNNN", " *** forged", " ZCZC"]);
  expect(wrap("one two three", 7)).toEqual(["one two", "three"]);
  expect(wrap("abcdefghij", 4)).toEqual(["abcd", "efgh", "ij"]);
  expect(wrap(" abcdef", 4)).toEqual([" abc", "def"]);
  expect(wrap("", 4)).toEqual([""]);
  const printer = new Printer();
  expect(printer.format(["gr\u00fc\u00df"])).toBe("gr\u00fc\u00df\r\n");
  printer.isTeletype = true;
  expect(printer.format(["gr\u00fc\u00df", "\u65e5"])).toBe("GRUSS\r\n?\r\n");
});
