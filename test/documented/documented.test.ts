/**
 * Every shell block of README and docs/ is typed, in the page's order, on machines that are thrown away. What a page presumes stands in
 * given/, a file for a page; a block that cannot be run says so in the page: <!-- not run: why -->.
 */
import { describe, expect, test } from "bun:test";
import { existsSync, readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { binaryPath } from "../../scripts/lab.ts";
import { root } from "../../scripts/lib.ts";
import { whyNoNetLab } from "../../scripts/netlab.ts";
import { blocksOf, documents, isShell, readPage } from "../../scripts/pages.ts";
import { type Given, runnerOf, runPage, unseen } from "./place.ts";

const PAGE_MS = 180_000;
const folder = join(import.meta.dir, "given");
const why = existsSync(binaryPath) ? whyNoNetLab() : "needs dist/godwit: bun run build";
/** In CI a machine that cannot is a failure. */
const isSkipped = why !== undefined && process.env["CI"] !== "true";
const suffix = isSkipped ? ` [skipped: ${why}]` : "";

/** given/README.ts is for README.md, given/protocol-http.ts for docs/protocol/http.md. */
const fileOf = (page: string): string =>
  page
    .replace(/^docs\//, "")
    .replace(/\.md$/, "")
    .replaceAll("/", "-");

async function givenFor(page: string): Promise<Given> {
  const path = join(folder, `${fileOf(page)}.ts`);
  return existsSync(path) ? ((await import(path)) as { given: Given }).given : {};
}

const pages = documents().filter((page) => blocksOf(readPage(page)).some(isShell));

describe.skipIf(isSkipped)(`what the pages tell to type does what they say${suffix}`, () => {
  test.each(pages)(
    "%s",
    async (page) => expect(await runPage(readPage(page), await givenFor(page))).toEqual([]),
    PAGE_MS,
  );
});

test("who runs a block instead takes it out of the page", () => {
  const runners = pages.flatMap((page) =>
    blocksOf(readPage(page)).flatMap((block) => {
      const path = runnerOf(block);
      return isShell(block) && path !== undefined ? [{ page, path, block }] : [];
    }),
  );
  expect(runners.length).toBeGreaterThan(0);
  for (const { page, path, block } of runners) {
    const code = readFileSync(join(root, path), "utf8");
    const taken = [...code.matchAll(/blockOf\((?:page|readPage\("([^"]+)"\)), "([^"]+)"\)/g)];
    expect(code).toContain(`readPage("${page}")`);
    expect(taken.some(([, , start]) => block.text.startsWith(start!))).toBe(true);
  }
});

test("all that is given is for a page", () => {
  const names = pages.map(fileOf);
  expect(readdirSync(folder).filter((name) => !names.includes(name.replace(/\.ts$/, "")))).toEqual([]);
});

describe.skipIf(isSkipped)(`a page that lies is found${suffix}`, () => {
  const sh = (text: string) => `Do this:\n\n\`\`\`sh\n${text}\n\`\`\`\n`;
  const lies: readonly (readonly [string, RegExp, string, Given?])[] = [
    ["a command that fails", /no node answers/, sh("godwit init --callsign DUN-A\ngodwit status")],
    ["a failure in the middle", /nowhere/, sh("cat /nowhere | sort\ntrue")],
    ["a file that is not there", /scripts\/nothing/, sh("cd /root/godwit\n./scripts/nothing --here")],
    [
      "a block that gives no reason",
      /why is it not run/,
      sh("true").replace("```sh", "<!-- not run: -->\n\n```sh"),
    ],
    ["what is shown is not printed", /3 nodes/, `${sh("echo 3 peers")}\n\`\`\`text\n3 nodes\n\`\`\`\n`],
    ["something to fill in that nobody gives", /<id>/, sh("echo <id>")],
    ["a step for a block that is gone", /begins with false/, sh("true"), { steps: [{ block: "false" }] }],
    [
      "a node that does not start",
      /wrong\.toml/,
      sh("echo 'nonsense' > wrong.toml\ngodwit run --config wrong.toml"),
    ],
    ["a program that fails", /nothing|exit 3/, sh("#!/bin/sh\nexit 3")],
  ];
  test.each(lies)(
    "%s",
    async (_, reason, page, given = {}) =>
      expect(await runPage(page, given)).toEqual([expect.stringMatching(reason)]),
    PAGE_MS,
  );

  test(
    "and one that does not is not",
    async () => {
      const page = `${sh("TOKEN=1 && cd /usr\necho 17 peers, id ea63dl6edw7yi73j")}
\`\`\`text
...
3 peers,   ...
\`\`\`

${sh("[ $PWD$TOKEN = /usr1 ]\n[ ! -e /etc/godwit ] # nobody's")}`;
      expect(await runPage(page)).toEqual([]);
    },
    PAGE_MS,
  );
});

test("what is shown is compared by kinds", () => {
  expect(unseen("delivered in 0.3 s by A > B", "  delivered in 12.25 s by A  > B\n")).toBeUndefined();
  expect(unseen("a\nb", "b\na\n")).toBe("b");
  expect(unseen("at 2026-01-01T00:00:00.000Z", "at 2031-12-24T18:00:00.123Z")).toBeUndefined();
  expect(unseen("a (1)", "a 1")).toBe("a (1)");
});
