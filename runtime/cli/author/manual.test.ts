import { beforeAll, describe, expect, test } from "bun:test";
import { writeKitModule } from "../../../scripts/sdk.ts";
import { permissionWords } from "../../plugin/permissions.ts";
import { runForTest } from "../testing.ts";
import type { KitFiles } from "./kit.ts";
import { lookUp, pagesOf, sectionsOf } from "./manual.ts";

const files: KitFiles = {
  "manual/one.md":
    "# One\n\nAll of it.\n\n## First `word`\n\ntext\n\n### Deeper\n\nnet.tcp.connect\n\n```sh\n# no heading\n```\n\n## Second\n\nnet.tcp here\n",
  "manual/two.md": "# Two\n\n## Deeper\n\nelse\n",
  "template/x.md": "# No page\n",
};

describe("the manual", () => {
  test("has pages by name, and of each the sections with what stands below them", () => {
    expect([...pagesOf(files)]).toEqual([
      ["one", "One"],
      ["two", "Two"],
    ]);
    expect(
      sectionsOf("one", files["manual/one.md"]!).map(({ heading, text }) => [
        heading,
        text.includes("# no heading"),
      ]),
    ).toEqual([
      ["First `word`", true],
      ["Deeper", true],
      ["Second", false],
    ]);
  });

  test("is found by a page, by a heading wherever it stands, by a part of one, and by a word of its own", () => {
    const found = (word: string) =>
      lookUp(files, word).sections.map(({ page, heading }) => `${page}: ${heading}`);
    expect(found("ONE")).toEqual(["one: One"]);
    expect(found("deeper")).toEqual(["one: Deeper", "two: Deeper"]);
    expect(found("first word")).toEqual(["one: First `word`"]);
    expect(found("secon")).toEqual(["one: Second"]);
    // Not where it is the beginning of another one.
    expect(found("net.tcp")).toEqual(["one: Second"]);
    expect(() => lookUp(files, "deepr")).toThrow("did you mean Deeper? Its pages: one, two");
  });
});

describe("godwit plugin docs", () => {
  beforeAll(() => writeKitModule(), 60_000);
  const docs = (...words: readonly string[]) => runForTest(["plugin", "docs", ...words]);

  test("lists its pages, and shows one", async () => {
    const { out } = await docs();
    for (const page of ["authors", "plugins", "guide", "sdk", "testkit", "tcp"])
      expect(out).toMatch(new RegExp(`^${page} +\\S`, "m"));
    expect((await docs("authors")).out).toStartWith("# Writing a plugin");
  });

  test("knows every permission, and what the SDK exports", async () => {
    const { out } = await docs("permissions");
    for (const word of permissionWords) expect(out).toContain(word);
    expect((await docs("DialTerms")).out).toContain("export interface DialTerms");
    expect(JSON.parse((await docs("withinTerms", "--json")).out)).toMatchObject({
      sections: [{ page: "sdk" }],
    });
  });

  test("says what it has where it has nothing of a word", async () => {
    const { code, err } = await docs("permisions");
    expect(code).toBe(1);
    expect(err).toContain("did you mean Permissions?");
  });
});
