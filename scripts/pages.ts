/** The pages that people read, and the blocks in them: what tests and generators take out of a page is found here. */
import { existsSync, readFileSync, readdirSync } from "node:fs";
import { join } from "node:path";
import { root } from "./lib.ts";

/** README and everything below docs/, from the project's root. */
export function documents(): string[] {
  const below = readdirSync(join(root, "docs"), { recursive: true })
    .map((name) => `docs/${String(name)}`)
    .filter((path) => path.endsWith(".md"));
  return ["README.md", ...below.sort()];
}

/** The same, what contributors read, and a page for each plugin of this repository. */
export function allPages(): string[] {
  const plugins = readdirSync(join(root, "plugins")).map((name) => `plugins/${name}/README.md`);
  return [...documents(), "CONTRIBUTING.md", ...plugins].filter((path) => existsSync(join(root, path)));
}

/** The text of one of them. */
export const readPage = (path: string): string => readFileSync(join(root, path), "utf8");

export interface Block {
  /** The word behind the fence, "" without one. */
  readonly language: string;
  /** Without the fences and their indentation; ends in a line break unless it is empty. */
  readonly text: string;
  /** Of its opening fence, counted from 1. */
  readonly line: number;
  /** What the HTML comment right before it says; undefined without one. */
  readonly comment: string | undefined;
}

const SHELLS = ["sh", "bash", "shell", "console"];

export const isShell = ({ language }: Block): boolean => SHELLS.includes(language);

/** Fenced blocks in the order of the page. */
export function blocksOf(page: string): Block[] {
  const fenced = /(?:^ *<!--((?:(?!-->)[^])*)-->\s*\n)?^( *)```([^\n`]*)\n([^]*?)^ *```$/gm;
  return [...page.matchAll(fenced)].map((found) => {
    const [all, comment, indent, language, text] = found as unknown as [
      string,
      string?,
      string?,
      string?,
      string?,
    ];
    const before = page.slice(0, found.index + all.indexOf("```"));
    return {
      language: language!.trim(),
      text: text!.replaceAll(new RegExp(`^ {0,${indent!.length}}`, "gm"), ""),
      line: before.split("\n").length,
      comment: comment?.replaceAll(/\s+/g, " ").trim(),
    };
  });
}

/** The text of the only block that begins so. Throws when there is none, or another. */
export function blockOf(page: string, start: string): string {
  const found = blocksOf(page).filter(({ text }) => text.startsWith(start));
  if (found.length !== 1) throw new Error(`${found.length} blocks of the page begin with ${start}`);
  return found[0]!.text;
}
