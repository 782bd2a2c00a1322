/**
 * The rules that keep the parts apart, each with its *because*, as functions over (path, text), so that
 * test/architecture.test.ts can show every one of them failing on a planted violation.
 */

export interface SourceFile {
  /** From the project's root, with forward slashes. */
  readonly path: string;
  readonly text: string;
}

/** What a folder of runtime/ may import besides itself, and why no more. */
export interface Rule {
  readonly may: readonly string[];
  readonly because: string;
}

/** By folder, in the direction of dependence. Loose in runtime/ lie `main.ts` and `registry.ts` alone. */
export const layers: Readonly<Record<string, Rule>> = {
  kernel: { may: [], because: "everything stands on it, so it may stand on nothing" },
  wire: { may: ["kernel"], because: "a codec that knows who uses it cannot be tested with bytes alone" },
  config: {
    may: ["kernel", "wire"],
    because: "configuration is read before anything exists that it configures",
  },
  store: { may: ["kernel", "wire"], because: "rows do not know what they mean" },
  time: {
    may: ["kernel", "wire", "store"],
    because: "what is over is decided in one place, by clocks alone, and not by what it is that ends",
  },
  identity: {
    may: ["kernel", "wire", "store"],
    because: "who a node is must not depend on how it is reached",
  },
  link: {
    may: ["kernel", "wire", "identity"],
    because: "a link proves who is there and knows nothing of peers, routes or messages",
  },
  peer: {
    may: ["kernel", "wire", "link"],
    because: "peers own links; what is sent over them is decided above",
  },
  membership: {
    may: ["kernel", "wire", "store", "identity"],
    because: "facts about nodes do not depend on links, routes or mail",
  },
  trust: {
    may: ["kernel", "wire", "store", "time", "peer"],
    because: "what a node is worth is judged by what it did, not by what routes or mail want of it",
  },
  join: {
    may: ["kernel", "wire", "store", "time", "identity", "link", "membership", "peer"],
    because: "a newcomer has no routes and no mail yet, and must not need plugins to be tested",
  },
  channel: {
    may: ["kernel", "wire"],
    because:
      "what is heard on a shared channel is a hint: it must know of no link, route or mail that it could stand for",
  },
  route: {
    may: ["kernel", "wire"],
    because: "routing must work without a store, or a full disk would stop the mesh",
  },
  stream: {
    may: ["kernel", "wire", "identity", "link"],
    because: "streams ride on routed packets that are handed in, and never wait for the store",
  },
  custody: {
    may: ["kernel", "wire", "store", "time"],
    because: "mail is handed a carrier and a directory, so that it can be tested without links and routes",
  },
  mesh: {
    may: [
      ...["kernel", "wire", "store", "time", "identity", "link", "peer", "membership", "trust"],
      ...["channel", "join", "route", "stream", "custody"],
    ],
    because: "it joins the core, and the simulator runs it: no plugins, no API, no process around it",
  },
  forward: {
    may: ["kernel", "config", "stream"],
    because: "a forward joins sockets to streams and must not know how those get there",
  },
  plugin: {
    may: ["kernel", "config", "store", "identity"],
    because: "the host hands out doors that others implement; nothing below knows that plugins exist",
  },
  view: {
    may: [
      ...[
        "kernel",
        "wire",
        "config",
        "time",
        "identity",
        "membership",
        "trust",
        "route",
        "stream",
        "custody",
      ],
      ...["mesh", "forward", "plugin"],
    ],
    because: "it shows the living node and owns nothing of it, and what shows it further is above",
  },
  closed: {
    may: ["kernel", "wire", "time", "identity", "link", "peer", "mesh", "view"],
    because: "secrets and proofs of a closed mesh are a life of their own beside mail and plugins",
  },
  api: {
    may: ["kernel", "wire", "store", "view"],
    because: "the API sees the node only through view/contract, so that its tests need no node",
  },
  init: { may: ["kernel", "config"], because: "PID 1 must stay so small that it cannot fail" },
  registry: {
    may: ["kernel"],
    because: "the list of built-in plugins is a list; only the words of their schemas come before them",
  },
  node: {
    may: [
      ...[
        "kernel",
        "config",
        "store",
        "time",
        "identity",
        "link",
        "trust",
        "join",
        "custody",
        "mesh",
        "plugin",
      ],
      ...["view", "closed", "api", "registry"],
    ],
    because: "it composes and is composed by nobody but the command line",
  },
  cli: {
    may: [...["kernel", "wire", "config", "identity", "plugin", "view", "closed", "api", "init", "node"]],
    because: "a command talks to a node through its API, or starts one through node/",
  },
  main: { may: ["cli", "init", "plugin"], because: "main.ts chooses a personality and does nothing else" },
};

/**
 * Where what is coming will live, decided before it is there: `heal` (observe, analyse, plan, act) on kernel alone and
 * joined in node/; `coordinate` (quorum, eventual, roles) above custody; serial for plugins in sdk/src/serial; the web application
 * in web/ at the top, which imports nothing of runtime/.
 */
export const comingLayers: Readonly<Record<string, Rule>> = {
  heal: {
    may: ["kernel"],
    because: "healing observes and acts through what node/ hands it, so that its plans are pure",
  },
  coordinate: {
    may: ["kernel", "wire", "store", "identity", "custody"],
    because: "election and keys ride on delivery, never the other way round",
  },
};

/** Layer of a file in runtime/: its folder, or its name when it lies directly there. */
const layerOf = (path: string): string | undefined => /^runtime\/([^/]+?)(?:\.ts)?(?:\/|$)/.exec(path)?.[1];

export const isTest = (path: string): boolean =>
  /\.(test|suite)\.ts$|(^|\/)(testing(-[a-z-]+)?|suite|testkit)(\.ts|\/)/.test(path) ||
  path.startsWith("test/");

/** Every module specifier: static, side-effect, re-export, dynamic; types too, because a type is knowledge as well. */
export function importsOf(text: string): string[] {
  const found: string[] = [];
  const pattern =
    /^\s*(?:import|export)\b(?:[^;"'`]*?\bfrom)?\s*["']([^"'\n]+)["']|\bimport\s*\(\s*["'`]([^"'`\n]+)["'`]/gm;
  for (const match of text.matchAll(pattern)) found.push(match[1] ?? match[2]!);
  return found;
}

function resolveImport(from: string, specifier: string): string {
  if (!specifier.startsWith(".")) return specifier;
  const parts = from.split("/").slice(0, -1);
  for (const part of specifier.split("/")) {
    if (part === "..") parts.pop();
    else if (part !== ".") parts.push(part);
  }
  return parts.join("/");
}

/** Who imports whom. */
export function dependencyViolations(file: SourceFile): string[] {
  const { path } = file;
  if (isTest(path) && !path.startsWith("plugins/")) return [];
  return importsOf(file.text).flatMap((specifier) => {
    const target = resolveImport(path, specifier);
    const because = reasonAgainst(path, target, specifier);
    return because === undefined ? [] : [`${path} must not import ${specifier} because ${because}`];
  });
}

function reasonAgainst(path: string, target: string, specifier: string): string | undefined {
  if (path.startsWith("sdk/"))
    return /^(runtime|plugins|scripts|test)\//.test(target)
      ? "the SDK is what third parties get, without the runtime"
      : undefined;
  if (path.startsWith("plugins/")) {
    if (isTest(path) && specifier.startsWith("bun:")) return undefined;
    if (specifier === "@godwit/sdk/serial")
      return "the node opens serial ports for whoever asks, by ctx.serial";
    const own = path.split("/").slice(0, 2).join("/");
    const isOwn = specifier.startsWith(".") && target.startsWith(`${own}/`);
    const isForeign = specifier.startsWith(".") || /^(runtime|sdk|\/)/.test(specifier);
    return isOwn || !isForeign ? undefined : "built-in plugins use no door that third parties will not have";
  }
  if (path.startsWith("web/"))
    return /^(runtime|plugins|scripts|test)\//.test(target)
      ? "the web application speaks to a node by HTTP alone, like everybody's"
      : undefined;
  if (!path.startsWith("runtime/")) return undefined;
  // What `godwit install` writes is the very file that image builders copy.
  if (/^images\/systemd\/[\w.-]+\.(service|socket)$/.test(target)) return undefined;
  if (/^(scripts|test|images)\//.test(target)) return "the runtime must not need the tools that build it";
  if (target.startsWith("web/"))
    return "the web application is data to the runtime, embedded when it is built";
  const layer = layerOf(path);
  if (target.startsWith("plugins/"))
    return layer === "registry" ? undefined : "plugins are reached only through registry.ts";
  if (target.startsWith("sdk/")) return 'the SDK is imported by its name, "@godwit/sdk", like everybody does';
  const wanted = layerOf(target);
  if (layer === undefined || wanted === undefined || layer === wanted) return undefined;
  const rule = layers[layer] ?? comingLayers[layer];
  if (rule === undefined) return `runtime/${layer} stands in no layer of scripts/architecture.ts`;
  return rule.may.includes(wanted) ? undefined : rule.because;
}

/** An allowance that nothing uses would let the wrong import in unseen. `files` are all of runtime/. */
export function slackViolations(files: readonly SourceFile[], rules = layers): string[] {
  const used = new Set<string>();
  for (const { path, text } of files) {
    const layer = layerOf(path);
    if (layer === undefined || isTest(path)) continue;
    for (const specifier of importsOf(text)) used.add(`${layer} ${layerOf(resolveImport(path, specifier))}`);
  }
  return Object.entries(rules).flatMap(([layer, { may }]) =>
    may
      .filter((wanted) => !used.has(`${layer} ${wanted}`))
      .map((wanted) => `runtime/${layer} may import ${wanted} and does not: take the allowance away`),
  );
}

/** What lies loose in runtime/: two files, each for a reason of its own. */
export const looseViolations = (files: readonly SourceFile[]): string[] =>
  files
    .map(({ path }) => path)
    .filter((path) => /^runtime\/[^/]+$/.test(path) && !/^runtime\/(main|registry)\.ts$/.test(path))
    .map((path) => `${path} must not lie loose because every concern has a folder`);

/**
 * No circle, at any level: of what lies side by side in one folder (files and sub-folders), nothing leads back to itself.
 * So there is none of files, and none of folders.
 */
export function circleViolations(files: readonly SourceFile[]): string[] {
  const paths = new Set(files.map(({ path }) => path));
  /** By folder: what lies in it, and what of it imports what of it. */
  const levels = new Map<string, Map<string, Set<string>>>();
  for (const { path, text } of files) {
    if (isTest(path)) continue;
    for (const specifier of importsOf(text)) {
      const target = resolveImport(path, specifier);
      if (!paths.has(target)) continue;
      const from = path.split("/");
      const to = target.split("/");
      let depth = 0;
      while (from[depth] === to[depth] && depth < from.length) depth++;
      if (depth === from.length) continue;
      const folder = from.slice(0, depth).join("/");
      const arrows = levels.get(folder) ?? new Map<string, Set<string>>();
      levels.set(folder, arrows);
      arrows.set(from[depth]!, (arrows.get(from[depth]!) ?? new Set()).add(to[depth]!));
    }
  }
  return [...levels].flatMap(([folder, arrows]) =>
    circlesOf(arrows).map(
      (circle) =>
        `${folder}: ${circle.join(" -> ")} must not be a circle because none could be read or tested alone`,
    ),
  );
}

/** One circle of each knot, its first name again at its end. */
function circlesOf(arrows: ReadonlyMap<string, ReadonlySet<string>>): string[][] {
  const circles: string[][] = [];
  const done = new Set<string>();
  for (const start of arrows.keys()) {
    if (done.has(start)) continue;
    // Depth first, by hand: the way here, and what of each step is still to be tried.
    const way = [{ name: start, rest: [...(arrows.get(start) ?? [])] }];
    while (way.length > 0) {
      const next = way.at(-1)!.rest.pop();
      if (next === undefined) {
        done.add(way.pop()!.name);
        continue;
      }
      const at = way.findIndex(({ name }) => name === next);
      if (at >= 0) circles.push([...way.slice(at).map(({ name }) => name), next]);
      else if (!done.has(next)) way.push({ name: next, rest: [...(arrows.get(next) ?? [])] });
    }
  }
  return circles;
}

/** Where no seam may be passed by: pure code gets everything handed in. */
const isPure = (path: string): boolean =>
  /^runtime\/(wire\/|route\/decide[^/]*\.ts|heal\/plan[^/]*\.ts)/.test(path);

/** The places that are the seam, or stand outside of what is simulated. */
const mayTouchTheWorld = (path: string): boolean =>
  /^runtime\/(kernel\/(clock|random)\.ts|cli\/|init\/|main\.ts|api\/(?:server|http|turnstile)\.ts)/.test(
    path,
  );

const ambient: readonly { readonly pattern: RegExp; readonly name: string }[] = [
  {
    pattern: /\bDate\.now\s*\(|\bnew Date\b(?!\s*\()|\bnew Date\s*\(\s*\)|\bDate\s*\(\s*\)/,
    name: "the wall clock",
  },
  {
    pattern: /\b(?:setTimeout|setInterval|setImmediate)\s*\(|\bBun\.sleep|\bAbortSignal\.timeout\b/,
    name: "a timer",
  },
  {
    pattern: /\bperformance\s*\.\s*\w+|\bprocess\.(?:hrtime|uptime)\b|\bBun\.nanoseconds\b/,
    name: "a clock",
  },
  {
    pattern:
      /\bMath\.random\b|\bcrypto\.(?:randomUUID|getRandomValues)\b|\brandom(?:Bytes|FillSync|UUID|Int)\s*\(/,
    name: "randomness",
  },
  { pattern: /\bcrypto\s*\.\s*subtle\b|\bwebcrypto\b/, name: "crypto.subtle, which runs on threads" },
];

const transpiler = new Bun.Transpiler({ loader: "ts" });

/** Code without comments and types; what does not parse is left to the type checker. */
function codeOf(text: string): string {
  try {
    return transpiler.transformSync(text);
  } catch {
    return text;
  }
}

/** Time, randomness and threads come from outside, so that one seed can simulate a mesh. */
export function purityViolations(file: SourceFile): string[] {
  const { path } = file;
  if (isTest(path) || !path.startsWith("runtime/")) return [];
  const violations: string[] = [];
  if (!mayTouchTheWorld(path)) {
    const code = codeOf(file.text);
    for (const { pattern, name } of ambient)
      if (pattern.test(code))
        violations.push(
          `${path} must not use ${name} because one seed must be able to simulate a whole mesh`,
        );
  }
  if (isPure(path))
    for (const specifier of importsOf(file.text))
      if (/^(node:(?!crypto$|util$)|bun:|bun$)/.test(specifier))
        violations.push(
          `${path} must not import ${specifier} because it is pure: bytes and values in, values out`,
        );
  return violations;
}

/** Who may reckon with a wall clock: the two rules, what reads clocks, what runs beside no node's store, and what only shows times. */
const mayJudgeTime = (path: string): boolean => /^runtime\/(time|kernel|init|cli|view)\//.test(path);
/** A reading of the wall clock on either side of a comparison or a difference, or the bound of what a clock can be. */
const WALL_JUDGED =
  /\bwallMs(?:\(\))?\s*(?:[<>]=?|-)\s|\s(?:[<>]=?|-)\s*[\w.#]*\bwallMs\b|\bPLAUSIBLE_WALL_MS\b/;

/** One place says what is over: a second one would believe a clock for a reason of its own. */
export function wallClockViolations(file: SourceFile): string[] {
  const { path } = file;
  if (isTest(path) || !path.startsWith("runtime/") || mayJudgeTime(path)) return [];
  const match = WALL_JUDGED.exec(codeOf(file.text));
  if (match === null) return [];
  return [
    `${path} must not judge by a wall clock ("${match[0].trim()}") because runtime/time says what is over, by one rule for what grants and one for what protects`,
  ];
}

const LINES_MAX = 500;

/** Files of runtime/ past the limit, each with the reason why it is one idea. */
const longFiles: Readonly<Record<string, string>> = {};

export function sizeViolations(file: SourceFile): string[] {
  const { path, text } = file;
  if (!path.startsWith("runtime/") || !path.endsWith(".ts") || isTest(path)) return [];
  const lines = text.split("\n").length - 1;
  return lines > LINES_MAX && longFiles[path] === undefined
    ? [
        `${path} has ${lines} lines, more than ${LINES_MAX}: split it, or list it with the reason why it is one idea`,
      ]
    : [];
}

/** Written in pieces, so that this file does not contain what it looks for. */
const forbidden: readonly { readonly pattern: RegExp; readonly because: string; readonly only?: RegExp }[] = [
  {
    pattern: /https?:[/][/](?:registry|deb|pypi)[.][a-z]+/,
    because: "packages come from wherever the user's tools are set to, no host is ours to name",
  },
  {
    pattern: /[/][wf][oa]r[km][/](?:main|shared|steering|in|[.]l|[.]m)|bash[_]jobs|[.][.][/]shared/,
    because: "a path of the machine it was written on means nothing elsewhere",
  },
  { pattern: /sub[a]gent|DEVELOPERS[.]md/i, because: "the project speaks of Godwit alone" },
  {
    pattern: /\b(?:TO[D]O|FIX[M]E|X[X]X|HA[C]K)\b/,
    because: "what is left to do is an issue",
    only: /\.(ts|sh)$/,
  },
  {
    pattern: /\b(?:test|it|describe)[.](?:only|todo|skip)[(]/,
    because: "a test that does not run says why: skipIf, with [skipped: reason] in its name",
    only: /\.ts$/,
  },
  {
    // As it is left, or as a formatter of Markdown leaves it.
    pattern: /^(?:<{7} |>{7} |(?:> ){7}|={7}$)/m,
    because: "a merge is finished before it is committed",
  },
];

export function wordViolations(file: SourceFile): string[] {
  const { path, text } = file;
  if (path === "bun.lock") return [];
  return forbidden.flatMap(({ pattern, because, only }) => {
    if (only?.test(path) === false) return [];
    const match = pattern.exec(text);
    if (match === null) return [];
    const line = text.slice(0, match.index).split("\n").length;
    return [`${path}:${line} must not say "${match[0]}" because ${because}`];
  });
}

/** A group of wire numbers: the name of the exported object, or "constants" for single ones. */
export type WireNumbers = ReadonlyMap<string, ReadonlyMap<string, number>>;

/**
 * docs/registry.md: a heading with the group's name in back quotes, then table rows that begin with the number and the
 * name. A group of two modules may share a name: the heading then carries the module as well.
 */
export function parseRegistry(markdown: string): WireNumbers {
  const groups = new Map<string, Map<string, number>>();
  let group: Map<string, number> | undefined;
  for (const line of markdown.split("\n")) {
    const heading = /^#+ .*`([^`]+)`/.exec(line);
    if (heading !== null) {
      group = new Map();
      groups.set(heading[1]!, group);
    } else if (line.startsWith("#")) group = undefined;
    const row = /^\|\s*`?([0-9][0-9a-fx_,]*)`?\s*\|\s*`(\w+)`\s*\|/i.exec(line);
    if (row !== null && group !== undefined) group.set(row[2]!, Number(row[1]!.replace(/[_,]/g, "")));
  }
  return groups;
}

/** Both ways: a number without a line, and a line without its number. */
export function registryViolations(code: WireNumbers, page: WireNumbers): string[] {
  const violations: string[] = [];
  for (const [group, numbers] of code)
    for (const [name, value] of numbers) {
      const written = page.get(group)?.get(name);
      if (written !== value)
        violations.push(
          `docs/registry.md says ${written ?? "nothing"} of ${group} ${name}, the code says ${value}`,
        );
    }
  for (const [group, numbers] of page)
    for (const name of numbers.keys())
      if (code.get(group)?.has(name) !== true)
        violations.push(
          `docs/registry.md has ${group} ${name}, which is not in the code: retired numbers keep their line in both`,
        );
  for (const [group, numbers] of code) {
    const values = [...numbers.values()];
    if (group.includes(".ts ") && new Set(values).size !== values.length)
      violations.push(`${group} uses a number twice`);
  }
  return violations;
}
