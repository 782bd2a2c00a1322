/**
 * `godwit completion bash|zsh|fish` prints what a shell needs to complete; at each Tab that asks `godwit complete -- WORDS`, which knows the table of
 * commands and, where a node runs, its names, messages and plugins. It is silent about whatever does not work: a Tab is no place for an error.
 */
import type { MemberView, NameView } from "../../view/contract/node.ts";
import { godwitError } from "../../kernel/errors.ts";
import type { ApiClient } from "../client.ts";
import { type CommandContext, type CommandModule, type CommandSpec, exitCodes } from "../command.ts";
import { safeText } from "../render.ts";

const GLOBAL_OPTIONS = ["--help", "--json", "--config", "--socket"];
/** Waited for a node that is busy; who presses Tab waits no longer. */
const ANSWER_MS = 1_000;
const SHOWN_MAX = 200;

/** bash and zsh are given one candidate a line; what a terminal or a shell would act on never gets there. */
const SCRIPTS: Readonly<Record<string, string>> = {
  bash: `_godwit() {
  local IFS=$'\\n'
  COMPREPLY=($(godwit complete -- "\${COMP_WORDS[@]:1:COMP_CWORD}" 2>/dev/null))
  [ \${#COMPREPLY[@]} -gt 0 ] || compopt -o default
}
complete -F _godwit godwit
`,
  zsh: `#compdef godwit
_godwit() {
  local -a found
  found=("\${(@f)$(godwit complete -- "\${(@)words[2,CURRENT]}" 2>/dev/null)}")
  if [[ -n "$found" ]]; then compadd -- $found; else _files; fi
}
compdef _godwit godwit
`,
  fish: `complete -c godwit -a '(godwit complete -- (commandline -opc)[2..-1] (commandline -ct) 2>/dev/null)'
`,
};

export const completion: CommandModule = {
  run({ args, io }) {
    const script = SCRIPTS[args[0]!];
    if (script === undefined)
      throw godwitError(
        "GODWIT_USAGE",
        `"${args[0]}" is none of ${Object.keys(SCRIPTS).join(", ")}: godwit completion bash > /etc/bash_completion.d/godwit`,
      );
    io.stdout(script);
    return Promise.resolve(exitCodes.fine);
  },
};

export const complete: CommandModule = {
  async run(context) {
    const before = context.args.slice(0, -1);
    const begun = context.args.at(-1) ?? "";
    const found = (await candidates(context, before, begun)).filter((word) => word.startsWith(begun));
    const lines = [...new Set(found)].slice(0, SHOWN_MAX).filter((word) => /^[\w@./:+,=-]+$/.test(word));
    context.io.stdout(lines.map((word) => `${safeText(word)}\n`).join(""));
    return exitCodes.fine;
  },
};

async function candidates(
  context: CommandContext,
  before: readonly string[],
  begun: string,
): Promise<string[]> {
  const shown = context.commands.filter(({ isHidden }) => isHidden !== true);
  const words = before.filter((word) => !word.startsWith("-"));
  const command = commandOf(shown, words.slice(0, 2).join(" ")) ?? commandOf(shown, words[0] ?? "");
  const below = words.length === 1 ? shown.flatMap(({ name }) => secondOf(name, words[0]!)) : [];
  if (begun.startsWith("-"))
    return [...Object.keys(command?.options ?? {}).map((name) => `--${name}`), ...GLOBAL_OPTIONS];
  if (words.length === 0) return shown.map(({ name }) => name.split(" ")[0]!);
  if (command === undefined) return below;
  const option = before.at(-1)?.startsWith("--") === true ? before.at(-1)!.slice(2) : undefined;
  const value = option === undefined ? undefined : command.options[option]?.value;
  const given = words.length - command.name.split(" ").length;
  const place = value ?? command.args.split(" ")[given]?.replace(/^\[|\]$/g, "");
  return [...below, ...(place === undefined ? [] : await live(context, place, command))];
}

const commandOf = (of: readonly CommandSpec[], name: string): CommandSpec | undefined =>
  of.find((row) => row.name === name);

const secondOf = (name: string, first: string): string[] => {
  const [one, two] = name.split(" ");
  return one === first && two !== undefined ? [two] : [];
};

const WORDS: Readonly<Record<string, readonly string[]>> = {
  LEVEL: ["unknown", "member", "trusted", "blocked"],
  STATE: ["alive", "suspect", "failed", "left"],
  SHELL: ["bash", "zsh", "fish"],
  SCOPE: ["read", "send", "operate", "admin"],
  "0..3": ["0", "1", "2", "3"],
};

/** What may stand in a place of this name; of the node where it is of the mesh. */
async function live(
  context: CommandContext,
  place: string,
  command: CommandSpec,
): Promise<readonly string[]> {
  // `list|install|use|remove` says by itself what may stand there.
  const fixed =
    WORDS[place] ??
    (place.includes("|") ? place.split("|").filter((word) => /^[a-z]+$/.test(word)) : undefined);
  if (fixed !== undefined) return fixed;
  const ask = async <T>(path: string): Promise<T | undefined> => {
    try {
      const client: ApiClient = await context.client();
      return (await client.call<T>("GET", path, { timeoutMs: ANSWER_MS })).value;
    } catch {
      return undefined;
    }
  };
  if (place.startsWith("COMMAND")) return context.commands.map(({ name }) => name.split(" ")[0]!);
  if (place === "NODE" || place === "ADDRESS") {
    const { names = [] } = (await ask<{ names: NameView[] }>("/mesh/names")) ?? {};
    const { members = [] } = (await ask<{ members: MemberView[] }>("/mesh/members")) ?? {};
    const called = members.flatMap(({ callsign }) => (callsign === null ? [] : [callsign]));
    return [...names.map(({ name }) => name), ...called];
  }
  if (place === "NAME" && command.name.startsWith("names ")) {
    const { names = [] } = (await ask<{ names: NameView[] }>("/mesh/names")) ?? {};
    return names.map(({ name }) => name);
  }
  if (place.startsWith("ID") && /^(?:inbox|outbox|message)/.test(command.name)) {
    const box = command.name.startsWith("inbox") ? "inbox" : "outbox";
    const { messages = [] } = (await ask<{ messages: { id: string }[] }>(`/messages?box=${box}`)) ?? {};
    return messages.map(({ id }) => id);
  }
  if (place === "ID" && command.name === "token revoke") {
    const { tokens = [] } = (await ask<{ tokens: { id: string }[] }>("/tokens")) ?? {};
    return tokens.map(({ id }) => id);
  }
  return [];
}
