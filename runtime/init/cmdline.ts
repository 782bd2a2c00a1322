/**
 * The kernel's command line, as far as it speaks to Godwit: words `godwit.KEY=VALUE` become the variables that override the
 * configuration (runtime/config/env.ts), so that one schema judges both. Pure. Words of others are ignored; a `godwit.` word
 * that means nothing is reported and ignored, because a machine that runs is worth more than one that is right.
 *
 *     godwit.api=0.0.0.0:8000             a short key of the table below
 *     godwit.delivery.lifetime=24h        any key of the configuration by its path
 *     godwit.rescue                       a switch: true
 *     godwit.node.network="my mesh"       quotes as the kernel knows them; - and _ in keys are the same
 */

/** Beyond this a command line is no command line: COMMAND_LINE_SIZE is 2048 on x86 and arm64. */
const TEXT_CHARS_MAX = 65_536;
const WORDS_MAX = 1_024;

interface ShortKey {
  readonly variable: string;
  /** Given more than once, the values make a list. */
  readonly isList?: true;
  /** What else has to be said for it to count. */
  readonly implies?: Readonly<Record<string, string>>;
  readonly help: string;
}

/** Short keys. Everything else is a path: `godwit.SECTION.KEY`. docs/boot.md is checked against this table. */
export const shortKeys: Readonly<Record<string, ShortKey>> = {
  callsign: { variable: "GODWIT_NODE__CALLSIGN", help: "name of the machine, like DUN-A" },
  location: { variable: "GODWIT_NODE__LOCATION", help: "where it stands, for a node without callsign" },
  network: { variable: "GODWIT_NODE__NETWORK", help: "name of the mesh" },
  network_secret: {
    variable: "GODWIT_NODE__NETWORK_SECRET",
    help: "a reference file:/path to the network secret; never the secret itself",
  },
  log_level: { variable: "GODWIT_NODE__LOG_LEVEL", help: "debug, info, warn or error" },
  api: { variable: "GODWIT_API__LISTEN", help: "where the HTTP API listens, like 0.0.0.0:8000" },
  peer: {
    variable: "GODWIT_DISCOVERY__BOOT__PEERS",
    isList: true,
    implies: { GODWIT_DISCOVERY__BOOT__TYPE: "static" },
    help: "a neighbour to dial, like tcp://192.0.2.7:4860; may be given more than once",
  },
  join: { variable: "GODWIT_JOIN", help: "an invitation, for the first start" },
  config: {
    variable: "GODWIT_CONFIG",
    help: "the configuration file, instead of the places where it is looked for",
  },
  hostname: { variable: "GODWIT_MACHINE__HOSTNAME", help: "name of the machine on its networks" },
  state: {
    variable: "GODWIT_MACHINE__STATE",
    help: "the disk that keeps the node's state, like /dev/vda or LABEL=perm",
  },
  net: {
    variable: "GODWIT_MACHINE__NETWORK",
    isList: true,
    help: "one interface, like eth0=dhcp, eth1=192.0.2.5/24,192.0.2.1 or eth2=off; may be given more than once",
  },
  time: { variable: "GODWIT_MACHINE__TIME_SERVERS", isList: true, help: "a time server (SNTP) by address" },
  watchdog: { variable: "GODWIT_MACHINE__WATCHDOG", help: 'a duration like 60s, or "off"' },
  rescue: {
    variable: "GODWIT_MACHINE__RESCUE",
    help: "true: whoever sits at the console may act on the machine",
  },
};

export interface CommandLine {
  /** Variables for `loadConfig` and for the node. */
  readonly env: Readonly<Record<string, string>>;
  /** `godwit.` words that mean nothing, as they were written. */
  readonly unknown: readonly string[];
}

/** Never throws: whatever stands on a command line, the machine starts. */
export function parseCommandLine(text: string, sections: readonly string[]): CommandLine {
  const env: Record<string, string> = {};
  const unknown: string[] = [];
  for (const word of splitWords(text.slice(0, TEXT_CHARS_MAX))) {
    const match = /^godwit\.([^=]*)(?:=([\s\S]*))?$/.exec(word);
    if (match === null) continue;
    const key = match[1]!.replaceAll("-", "_").toLowerCase();
    const value = match[2] ?? "true";
    const short = Object.hasOwn(shortKeys, key) ? shortKeys[key] : undefined;
    const variable = short?.variable ?? variableOf(key, sections);
    if (variable === undefined || value === "" || value.includes("\0")) unknown.push(word);
    else {
      env[variable] = short?.isList === true ? appended(env[variable], value) : value;
      Object.assign(env, short?.implies);
    }
  }
  return { env, unknown };
}

/** `delivery.lifetime` is GODWIT_DELIVERY__LIFETIME; undefined where the first step is no section. */
function variableOf(key: string, sections: readonly string[]): string | undefined {
  const path = key.split(".");
  if (path.length < 2 || !sections.includes(path[0]!)) return undefined;
  return path.every((part) => /^[a-z0-9_]+$/.test(part))
    ? `GODWIT_${path.join("__").toUpperCase()}`
    : undefined;
}

/** Lists of the configuration are JSON in the environment. `before` is ours. */
function appended(before: string | undefined, value: string): string {
  const list = before === undefined ? [] : (JSON.parse(before) as string[]);
  return JSON.stringify([...list, value]);
}

/** As lib/cmdline.c of the kernel: words part at spaces outside of double quotes; a quote is no part of its word. */
function splitWords(text: string): string[] {
  const words: string[] = [];
  let word = "";
  let isQuoted = false;
  let hasWord = false;
  for (const char of text) {
    if (char === '"') {
      isQuoted = !isQuoted;
      hasWord = true;
    } else if (!isQuoted && /\s/.test(char)) {
      if (hasWord) words.push(word);
      if (words.length >= WORDS_MAX) return words;
      word = "";
      hasWord = false;
    } else {
      word += char;
      hasWord = true;
    }
  }
  if (hasWord) words.push(word);
  return words;
}
