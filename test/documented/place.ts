/**
 * What a page presumes, and the run of its blocks: machines on one network, what stands in them before the first block, and for single
 * blocks who types them, into which words of the page, and what has to be true afterwards.
 */
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { NetLab } from "../../scripts/netlab.ts";
import { type Block, blockOf, blocksOf, isShell } from "../../scripts/pages.ts";
import { HOME, PageMachine, type RunOptions } from "./machine.ts";

/** A block of the page that is not simply run, in the page's order. */
export interface Step {
  /** How the block begins. */
  readonly block: string;
  /** What is done before; the page's prose says it, or presumes it. */
  readonly given?: (place: Place) => Promise<void>;
  /** Words of the page that stand for others, like <id>. */
  readonly words?: (place: Place) => Promise<Readonly<Record<string, string>>>;
  /** What is typed into its commands. */
  readonly typed?: (place: Place) => Promise<string>;
  readonly stays?: RunOptions["stays"];
  readonly timeoutMs?: number;
  /** What is true afterwards; throws when it is not. */
  readonly after?: (place: Place, output: string) => Promise<void>;
}

export interface Given {
  /** Names of machines and their addresses on one network, 192.0.2.0/24; the first is the reader's. */
  readonly machines?: Readonly<Record<string, string>>;
  /** Where the reader types; by default at home. */
  readonly folder?: string;
  readonly before?: (place: Place) => Promise<void>;
  readonly steps?: readonly Step[];
}

export const ALONE = { here: "192.0.2.10" } as const;
/** <!-- on LON-B -->: the machine that a block is typed on, by default the page's first. */
const ON = /^on (\S.*)$/;

/** <!-- not run: needs a Raspberry Pi -->, or <!-- run by test/boot/boot.test.ts -->, which takes the block out of the page. */
const ELSEWHERE = /^(?:not run: \S.*|run by (\S+))$/;

export class Place {
  readonly #page: string;
  readonly #machines: ReadonlyMap<string, PageMachine>;
  readonly #ends: (() => unknown)[] = [];

  constructor(page: string, machines: ReadonlyMap<string, PageMachine>) {
    this.#page = page;
    this.#machines = machines;
  }

  /** Something beside the machines that ends with the page. */
  own(end: () => unknown): void {
    this.#ends.push(end);
  }

  async close(): Promise<void> {
    for (const end of this.#ends.splice(0).reverse()) await end();
  }

  /** By default the reader's. */
  machine(name?: string): PageMachine {
    const found = name === undefined ? [...this.#machines.values()][0] : this.#machines.get(name);
    if (found === undefined) throw new Error(`the page has no machine ${name}`);
    return found;
  }

  /** The block of the page that begins so, as it stands there. */
  block(start: string): string {
    return blockOf(this.#page, start);
  }

  /** A node of this name on the machine of the same name, which runs from now on; `toml` goes into its configuration. */
  async node(
    callsign: string,
    options: { readonly init?: string; readonly toml?: readonly string[] } = {},
  ): Promise<PageMachine> {
    const machine = this.machine(callsign);
    await machine.run(`godwit init --callsign ${callsign} ${options.init ?? ""}`);
    for (const toml of options.toml ?? []) configure(machine, toml);
    await machine.run("godwit run");
    // A node learns its addresses a moment after it answers.
    await machine.until(`godwit status | grep -q tcp://${machine.address}:`);
    return machine;
  }
}

const CONFIG = "/etc/godwit/godwit.toml";

/** Writes a table into the configuration of a machine; its keys go to those that are there under this name. */
export function configure(machine: PageMachine, toml: string): void {
  const [head = "", ...keys] = toml.trim().split("\n");
  const lines = machine.read(CONFIG).split("\n");
  const at = head.startsWith("[[") ? -1 : lines.indexOf(head);
  if (at < 0) lines.push("", toml);
  else lines.splice(at + 1, 0, ...keys);
  machine.write(CONFIG, lines.join("\n"));
}

/** The line that lets a node in, with its line break, as one types it. */
export async function invitation(member: PageMachine): Promise<string> {
  return await member.run("godwit invite --no-qr 2> /dev/null");
}

export async function idOf(machine: PageMachine): Promise<string> {
  return (await machine.run("godwit id 2> /dev/null")).trim();
}

/** Carries a file to the same place on another machine. */
export function carry(path: string, from: PageMachine, to: PageMachine): void {
  to.write(path, from.read(path), 0o600);
}

/** Runs all that a page says; answers what is wrong, none when it is true. Whatever comes behind a failure is not run. */
export async function runPage(page: string, given: Given = {}): Promise<string[]> {
  const blocks = blocksOf(page);
  const faults = blocks.filter(isShell).flatMap((block) => whyUnclear(block));
  const toRun = blocks.filter((block) => isShell(block) && !isElsewhere(block));
  const stepOf = new Map<Block, Step>();
  for (const step of given.steps ?? []) {
    const block = toRun.find((one) => one.text.startsWith(step.block) && !stepOf.has(one));
    if (block === undefined) faults.push(`no block of the page begins with ${step.block}`);
    else stepOf.set(block, step);
  }
  if (faults.length > 0 || toRun.length === 0) return faults;
  const lab = NetLab.create();
  const folder = await mkdtemp(join(tmpdir(), "godwit-documented-"));
  const machines = new Map<string, PageMachine>();
  const place = new Place(page, machines);
  try {
    const lan = lab.lan("wire");
    for (const [name, address] of Object.entries(given.machines ?? ALONE)) {
      const host = lab.host(name.toLowerCase());
      const port = lan.join(host);
      port.readdress({ ...port.addresses, v4: address });
      machines.set(name, await PageMachine.start(host, address, await mkdtemp(join(folder, "root-"))));
    }
    await place.machine().run(`cd ${given.folder ?? HOME}`);
    await given.before?.(place);
    for (const block of toRun) {
      const fault = await faultOf(block, stepOf.get(block), place, shownBehind(block, blocks));
      if (fault !== undefined) return [`line ${block.line}: ${fault}`];
    }
    for (const machine of machines.values()) await machine.quit();
    return [];
  } catch (error) {
    return [`around the blocks: ${error instanceof Error ? error.message : String(error)}`];
  } finally {
    await Promise.all([...machines.values()].map((machine) => machine.close()));
    await place.close();
    await lab.close();
    await rm(folder, { recursive: true, force: true });
  }
}

/** The file that runs a block instead of this suite, if one does. */
export const runnerOf = ({ comment = "" }: Block): string | undefined => ELSEWHERE.exec(comment)?.[1];

const isElsewhere = ({ comment = "" }: Block): boolean => /^(not run|run by)\b/.test(comment);

const whyUnclear = (block: Block): string[] =>
  isElsewhere(block) && !ELSEWHERE.test(block.comment!)
    ? [`line ${block.line}: why is it not run, or by whom? <!-- not run: why -->, <!-- run by FILE -->`]
    : [];

async function faultOf(
  block: Block,
  step: Step | undefined,
  place: Place,
  shown: string | undefined,
): Promise<string | undefined> {
  try {
    await step?.given?.(place);
    let script = block.text;
    for (const [word, meaning] of Object.entries((await step?.words?.(place)) ?? {})) {
      if (!script.includes(word)) return `the page does not say ${word}`;
      script = script.replaceAll(word, meaning);
    }
    const open = /<[a-z][\w -]*>/.exec(script)?.[0];
    if (open !== undefined) return `nobody says what ${open} stands for`;
    const { stays, timeoutMs } = step ?? {};
    const output = await place.machine(ON.exec(block.comment ?? "")?.[1]).run(script, {
      ...(step?.typed === undefined ? {} : { typed: await step.typed(place) }),
      ...(stays === undefined ? {} : { stays }),
      ...(timeoutMs === undefined ? {} : { timeoutMs }),
    });
    if (shown !== undefined) {
      const missing = unseen(shown, output);
      if (missing !== undefined) return `the page shows ${missing}\nbut it printed\n${output}`;
    }
    await step?.after?.(place, output);
    return undefined;
  } catch (error) {
    return `${error instanceof Error ? error.message : String(error)}\n${block.text}`;
  }
}

/** What the page shows as the answer to a block: the text that comes next, with nothing but prose between. */
function shownBehind(block: Block, blocks: readonly Block[]): string | undefined {
  const next = blocks[blocks.indexOf(block) + 1];
  return next?.language === "text" ? next.text : undefined;
}

/**
 * The first line of what is shown that was not printed; undefined: all was, in this order. Numbers, ids and times count by their kind, blanks
 * by being there, and "..." stands for anything.
 */
export function unseen(shown: string, printed: string): string | undefined {
  const lines = printed.split("\n").map(kind);
  let at = 0;
  for (const line of shown.split("\n").filter((one) => one.trim() !== "" && one.trim() !== "...")) {
    const parts = kind(line)
      .split("...")
      .map((part) => part.trim().replaceAll(/[.*+?^${}()|[\]\\]/g, String.raw`\$&`));
    const pattern = new RegExp(`^${parts.join(".*")}$`);
    const found = lines.findIndex((one, index) => index >= at && pattern.test(one));
    if (found < 0) return line;
    at = found + 1;
  }
  return undefined;
}

const kind = (line: string): string =>
  line
    .replaceAll(/\d{4}-\d\d-\d\dT[\d:.]+Z/g, "TIME")
    .replaceAll(/\b(?:[a-z2-7]{10}|[a-z2-7]{52}|[0-9a-f]{8,})\b/g, "ID")
    .replaceAll(/\d+(?:\.\d+(?![.\d]))?/g, "0")
    .replaceAll(/\s+/g, " ")
    .trim();
