/**
 * The SDK's public surface, read from its declarations: `sdk/api.txt` is the bare surface, so that every change of it shows in a
 * diff, `sdk/docs/*.md` are the same with what the declarations say of themselves.
 */
import { posix } from "node:path";
import ts from "typescript";
import { declarations, sdkEntries } from "./sdk.ts";

export interface Exported {
  readonly name: string;
  /** Its comment, without the marks. */
  readonly doc: string;
  /** The declaration as written, comments inside included. */
  readonly code: string;
  /** The same without any comment. */
  readonly bare: string;
}

const printer = ts.createPrinter({ removeComments: true });

/** What each entry point exports, in the order in which it does. */
export async function sdkSurfaces(): Promise<Map<string, Exported[]>> {
  const files = await declarations();
  const parsed = new Map(
    [...files].map(([path, text]) => [path, ts.createSourceFile(path, text, ts.ScriptTarget.ESNext, true)]),
  );
  const exportsOf = (path: string): Exported[] => {
    const source = parsed.get(path);
    if (source === undefined) throw new Error(`no declarations of ${path}`);
    return source.statements.flatMap((statement): Exported[] => {
      if (!ts.isExportDeclaration(statement)) return own(statement, source);
      const clause = statement.exportClause;
      const from = statement.moduleSpecifier;
      if (from === undefined || !ts.isStringLiteral(from)) return [];
      const names =
        clause !== undefined && ts.isNamedExports(clause) ? clause.elements.map(({ name }) => name.text) : [];
      if (!from.text.startsWith("."))
        return names.map((name) => ({
          name,
          doc: docOf(statement, source),
          code: `export { ${name} } from "${from.text}";`,
          bare: `export { ${name} } from "${from.text}";`,
        }));
      const target = posix.join(posix.dirname(path), from.text.replace(/\.js$/, ".d.ts"));
      const there = new Map(exportsOf(target).map((one) => [one.name, one]));
      return names.map((name) => {
        const found = there.get(name);
        if (found === undefined) throw new Error(`${target} does not export ${name}`);
        return found;
      });
    });
  };
  return new Map(Object.entries(sdkEntries).map(([name, entry]) => [name, exportsOf(`${entry}.d.ts`)]));
}

function own(statement: ts.Statement, source: ts.SourceFile): Exported[] {
  const isExported =
    ts.canHaveModifiers(statement) &&
    ts.getModifiers(statement)?.some(({ kind }) => kind === ts.SyntaxKind.ExportKeyword) === true;
  if (!isExported) return [];
  const names = ts.isVariableStatement(statement)
    ? statement.declarationList.declarations.map(({ name }) => name.getText(source))
    : "name" in statement
      ? [(statement.name as ts.Identifier).text]
      : [];
  const code = statement.getText(source);
  const bare = printer.printNode(ts.EmitHint.Unspecified, statement, source);
  return names.map((name) => ({ name, doc: docOf(statement, source), code, bare }));
}

/** Only a comment that stands directly before the statement: what opens a file is about the file. */
function docOf(statement: ts.Statement, source: ts.SourceFile): string {
  const ranges = ts.getLeadingCommentRanges(source.text, statement.getFullStart()) ?? [];
  const last = ranges.at(-1);
  if (last === undefined) return "";
  return source.text
    .slice(last.pos, last.end)
    .replace(/^\/\*\*|\*\/$/g, "")
    .split("\n")
    .map((line) => line.replace(/^\s*\* ?/, "").trimEnd())
    .join("\n")
    .trim();
}

/** `sdk/api.txt`. */
export function apiSnapshot(surfaces: ReadonlyMap<string, readonly Exported[]>): string {
  const parts = [...surfaces].map(
    ([entry, exported]) => `// ${entry}\n\n${exported.map(({ bare }) => bare).join("\n\n")}\n`,
  );
  return `// The public surface of @godwit/sdk. Written by \`bun run docs\`; a change here is a change for every author.\n\n${parts.join("\n")}`;
}

const introductions: Readonly<Record<string, string>> = {
  "@godwit/sdk": "What a plugin imports. [The README](../README.md) says how the parts go together.",
  "@godwit/sdk/bounded": "Maps and sets that strangers may fill, without the rest of `@godwit/sdk`.",
  "@godwit/sdk/errors":
    "The error class of `@godwit/sdk` without the rest: for what must start before zod is loaded.",
  "@godwit/sdk/listening":
    "Why an address cannot be listened on: who has the port, and what to choose instead.",
  "@godwit/sdk/netlink":
    "Linux's netlink without any program: interfaces, addresses, routes, generic families.",
  "@godwit/sdk/places":
    "Places for those who have proven nothing yet, shared by their sources, and how many descriptors are left for them.",
  "@godwit/sdk/process":
    "Daemons beside the node: watched, restarted, never left behind. Trusted plugins only.",
  "@godwit/sdk/secret":
    "Secrets that a configuration names instead of holding them, and a value that never prints. For plugins with the right to files.",
  "@godwit/sdk/serial":
    "Serial ports of Linux: listed, opened at any speed for one program at a time, and gone when they are unplugged. Trusted plugins only.",
  "@godwit/sdk/tcp": "TCP for transports: listeners, dialling by RFC 8305, pipes.",
  "@godwit/sdk/testkit":
    "For tests only: fakes of all that a host hands out, and the conformance suites. Needs Bun's test runner, which is in the `godwit` binary.",
};

/** Pages by path. */
export function sdkPages(
  surfaces: ReadonlyMap<string, readonly Exported[]>,
  generated: string,
): Map<string, string> {
  const pages = new Map<string, string>();
  for (const [entry, exported] of surfaces) {
    const sections = exported
      .toSorted((a, b) => (a.name < b.name ? -1 : 1))
      .map(
        ({ name, doc, code }) =>
          `## ${name}\n\n${doc === "" ? "" : `${doc}\n\n`}\`\`\`\`ts\n${code}\n\`\`\`\`\n`,
      );
    const file = entry === "@godwit/sdk" ? "sdk" : entry.split("/").at(-1)!;
    pages.set(
      `sdk/docs/${file}.md`,
      `# ${entry}\n\n${generated}\n\n${introductions[entry]}\n\n${sections.join("\n")}`,
    );
  }
  return pages;
}
