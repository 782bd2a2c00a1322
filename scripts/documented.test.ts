/**
 * Every command that a page shows exists, with the options that it gives it: in a second, and for the blocks and pages as well that the suite
 * `documented` does not run.
 */
import { describe, expect, test } from "bun:test";
import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";

import { commands } from "../runtime/cli/table.ts";
import { parseWords } from "../runtime/cli/words.ts";
import { root } from "./lib.ts";
import { allPages, blocksOf, isShell, readPage } from "./pages.ts";

/** Lines of the shell blocks of a page, without comments, those that end in a backslash joined. */
const linesOf = (page: string): string[] =>
  blocksOf(page)
    .filter(isShell)
    .flatMap(({ text }) =>
      text
        .replaceAll(/\s*\\\n\s*/g, " ")
        .split("\n")
        .map((line) =>
          line
            .replace(/^\$ /, "")
            .replace(/(?:^|\s)#.*$/, "")
            .trim(),
        )
        .filter((line) => line !== ""),
    );

/** Labels that keys sign begin so as well. */
const LABELS = ["godwit plugin package 1"];

/** Commands in the prose of a page, without the brackets of what may be left out; those of docs/protocol are mostly labels. */
const inProse = (path: string, page: string): string[] =>
  path.startsWith("docs/protocol/")
    ? []
    : [...page.replaceAll(/^ *```[^]*?^ *```$/gm, "").matchAll(/`(godwit\s[a-z][^`]*)`/g)]
        .map(([, command]) => command!)
        .filter((command) => !LABELS.includes(command))
        .map((command) => command.replaceAll(/\s+/g, " ").replaceAll(/[[\]]|\.\.\./g, ""));

/** What may stand before the program of a simple command: variables, and programs that start others. */
const BEFORE =
  /^(?:\w+=(?:"[^"]*"|'[^']*'|\S*)\s+|(?:sudo|exec|time)\s+|(?:podman|docker) exec (?:-\S+ )*\S+\s+)*/;

/** Calls of godwit in a line, each with the words after it; of what `$(...)` answers one word is left. */
function callsOf(line: string): string[][] {
  const inner = [...line.matchAll(/\$\(([^()]*)\)/g)].map(([, text]) => text!);
  const outer = line.replaceAll(/\$\([^()]*\)/g, "ANSWER").replaceAll(/\((?:umask \d+;)?|\)/g, " ");
  const simple = [...inner, outer].flatMap((text) => text.split(/\|\||&&|[|;&]/));
  return simple.flatMap((text) => {
    const [program = "", ...words] =
      text
        .trim()
        .replace(BEFORE, "")
        .split(/\s(?=\d?>|<)/)[0]!
        .match(/(?:"[^"]*"|'[^']*'|[^\s"'])+/g) ?? [];
    return /^(?:[\w./-]*\/)?godwit$/.test(program)
      ? [words.map((word) => word.replaceAll(/^["']|["']$/g, ""))]
      : [];
  });
}

/** What is wrong with a call of godwit; undefined: nothing. */
function faultOf(words: readonly string[]): string | undefined {
  const plain = words.filter((word) => !word.startsWith("-"));
  const command =
    commands.find(({ name }) => name === plain.slice(0, 2).join(" ")) ??
    commands.find(({ name }) => name === plain[0]);
  if (command === undefined)
    return words.includes("--help") || commands.some(({ name }) => name.startsWith(`${plain[0]} `))
      ? undefined
      : `no command ${plain.slice(0, 2).join(" ")}`;
  try {
    const own = words.filter((word) => !command.name.split(" ").includes(word));
    const { positionals } = parseWords(command, own);
    if (positionals.length > command.argsMax) return `${positionals.length} arguments`;
    return undefined;
  } catch (error) {
    return (error as Error).message;
  }
}

const { scripts } = JSON.parse(readFileSync(join(root, "package.json"), "utf8")) as {
  scripts: Record<string, string>;
};

describe("what the pages tell to type is there", () => {
  test.each(allPages())("%s", (page) => {
    const faults: string[] = [];
    const text = readPage(page);
    for (const line of [...linesOf(text), ...inProse(page, text)]) {
      for (const words of callsOf(line)) {
        const fault = faultOf(words);
        if (fault !== undefined) faults.push(`${line}: ${fault}`);
      }
      for (const [word] of line.matchAll(/(?<=^|\s)\.?\/?scripts\/[\w.-]+/g))
        if (!existsSync(join(root, word))) faults.push(`${line}: no ${word}`);
      for (const [, name] of line.matchAll(/\bbun run ([\w:-]+)/g))
        if (scripts[name!] === undefined) faults.push(`${line}: no script ${name}`);
    }
    expect(faults).toEqual([]);
  });

  test("they are looked at", () => {
    const calls = allPages().flatMap((page) => linesOf(readPage(page)).flatMap(callsOf));
    expect(calls.length).toBeGreaterThan(50);
  });

  test("a page that lies is found", () => {
    const lies = ["godwit sned DUN hi", "sudo godwit send DUN hi --proirity 1 | cat", "godwit status now"];
    for (const line of lies)
      expect(callsOf(line).map((words) => faultOf(words) === undefined)).toEqual([false]);
    expect(inProse("docs/x.md", "or `godwit\nsned [--to X]...` ")).toEqual(["godwit sned --to X"]);
    expect(linesOf("```sh\na \\\n  b # c\n```\n\n```toml\nd\n```\n")).toEqual(["a b"]);
  });
});
