/** The manual page, judged by the two programs that show such pages. */
import { expect, test } from "bun:test";
import { manual } from "./manual.ts";
import { none, row } from "./row.ts";
import { commands } from "./table.ts";
import { runForTest } from "./testing.ts";

const page = async (...words: string[]) => {
  const { code, out, err } = await runForTest(["man", ...words]);
  expect([code, err]).toEqual([0, ""]);
  return out;
};

async function judged(
  command: readonly string[],
  text: string,
): Promise<{ code: number; said: string; out: string }> {
  const child = Bun.spawn([...command], {
    stdin: new TextEncoder().encode(text),
    stdout: "pipe",
    stderr: "pipe",
    env: { ...process.env, LANG: "C.UTF-8" },
  });
  const [out, said] = await Promise.all([
    new Response(child.stdout).text(),
    new Response(child.stderr).text(),
  ]);
  return { code: await child.exited, said: said.trim(), out };
}

test("each command and each of its options is told of", async () => {
  const out = await page();
  for (const { name, options, isHidden } of commands) {
    if (isHidden === true) continue;
    expect(out).toContain(`\\fBgodwit ${name.replaceAll("-", "\\-")}\\fR`);
    for (const option of Object.keys(options))
      expect(out).toContain(`\\-\\-${option.replaceAll("-", "\\-")}`);
  }
});

test("one command, those that begin with a word, and one that is none", async () => {
  expect(await page("send")).toMatch(/^\.TH GODWIT-SEND 1 [^]*\.SH SEE ALSO/);
  const tokens = await page("token");
  expect(tokens).toContain(".TH GODWIT-TOKEN 1 ");
  for (const name of ["new", "list", "revoke"]) expect(tokens).toContain(`\\fBgodwit token ${name}\\fR`);
  expect(await page("token", "new")).toContain(".TH GODWIT-TOKEN-NEW 1 ");
  expect((await runForTest(["man", "sned"])).err).toContain("did you mean send?");
});

test("what stands in the table is shown as it stands, whatever it begins with", () => {
  const summary = ".TH is no request, and 'this' and a\\b and --it neither";
  const load = () => Promise.reject(new Error("not called"));
  const made = manual([], "1", [row("x", "A-B", none, summary, load)]);
  expect(made).toContain("\n\\&.TH is no request");
  expect(made).toContain("a\\eb");
  expect(made).toContain("\\-\\-it");
  expect(made.match(/^\.TH /gm)).toHaveLength(1);
});

const pages = ["", "send", "token", "serf keys", "logs"];

test.skipIf(Bun.which("mandoc") === null)(
  `mandoc has nothing to say against it${Bun.which("mandoc") === null ? " [skipped: there is no mandoc here]" : ""}`,
  async () => {
    for (const name of pages) {
      const text = await page(...name.split(" ").filter((word) => word !== ""));
      expect(await judged(["mandoc", "-Tlint", "-Wwarning"], text)).toEqual({ code: 0, said: "", out: "" });
    }
  },
);

test.skipIf(Bun.which("groff") === null)(
  `groff has nothing to say against it, and shows it${Bun.which("groff") === null ? " [skipped: there is no groff here]" : ""}`,
  async () => {
    for (const name of pages) {
      const text = await page(...name.split(" ").filter((word) => word !== ""));
      const { code, said, out } = await judged(["groff", "-man", "-ww", "-z"], text);
      expect({ code, said, out }).toEqual({ code: 0, said: "", out: "" });
      const shown = await judged(["groff", "-man", "-Tascii", "-P-cbou"], text);
      expect(shown.out).toContain("--config PATH");
      expect(shown.out).toContain(`godwit ${name}`.trim());
    }
  },
);
