/** `godwit config check|schema|explain`: works without a node. */
import { type Config, loadConfig } from "../../config/load.ts";
import { configJsonSchema, explainConfig } from "../../config/explain.ts";
import { admitted } from "../../config/admits.ts";
import { safeText } from "../render.ts";
import { wrap } from "../table-text.ts";
import { type CommandContext, type CommandModule, exitCodes } from "../command.ts";

const INDENT = "    ";

const load = (context: CommandContext): Promise<Config> =>
  loadConfig({ path: context.option("config"), env: context.env });

export const check: CommandModule = {
  async run(context) {
    const config = await load(context);
    const { checkConfig } = await import("../../node/node.ts");
    const warnings = await checkConfig(config);
    const source = config.origin.path ?? "no file: defaults and environment";
    const admits = admitted({ ...config, authority: config.network.authority !== undefined });
    const found = {
      ok: true,
      path: config.origin.path ?? null,
      warnings,
      ...(admits.length === 0 ? {} : { admits }),
    };
    if (!context.isJson) for (const warning of warnings) context.io.stderr(`warning: ${safeText(warning)}\n`);
    const words = [`the configuration is fine (${source})`, ...admits.map((line) => `  ${line}`)];
    context.io.stdout(context.isJson ? `${JSON.stringify(found)}\n` : `${words.join("\n")}\n`);
    return exitCodes.fine;
  },
};

export const schema: CommandModule = {
  async run({ io, isJson }) {
    const document = configJsonSchema();
    io.stdout(`${isJson ? JSON.stringify(document) : JSON.stringify(document, null, 2)}\n`);
    return exitCodes.fine;
  },
};

export const explain: CommandModule = {
  async run(context) {
    const keys = explainConfig(context.args[0], await load(context));
    const { paint, io } = context;
    if (context.isJson) {
      io.stdout(`${JSON.stringify({ keys })}\n`);
      return exitCodes.fine;
    }
    for (const key of keys) {
      const from = key.source === "env" ? key.variable! : key.source;
      io.stdout(`${paint.bold(key.path)} = ${key.value ?? "(unset)"}  ${paint.dim(`from ${from}`)}\n`);
      const room = paint.columns === undefined ? undefined : paint.columns - INDENT.length;
      const told = (words: string, dress: (line: string) => string = (line) => line) =>
        io.stdout(
          wrap(words, room)
            .map((line) => `${INDENT}${dress(line)}\n`)
            .join(""),
        );
      told(key.meaning);
      told(`expects ${key.expected}`, paint.dim);
      if (key.default !== undefined) told(`default ${key.default}`, paint.dim);
      told(`takes effect ${key.effect}`, paint.dim);
    }
    return exitCodes.fine;
  },
};
