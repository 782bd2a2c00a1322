/**
 * The manual of the SDK inside of the binary: the pages as the project has them, found by their name, by a heading, or by a word that stands in
 * them. Pure.
 */
import { nearest } from "../../config/suggest.ts";
import { godwitError } from "../../kernel/errors.ts";
import type { KitFiles } from "./kit.ts";

/** More are named and not shown. */
const SHOWN_MAX = 5;

export interface Section {
  /** `plugins` of `manual/plugins.md`. */
  readonly page: string;
  readonly heading: string;
  /** With its heading, and with what stands below that. */
  readonly text: string;
}

interface Found {
  readonly sections: readonly Section[];
  /** All of them are to be read; else they only speak of it, and are too many to show. */
  readonly isWhole: boolean;
}

/** Names of pages, with their titles, in the order in which the kit has them. */
export function pagesOf(files: KitFiles): ReadonlyMap<string, string> {
  return new Map(
    Object.entries(files).flatMap(([path, text]) => {
      const name = /^manual\/(.+)\.md$/.exec(path)?.[1];
      return name === undefined ? [] : [[name, /^# (.*)$/m.exec(text)?.[1] ?? name] as const];
    }),
  );
}

/** Throws GODWIT_NOT_FOUND, with what was meant perhaps. */
export function lookUp(files: KitFiles, word: string): Found {
  const pages = pagesOf(files);
  const wanted = word.toLowerCase();
  if (pages.has(wanted)) {
    const text = files[`manual/${wanted}.md`]!;
    return { sections: [{ page: wanted, heading: pages.get(wanted)!, text }], isWhole: true };
  }
  const all = [...pages.keys()].flatMap((page) => sectionsOf(page, files[`manual/${page}.md`]!));
  const plain = ({ heading }: Section) => heading.replaceAll("`", "").toLowerCase();
  const same = all.filter((section) => plain(section) === wanted);
  if (same.length > 0) return { sections: same, isWhole: true };
  const named = all.filter((section) => plain(section).includes(wanted));
  if (named.length > 0) return { sections: named, isWhole: named.length <= SHOWN_MAX };
  const speaking = all.filter(({ text }) => isSpokenOf(wanted, text));
  if (speaking.length > 0) return { sections: speaking, isWhole: speaking.length <= SHOWN_MAX };
  const near = nearest(
    word,
    all.map(({ heading }) => heading),
  );
  const meant = near === undefined ? "." : `; did you mean ${near}?`;
  throw godwitError(
    "GODWIT_NOT_FOUND",
    `the manual has nothing of "${word}"${meant} Its pages: ${[...pages.keys()].join(", ")}`,
  );
}

/** As a word of its own; `net.tcp` is not spoken of where `net.tcp.connect` is. */
function isSpokenOf(word: string, text: string): boolean {
  const lower = text.toLowerCase();
  const isWordAt = (at: number) =>
    !/[\w-]/.test(lower[at - 1] ?? " ") && !/^(?:[\w-]|\.\w)/.test(lower.slice(at + word.length));
  for (let at = lower.indexOf(word); at >= 0; at = lower.indexOf(word, at + 1)) if (isWordAt(at)) return true;
  return false;
}

/** Each heading with what stands below it, deeper ones among that. A line of a code block is none. */
export function sectionsOf(page: string, markdown: string): Section[] {
  const lines = markdown.split("\n");
  const headings: { readonly at: number; readonly level: number; readonly heading: string }[] = [];
  let isCode = false;
  for (const [at, line] of lines.entries()) {
    if (line.startsWith("```")) isCode = !isCode;
    const match = isCode ? null : /^(#{1,4}) (.+)$/.exec(line);
    if (match !== null) headings.push({ at, level: match[1]!.length, heading: match[2]! });
  }
  return headings
    .filter(({ level }) => level > 1)
    .map(({ at, level, heading }) => {
      const next = headings.find((other) => other.at > at && other.level <= level);
      return { page, heading, text: `${lines.slice(at, next?.at).join("\n").trim()}\n` };
    });
}
