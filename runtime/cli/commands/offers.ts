/** `godwit heal` and `godwit engine`: what plugins of a running node offer. */
import type { EngineEntryView, PluginRow } from "../../view/contract/plugins.ts";
import { godwitError } from "../../kernel/errors.ts";
import { segment } from "../client.ts";
import { type CommandContext, type CommandModule, exitCodes } from "../command.ts";
import { safeLine, safeText } from "../render.ts";
import { stateColumn, table } from "../table-text.ts";

const listPlugins = async (context: CommandContext) =>
  (await context.client()).call<{ plugins: PluginRow[] }>("GET", "/mesh/plugins");

/** `godwit plugin list --running` is it. */
export const running: CommandModule = {
  async run(context) {
    const { text, value } = await listPlugins(context);
    const rows = value.plugins.map(({ namespace, name, type, state, reason, guarantee, actions }) => [
      namespace,
      name,
      type,
      state,
      [reason, guarantee, ...actions.map((one) => one.name)].filter((part) => part !== null).join(", "),
    ]);
    const header = ["KIND", "NAME", "TYPE", stateColumn(), "WHY, OR WHAT IT OFFERS"];
    context.io.stdout(context.isJson ? `${text}\n` : table(header, rows, context.paint));
    return exitCodes.fine;
  },
};

export const healList: CommandModule = {
  async run(context) {
    const { value } = await listPlugins(context);
    const actions = value.plugins.flatMap((plugin) => plugin.actions);
    context.io.stdout(
      context.isJson
        ? `${JSON.stringify({ actions })}\n`
        : actions.length === 0
          ? "no plugin that runs here offers a heal action\n"
          : table(
              ["ACTION", "WHAT IT DOES"],
              actions.map(({ name, summary }) => [name, summary]),
              context.paint,
            ),
    );
    return exitCodes.fine;
  },
};

export const healRun: CommandModule = {
  async run(context) {
    const [action] = context.args;
    const json = {
      dry_run: context.isSet("dry-run"),
      ...numberOf(context, "steps", "steps"),
      ...numberOf(context, "timeout", "timeout_seconds"),
    };
    const timeoutMs = ((json as { timeout_seconds?: number }).timeout_seconds ?? 60) * 1_000 + 10_000;
    const answer = await (
      await context.client()
    ).call<{ steps: string[] }>("POST", `/heal/${segment(action!)}`, { json, timeoutMs });
    const { steps } = answer.value;
    const told = steps.length === 0 ? ["there is nothing to do"] : steps;
    context.io.stdout(
      context.isJson ? `${answer.text}\n` : told.map((step) => `${safeLine(step)}\n`).join(""),
    );
    return exitCodes.fine;
  },
};

function numberOf(context: CommandContext, option: string, key: string): Record<string, number> {
  const text = context.option(option);
  if (text === undefined) return {};
  if (!/^\d{1,6}$/.test(text))
    throw godwitError("GODWIT_USAGE", `--${option} is a whole number, not "${text}"`);
  return { [key]: Number(text) };
}

const keyPath = ([engine, key]: readonly string[]): string =>
  `/engines/${segment(engine!)}/keys/${segment(key!)}`;

function showEntry(context: CommandContext, text: string, entry: EngineEntryView): number {
  if (context.isJson) context.io.stdout(`${text}\n`);
  else context.io.stdout(`${safeText(Buffer.from(entry.value_base64, "base64").toString())}\n`);
  return exitCodes.fine;
}

export const engineGet: CommandModule = {
  async run(context) {
    const { text, value } = await (
      await context.client()
    ).call<EngineEntryView>("GET", keyPath(context.args));
    return showEntry(context, text, value);
  },
};

export const enginePut: CommandModule = {
  async run(context) {
    const expected = context.option("expected");
    const { text, value } = await (
      await context.client()
    ).call<EngineEntryView>("POST", keyPath(context.args), {
      json: {
        value_base64: Buffer.from(context.args[2]!).toString("base64"),
        ...(context.isSet("absent") ? { expected: null } : expected === undefined ? {} : { expected }),
      },
    });
    context.io.stdout(context.isJson ? `${text}\n` : `${safeLine(value.revision)}\n`);
    return exitCodes.fine;
  },
};
