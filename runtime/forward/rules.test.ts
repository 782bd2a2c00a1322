import { describe, expect, test } from "bun:test";
import { parsePattern, parseTarget } from "../config/targets.ts";
import { decideAllowed } from "./rules.ts";

const isAllowed = (pattern: string, target: string): boolean =>
  decideAllowed([{ from: ["DUN-A"], targets: [pattern] }], (who) => who === "DUN-A", parseTarget(target)!);

describe("what a rule lets through", () => {
  test.each([
    ["127.0.0.1:80", "127.0.0.1:80", true],
    ["127.0.0.1:80", "127.0.0.1:81", false],
    ["127.0.0.1:*", "127.0.0.1:81", true],
    ["10.0.0.0/8:22", "10.255.1.2:22", true],
    ["10.0.0.0/8:22", "11.0.0.1:22", false],
    ["0.0.0.0/0:22", "192.0.2.1:22", true],
    ["0.0.0.0/0:22", "[::1]:22", false],
    ["[fd00::/8]:*", "[fd12:3456::1]:1", true],
    ["[fd00::/8]:*", "[fe80::1]:1", false],
    ["[::1]:80", "[0:0:0:0:0:0:0:1]:80", true],
    ["db.example:5432", "DB.example:5432", true],
    ["db.example:5432", "evil.example:5432", false],
    ["127.0.0.0/8:80", "localhost:80", false],
  ])("%s and %s: %p", (pattern, target, expected) => expect(isAllowed(pattern, target)).toBe(expected));

  test("nothing without a rule, nothing from others", () => {
    const target = parseTarget("127.0.0.1:80")!;
    expect(decideAllowed([], () => true, target)).toBe(false);
    expect(decideAllowed([{ from: ["DUN-A"], targets: ["127.0.0.1:80"] }], () => false, target)).toBe(false);
  });
});

test.each([
  "",
  "80",
  "host",
  "host:0",
  "host:65536",
  "1.2.3:80",
  "0x7f000001:80",
  "::1:80",
  "[fe80::1%eth0]:80",
  "[1.2.3.4]:80",
  "a b:80",
])("%p is no target", (text) => expect(parseTarget(text)).toBeUndefined());

test.each(["10.0.0.0/33:22", "[fe80::%1/10]:22", "[fd00::/129]:1", "name/8:22", "10.0.0.0/8", "*:80"])(
  "%p is no pattern",
  (text) => expect(parsePattern(text)).toBeUndefined(),
);
