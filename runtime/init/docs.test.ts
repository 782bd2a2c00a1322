/** docs/boot.md says of every key and command what the code says. */
import { expect, test } from "bun:test";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { shortKeys } from "./cmdline.ts";
import { rescueCommands } from "./rescue.ts";

const page = readFileSync(join(import.meta.dir, "../../docs/boot.md"), "utf8");
const rows = new Map(
  [...page.matchAll(/^\| `([^`]+)` +\| (.+?) +\|$/gm)].map(([, key, text]) => [key!, text!]),
);

test("keys of the command line", () => {
  const written = [...rows].filter(([key]) => key.startsWith("godwit."));
  expect(written).toEqual(Object.entries(shortKeys).map(([key, { help }]) => [`godwit.${key}`, help]));
});

test("commands of the console", () => {
  const usages = Object.values(rescueCommands).map(({ usage, help }) => [usage, help]);
  expect([...rows].filter(([key]) => Object.hasOwn(rescueCommands, key.split(" ")[0]!))).toEqual(
    usages as [string, string][],
  );
});
