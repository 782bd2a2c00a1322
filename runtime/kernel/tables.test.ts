/** The list of tables in docs/threat-model.md and the code say the same: nothing that strangers can fill is without a bound and a share. */
import { expect, test } from "bun:test";
import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { root } from "../../scripts/lib.ts";

interface Row {
  readonly table: string;
  readonly files: readonly string[];
  /** `NAME` 1,024: a constant and its value. */
  readonly bounds: readonly (readonly [name: string, value: number])[];
  readonly cells: readonly string[];
}

const rows: Row[] = readFileSync(join(root, "docs/threat-model.md"), "utf8")
  .split("## Tables\n")[1]!
  .split("\n## ")[0]!
  .split("\n")
  .filter((line) => line.startsWith("|"))
  .slice(2)
  .map((line) => {
    const cells = line
      .split("|")
      .slice(1, -1)
      .map((cell) => cell.trim());
    const bounds = [...cells[2]!.matchAll(/`([A-Z_]+)` ([\d,]+)/g)].map(
      ([, name, value]) => [name!, Number(value!.replaceAll(",", ""))] as const,
    );
    return {
      table: cells[0]!,
      files: [...cells[1]!.matchAll(/`([^`]+)`/g)].map((m) => m[1]!),
      bounds,
      cells,
    };
  });

const textOf = (file: string): string => readFileSync(join(root, "runtime", file), "utf8");
/** Where nodes, mail and links are kept. Other folders keep what the operator, the API or a plugin makes. */
const WALKED =
  "{channel,closed,custody,forward,identity,join,link,membership,mesh,peer,route,stream,time,trust}/**/*.ts";
const walked = [...new Bun.Glob(WALKED).scanSync({ cwd: join(root, "runtime") })].filter(
  (file) => !/\.test\.ts$|testing(-[a-z-]+)?\.ts$/.test(file),
);

test("every row says file, bound, share and who yields", () => {
  expect(rows.length).toBeGreaterThan(30);
  for (const { table, files, cells } of rows) {
    expect([table, cells.length, cells.every((cell) => cell !== ""), files.length > 0]).toEqual([
      table,
      5,
      true,
      true,
    ]);
    for (const file of files) expect([file, existsSync(join(root, "runtime", file))]).toEqual([file, true]);
  }
});

test("each bound has the value that the code has", () => {
  for (const { table, files, bounds } of rows)
    for (const [name, value] of bounds) {
      const found = files.flatMap((file) => {
        const match = new RegExp(`const ${name} = ([\\d_]+);`).exec(textOf(file));
        return match === null ? [] : [Number(match[1]!.replaceAll("_", ""))];
      });
      expect([table, name, found]).toEqual([table, name, [value]]);
    }
});

const bounded = walked.filter((file) =>
  /new (BoundedMap|BoundedSet|SharedMap|Room|Quota)\b/.test(textOf(file)),
);

test("no bounded container is without a row", () => {
  const listed = new Set(rows.flatMap(({ files }) => files));
  expect(bounded.length).toBeGreaterThan(20);
  expect(bounded.filter((file) => !listed.has(file))).toEqual([]);
});

test("each bound of a container stands in the rows of its file", () => {
  const named = new Map<string, Set<string>>();
  for (const { files, cells } of rows)
    for (const file of files) {
      const names = named.get(file) ?? new Set();
      for (const [, name] of cells[2]!.matchAll(/`([A-Za-z_.]+)`/g)) names.add(name!);
      named.set(file, names);
    }
  const missing = bounded.flatMap((file) => {
    const text = textOf(file);
    const used = [
      ...text.matchAll(/\b(?:max|countMax)(?:: \w+)?[:=] ?(?:deps\.\w+ \?\? )?([A-Z][A-Z_]+_MAX)\b/g),
    ].map(([, name]) => name!);
    return used.filter((name) => named.get(file)?.has(name) !== true).map((name) => `${file}: ${name}`);
  });
  expect(missing).toEqual([]);
});
