/**
 * `./scripts/image TARGET --out DIR [--arch x64|arm64]`: images that have Godwit in them. Each target is a file in
 * scripts/images/ and a row here; what they share is scripts/images/target.ts.
 */
import { mkdirSync } from "node:fs";
import { resolve } from "node:path";
import { parseArgs } from "node:util";
import { container } from "./images/container.ts";
import { initramfs } from "./images/initramfs.ts";
import { Steps } from "./steps.ts";
import { formatSizes, type ImageArch, type ImageTarget, sourceEpochS } from "./images/target.ts";

const targets: Readonly<Record<string, ImageTarget>> = { initramfs, container };

const shared = {
  out: { type: "string", help: "DIR  where the files go; made if missing" },
  arch: { type: "string", help: "x64|arm64  x64 by default" },
  json: { type: "boolean", help: "the sizes as one line of JSON" },
  help: { type: "boolean", help: "this text" },
} as const;

function usage(): string {
  const line = (name: string, help: string) => `    --${name} ${help}\n`;
  const rows = Object.entries(targets).map(
    ([name, { summary, options }]) =>
      `  ${name.padEnd(12)} ${summary}\n${Object.entries(options)
        .map(([option, { help }]) => line(option, help))
        .join("")}`,
  );
  return `usage: ./scripts/image TARGET --out DIR [options]\n${rows.join("")}  all\n${Object.entries(shared)
    .map(([name, { help }]) => line(name, help))
    .join(
      "",
    )}SOURCE_DATE_EPOCH sets the time of every file; without it the commit's. The same inputs give the same bytes.`;
}

async function main(argv: readonly string[]): Promise<number> {
  const name = argv.find((word) => !word.startsWith("-"));
  const target = name === undefined || !Object.hasOwn(targets, name) ? undefined : targets[name];
  if (target === undefined) {
    console.error(usage());
    return argv.includes("--help") ? 0 : 2;
  }
  const { values, positionals } = parseArgs({
    args: [...argv],
    options: { ...target.options, ...shared },
    allowPositionals: true,
  });
  if (values["help"] === true) {
    console.log(usage());
    return 0;
  }
  const { out, arch = "x64" } = values as { out?: string; arch?: string };
  if (out === undefined || positionals.length !== 1 || (arch !== "x64" && arch !== "arm64")) {
    console.error(usage());
    return 2;
  }
  const folder = resolve(out);
  mkdirSync(folder, { recursive: true });
  const isJson = values["json"] === true;
  const steps = new Steps(isJson ? undefined : process.stderr);
  const epochS = await sourceEpochS();
  const rows = await target
    .build({ arch: arch satisfies ImageArch, out: folder, epochS, values, steps })
    .finally(() => steps.end());
  if (isJson) console.log(JSON.stringify(rows));
  else console.log(`${folder}\n${formatSizes(rows).trimEnd()}`);
  return 0;
}

if (import.meta.main) {
  try {
    process.exitCode = await main(process.argv.slice(2));
  } catch (error) {
    console.error(error instanceof Error ? error.message : error);
    process.exitCode = 1;
  }
}
