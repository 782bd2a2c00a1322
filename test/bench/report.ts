/**
 * What `bun run bench beside --write` leaves in the repository: the results as JSON, a plot for each figure that a peer
 * was measured on too, and the table of docs/benchmarks.md between its marks. Everything but the JSON follows from it.
 */
import { mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { figuresOf, formatGoal, formatNumber, GODWIT, verdict, type Measure } from "./bench.ts";

const docs = join(import.meta.dir, "..", "..", "docs");
const plots = join(docs, "plots");
const resultsPath = join(plots, "beside.json");
const pagePath = join(docs, "benchmarks.md");
const BEGIN = "<!-- beside: written by bun run bench beside --write -->";
const END = "<!-- end of beside -->";

export interface Result {
  readonly name: string;
  readonly row: number;
  readonly how: string;
  readonly machineBefore: string;
  /** Of the run that it is of: version, processors, when, and what the machine did. */
  readonly run?: string;
  readonly measures: readonly Measure[];
}

export interface Results {
  readonly conditions: Readonly<Record<string, string>>;
  readonly benches: readonly Result[];
}

/** Replaces the results of the benches that ran, keeps those of the others with their own conditions beside them. */
export function writeReport(fresh: Results): void {
  mkdirSync(plots, { recursive: true });
  const old = readResults();
  const ran = new Set(fresh.benches.map(({ name }) => name));
  const rounded = fresh.benches.map((bench) => ({
    ...bench,
    run: runOf(fresh.conditions),
    measures: bench.measures.map((measure) => ({
      ...measure,
      values: measure.values.map((value) => Number(value.toPrecision(4))),
    })),
  }));
  const benches = [...(old?.benches ?? []).filter(({ name }) => !ran.has(name)), ...rounded];
  benches.sort((a, b) => a.row - b.row || (a.name < b.name ? -1 : 1));
  const results: Results = { conditions: fresh.conditions, benches };
  writeFileSync(resultsPath, `${JSON.stringify(results, undefined, 1)}\n`);
  const drawn = new Set<string>();
  for (const bench of benches)
    for (const [what, group] of contests(bench)) {
      drawn.add(plotName(bench, what));
      writeFileSync(join(plots, plotName(bench, what)), plotOf(bench, what, group));
    }
  for (const name of readdirSync(plots))
    if (name.endsWith(".svg") && !drawn.has(name)) rmSync(join(plots, name));
  const page = readFileSync(pagePath, "utf8");
  const [from, to] = [page.indexOf(BEGIN), page.indexOf(END)];
  if (from < 0 || to < from) throw new Error(`${pagePath} has lost its marks`);
  writeFileSync(pagePath, page.slice(0, from + BEGIN.length) + sectionOf(results) + page.slice(to));
}

const runOf = ({ godwit, cpu, kernel, at, machine }: Results["conditions"]): string =>
  [godwit, cpu, kernel && `Linux ${kernel}`, at?.slice(0, 10), machine]
    .filter((part) => part !== undefined)
    .join("; ");

function readResults(): Results | undefined {
  try {
    return JSON.parse(readFileSync(resultsPath, "utf8")) as Results;
  } catch {
    return undefined;
  }
}

/** Figures that more than one contestant has. */
function contests({ measures }: Result): Map<string, Measure[]> {
  const groups = new Map<string, Measure[]>();
  for (const measure of measures)
    if (measure.isAside !== true) groups.set(measure.what, [...(groups.get(measure.what) ?? []), measure]);
  return new Map([...groups].filter(([, group]) => group.length > 1));
}

const plotName = ({ name }: Result, what: string): string =>
  `${name}-${what
    .toLowerCase()
    .replaceAll(/[^a-z0-9]+/g, "-")
    .replaceAll(/^-|-$/g, "")}`.slice(0, 60) + ".svg";

function sectionOf({ conditions, benches }: Results): string {
  const lines = ["", ""];
  // Those that differ from run to run stand with each result.
  const { godwit: _godwit, cpu: _cpu, kernel: _kernel, at: _at, machine: _machine, ...same } = conditions;
  for (const [name, value] of Object.entries(same)) lines.push(`- ${name}: ${value}`);
  for (const bench of benches) {
    lines.push(
      "",
      `### Row ${bench.row}: ${bench.name}`,
      "",
      `${bench.how}. Machine before: ${bench.machineBefore}. Run: ${bench.run ?? "see above"}.`,
      "",
    );
    lines.push("| who | what | unit | median | p95 | min | max | values | goal | verdict |");
    lines.push("| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |");
    for (const measure of bench.measures) {
      const { median, p95, min, max, runs } = figuresOf(measure.values);
      const cells = [median, p95, min, max].map(formatNumber);
      const goal =
        measure.goal === undefined
          ? ""
          : formatGoal(measure.goal).replaceAll(">=", "≥").replaceAll("<=", "≤");
      const who = measure.of ?? GODWIT;
      lines.push(
        `| ${[who, measure.what, measure.unit, ...cells, String(runs), goal, verdict(measure) ?? ""].join(" | ")} |`,
      );
    }
    const pictures = [...contests(bench).keys()].map((what) => `![${what}](plots/${plotName(bench, what)})`);
    if (pictures.length > 0) lines.push("", ...pictures);
  }
  return [...lines, "", ""].join("\n");
}

const WIDTH = 640;
const LABEL = 110;
const RIGHT = 90;
const ROW = 30;
const TOP = 46;
const COLOURS: Readonly<Record<string, string>> = {
  godwit: "#2f80ed",
  babeld: "#c0792a",
  yggdrasil: "#3a9d5d",
  "wireguard-go": "#a0528f",
  nncp: "#7a6ff0",
};
const GREY = "#808890";

const escape = (text: string): string =>
  text.replaceAll("&", "&amp;").replaceAll("<", "&lt;").replaceAll(">", "&gt;");

/** Every value a dot, the median a bar; logarithmic when the largest is more than twenty times the smallest. */
function plotOf({ row }: Result, what: string, group: readonly Measure[]): string {
  const all = group.flatMap(({ values }) => values).filter((value) => Number.isFinite(value));
  const goal = group.find((measure) => measure.goal !== undefined)?.goal;
  const bound = goal?.atMost ?? goal?.atLeast;
  const high = Math.max(...all, bound ?? 0);
  const positive = [...all, ...(bound === undefined ? [] : [bound])].filter((value) => value > 0);
  const low = Math.min(...positive);
  const isLog = low > 0 && high / low > 20;
  const [from, to] = isLog ? [Math.log10(low) - 0.3, Math.log10(high) + 0.05] : [0, high * 1.05 || 1];
  const x = (value: number): number => {
    const at = isLog ? Math.log10(Math.max(value, 10 ** from)) : value;
    return LABEL + ((at - from) / (to - from)) * (WIDTH - LABEL - RIGHT);
  };
  const unit = group[0]!.unit;
  const parts: string[] = [];
  const text = (at: number, y: number, words: string, more = "") =>
    parts.push(`<text x="${at.toFixed(1)}" y="${y}" ${more}>${escape(words)}</text>`);
  const height = TOP + group.length * ROW + 26;
  text(8, 20, `Row ${row}: ${what}, ${unit}${isLog ? " (logarithmic)" : ""}`, 'font-weight="bold"');
  for (const [i, measure] of group.entries()) {
    const y = TOP + i * ROW;
    const colour = COLOURS[measure.of ?? GODWIT] ?? GREY;
    const { median } = figuresOf(measure.values);
    text(8, y + 15, measure.of ?? GODWIT);
    const width = Math.max(1, x(median) - LABEL).toFixed(1);
    parts.push(
      `<rect x="${LABEL}" y="${y + 3}" width="${width}" height="16" fill="${colour}" fill-opacity="0.55"/>`,
    );
    // A picture of hundreds of dots says no more than one of some dozens.
    const step = Math.max(1, Math.floor(measure.values.length / 60));
    const sorted = [...measure.values].sort((a, b) => a - b).filter((_, at) => at % step === 0);
    for (const value of sorted)
      parts.push(`<circle cx="${x(value).toFixed(1)}" cy="${y + 11}" r="2" fill="${colour}"/>`);
    const edge = Math.max(x(median), ...sorted.map(x));
    text(edge + 8, y + 15, formatNumber(median));
  }
  if (bound !== undefined) {
    const at = x(bound).toFixed(1);
    const bottom = TOP + group.length * ROW;
    parts.push(
      `<line x1="${at}" y1="${TOP - 6}" x2="${at}" y2="${bottom}" stroke="${GREY}" stroke-dasharray="4 3"/>`,
    );
    const label = `goal ${goal!.atMost === undefined ? "≥" : "≤"} ${formatNumber(bound)}`;
    text(Number(at), bottom + 14, label, 'text-anchor="middle" font-size="11"');
  }
  // Mid-grey letters without a background are readable on white and on black.
  return `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${WIDTH} ${height}" width="${WIDTH}" height="${height}" font-family="system-ui, sans-serif" font-size="13" fill="${GREY}">
${parts.join("\n")}
</svg>
`;
}
