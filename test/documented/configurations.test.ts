/**
 * Every TOML block of every page is a configuration as it stands, or says why it cannot be judged: <!-- not checked: why -->. Secrets that
 * it names are there.
 */
import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { existsSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { binaryPath } from "../../scripts/lab.ts";
import { run } from "../../scripts/lib.ts";
import { allPages, type Block, blocksOf, readPage } from "../../scripts/pages.ts";

const NOT_CHECKED = /^not checked: \S/;
const ID = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";
/** As 32 bytes in base64 it is a secret, a token and a key of Serf. */
const SECRET = Buffer.from(crypto.getRandomValues(new Uint8Array(32))).toString("base64");
/** What readers put in themselves. */
const words: Readonly<Record<string, string>> = {
  "<id that authority init printed>": ID,
  "<node id>": ID,
  "<onion address of one member>": "25njqamcweflpvkl73j4szahhihoc4xt3ktcgjnpaingr5yhkenl5sid.onion",
};

let folder: string;
beforeAll(() => void (folder = mkdtempSync(join(tmpdir(), "godwit-configurations-"))));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

/** Why a block is no configuration; undefined: it is one. */
async function faultOf({ text, comment = "" }: Block): Promise<string | undefined> {
  if (NOT_CHECKED.test(comment)) return undefined;
  let toml = text;
  for (const [word, meaning] of Object.entries(words)) toml = toml.replaceAll(word, meaning);
  // Files of the page stand below the folder, where this machine has none of its own.
  toml = toml.replaceAll(/"file:(\/[^"]+)"/g, (_, path: string) => {
    secret(join(folder, path));
    return `"file:${join(folder, path)}"`;
  });
  const credentials = join(folder, "credentials");
  for (const [, name] of toml.matchAll(/"credential:([^"]+)"/g)) secret(join(credentials, name!));
  const path = join(folder, "godwit.toml");
  writeFileSync(path, toml);
  const { code, output } = await run([binaryPath, "config", "check", "--config", path], {
    env: { PATH: process.env["PATH"], HOME: folder, CREDENTIALS_DIRECTORY: credentials },
  });
  return code === 0 ? undefined : output;
}

function secret(path: string): void {
  mkdirSync(dirname(path), { recursive: true });
  writeFileSync(path, SECRET, { mode: 0o600 });
}

const blocks = allPages().flatMap((page) =>
  blocksOf(readPage(page))
    .filter(({ language }) => language === "toml")
    .map((block): [string, Block] => [`${page}, line ${block.line}`, block]),
);

const isSkipped = !existsSync(binaryPath) && process.env["CI"] !== "true";
const suffix = isSkipped ? " [skipped: needs dist/godwit: bun run build]" : "";

describe.skipIf(isSkipped)(`what the pages tell to write is a configuration${suffix}`, () => {
  test.each(blocks)("%s", async (_, block) => expect(await faultOf(block)).toBeUndefined());

  test("a page that lies is found", async () => {
    expect(blocks.length).toBeGreaterThan(15);
    const toml = (text: string, comment = "") => blocksOf(`${comment}\n\`\`\`toml\n${text}\n\`\`\`\n`)[0]!;
    expect(await faultOf(toml("[node]\ncallsing = 'DUN-A'"))).toContain("callsing");
    expect(await faultOf(toml("[node]\ncallsing = 'DUN-A'", "<!-- not checked: -->"))).toContain("callsing");
    expect(await faultOf(toml("[network]\nauthority = '<somebody>'"))).toContain("somebody");
    expect(await faultOf(toml("[network]\nauthority = '<node id>'"))).toBeUndefined();
  });
});
