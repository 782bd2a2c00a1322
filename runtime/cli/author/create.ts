/** `godwit plugin new`: a folder with a working plugin, its tests, and what its author must know. */
import { existsSync, mkdirSync } from "node:fs";
import { dirname, join } from "node:path";
import { SDK_VERSION } from "@godwit/sdk";
import { godwitError } from "../../kernel/errors.ts";
import { writeWhole } from "../../kernel/whole-file.ts";
import { type KitFiles, openKit, unpackKit } from "./kit.ts";

/** Kinds there is a template for, in the order in which the help lists them. */
export function kindsOf(files: KitFiles): string[] {
  const kinds = Object.keys(files).flatMap((path) => /^template\/([^/]+)\//.exec(path)?.[1] ?? []);
  return [...new Set(kinds)].filter((kind) => kind !== "common");
}

/** Answers the files that were written, relative to the folder. Throws GODWIT_REQUEST_INVALID. */
export async function createPlugin(parent: string, id: string, kind: string): Promise<string[]> {
  const { files } = await openKit();
  const kinds = kindsOf(files);
  if (!kinds.includes(kind))
    throw godwitError("GODWIT_REQUEST_INVALID", `there is no kind "${kind}"; there are ${kinds.join(", ")}`);
  // It is a scheme and part of metric names as well.
  if (!/^[a-z][a-z0-9-]{0,63}$/.test(id))
    throw godwitError(
      "GODWIT_REQUEST_INVALID",
      `"${id}" is no name for a plugin: a lower-case letter, then up to 63 of a-z, 0-9 and -`,
    );
  const folder = join(parent, id);
  if (existsSync(folder)) throw godwitError("GODWIT_REQUEST_INVALID", `${folder} is there already`);
  const written: string[] = [];
  for (const [path, text] of Object.entries(files)) {
    const [, of, name] = /^template\/([^/]+)\/(.+)$/.exec(path) ?? [];
    if (name === undefined || (of !== "common" && of !== kind)) continue;
    // A `.gitignore` in the template would hide files of the template.
    const target = join(folder, name === "gitignore" ? ".gitignore" : name);
    mkdirSync(dirname(target), { recursive: true });
    writeWhole(target, filled(text, id, kind), 0o666 & ~process.umask());
    written.push(name === "gitignore" ? ".gitignore" : name);
  }
  await unpackKit(folder);
  return written.sort();
}

const filled = (text: string, id: string, kind: string): string =>
  text
    .replaceAll("my-plugin", id)
    .replaceAll("MY_KIND", kind)
    .replaceAll("SDK_RANGE", `^${SDK_VERSION.replace(/-.*$/, "")}`);
