import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { chmodSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { inspect } from "node:util";
import * as z from "zod/mini";
import { readSecret, Secret, type SecretBounds, secretField } from "./secret.ts";

let folder: string;
const bounds: SecretBounds = { bytesMin: 4, bytesMax: 32 };
const file = (text: string, mode = 0o600): string => {
  const path = join(folder, crypto.randomUUID());
  writeFileSync(path, text);
  chmodSync(path, mode);
  return `file:${path}`;
};
beforeAll(() => void (folder = mkdtempSync(join(tmpdir(), "godwit-secret-"))));
afterAll(() => rmSync(folder, { recursive: true }));

const textOf = (reference: string, env = {}): string => {
  const read = readSecret(reference, env, bounds);
  return read instanceof Secret ? read.revealText() : `found ${read.found}`;
};

describe("a secret", () => {
  test("never prints", () => {
    const secret = new Secret("correct horse");
    const all = [String(secret), secret + "", JSON.stringify({ secret }), Bun.inspect(secret)];
    expect([...all, inspect({ secret }, { depth: 9, showHidden: true })].join()).not.toMatch(
      /horse|99, ?111/,
    );
    expect(all[0]).toBe("[secret]");
  });

  test("copies what it is made of, a Buffer too, and what it reveals", () => {
    const lent = Buffer.from("lent bytes");
    const secret = new Secret(lent);
    lent.fill(0);
    secret.reveal().fill(0);
    expect(secret.revealText()).toBe("lent bytes");
    expect(secret.byteLength).toBe(10);
  });

  test("equals the same bytes alone, of whatever length", () => {
    const secret = new Secret("correct horse");
    for (const same of ["correct horse", Buffer.from("correct horse"), new Secret("correct horse")])
      expect(secret.equals(same)).toBe(true);
    for (const other of ["correct horsf", "correct horse ", "", undefined, new Secret("")])
      expect(secret.equals(other)).toBe(false);
  });

  test("keeps a byte order mark", () => expect(new Secret("\ufeffkey").revealText()).toBe("\ufeffkey"));
});

describe("a reference", () => {
  test.each(["LF\n", "CRLF\r\n", "none"])("to a file, one newline trimmed: %j", (text) => {
    expect(textOf(file(text.padStart(8, "x")))).toBe(
      text.trimEnd().padStart(8 - (text.length - text.trimEnd().length), "x"),
    );
  });

  test("two newlines are one of the secret's", () => expect(textOf(file("abcd\n\n"))).toBe("abcd\n"));

  test("to a variable, or to a credential that everybody may read", () => {
    expect(textOf("env:KEY", { KEY: "from the env\n" })).toBe("from the env");
    writeFileSync(join(folder, "cred"), "from a manager");
    chmodSync(join(folder, "cred"), 0o444);
    expect(textOf("credential:cred", { CREDENTIALS_DIRECTORY: folder })).toBe("from a manager");
    chmodSync(join(folder, "cred"), 0o446);
    expect(textOf("credential:cred", { CREDENTIALS_DIRECTORY: folder })).toContain("everybody");
    expect(textOf("credential:cred")).toContain("no CREDENTIALS_DIRECTORY");
    expect(textOf("credential:cred", { CREDENTIALS_DIRECTORY: "relative" })).toContain("no CREDENTIALS");
  });

  test("the longest is taken with its newline; one byte more is refused, never cut", () => {
    expect(textOf(file(`${"x".repeat(32)}\r\n`))).toBe("x".repeat(32));
    for (const text of ["x".repeat(33), "x".repeat(34), `${"x".repeat(33)}\n`, "x".repeat(5_000)])
      expect(textOf(file(text))).toContain("more than 32 bytes");
  });

  test.each([
    ["short", () => file("abc\n"), "with 3 bytes"],
    ["others may read", () => file("abcdefgh", 0o604), "everybody"],
    ["others may write", () => file("abcdefgh", 0o602), "everybody"],
    ["folder", () => `file:${folder}`, "not a plain file"],
    ["device", () => "file:/dev/zero", "not a plain file"],
    ["missing", () => `file:${folder}/none`, "ENOENT"],
    ["unset", () => "env:NOT_SET_ANYWHERE", "not set"],
    ["relative", () => "file:key", "not shown"],
    ["inline", () => "correct horse", "not shown"],
    ["out of the folder", () => "credential:../shadow", "not shown"],
    ["hidden credential", () => "credential:.hidden", "not shown"],
  ])("%s is refused in words without it", (_, reference, words) => {
    expect(textOf(reference())).toContain(words);
    expect(textOf(reference())).not.toContain("horse");
  });
});

describe("a field of options", () => {
  const schema = (env = {}) =>
    z.strictObject({
      key: z.optional(
        secretField(
          "a key of 4 to 32 bytes",
          { ...bounds, judge: (all) => (all[0] === 0x7b ? "with a brace" : undefined) },
          env,
        ),
      ),
    });

  test("yields the secret, or what is wrong with it and never what it was", () => {
    expect(schema({ K: "abcdef" }).parse({ key: "env:K" }).key!.revealText()).toBe("abcdef");
    expect(schema().parse({}).key).toBeUndefined();
    const wrong = (key: unknown, env = {}) =>
      schema(env).safeParse({ key }, { reportInput: true }).error!.issues[0]!;
    const inline = wrong("correct horse");
    expect(inline).toMatchObject({ path: ["key"], params: { isSecret: true } });
    expect(JSON.stringify(inline)).not.toContain("horse");
    expect(inline.message).toBe("expected a key of 4 to 32 bytes");
    expect((inline as { params?: { found: string } }).params!.found).toStartWith("something else");
    expect(wrong("env:K", { K: "{horse}" })).toMatchObject({ params: { found: "env:K with a brace" } });
    expect(wrong(5).message).toContain("env:NAME");
  });
});
