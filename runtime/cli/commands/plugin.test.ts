import { afterEach, beforeAll, beforeEach, describe, expect, test } from "bun:test";
import { existsSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { writeKitModule } from "../../../scripts/sdk.ts";
import { parsePermission, permissionWords } from "../../plugin/permissions.ts";
import { runForTest } from "../testing.ts";

let folder: string;
beforeEach(() => void (folder = mkdtempSync(join(tmpdir(), "godwit-plugin-"))));
afterEach(() => rmSync(folder, { recursive: true }));

const at = (...parts: readonly string[]): string => join(folder, ...parts);
const godwit = (...argv: readonly string[]) => runForTest(["plugin", ...argv, "--config", at("c.toml")]);
const manifest = {
  id: "gull",
  namespace: "service",
  version: "1.0.0",
  sdk: "^0.1.0",
  permissions: ["net.udp"],
  entry: "index.ts",
  config: { type: "object", properties: { word: { type: "string" } }, additionalProperties: false },
};

function writeFolder(entry = "index.ts", said: object = manifest): void {
  mkdirSync(at("gull"), { recursive: true });
  writeFileSync(at("gull", "godwit-plugin.json"), JSON.stringify({ ...manifest, entry }));
  writeFileSync(
    at("gull", "index.ts"),
    `import { word } from "./word.ts";\nexport default { ...${JSON.stringify(said)}, word, start() {} };\n`,
  );
  writeFileSync(at("gull", "word.ts"), 'export const word: string = "bundled";');
}

test("from a folder to an installed plugin and back; config check goes by its schema and its grants", async () => {
  writeFolder();
  const table = `[node]\nstate_dir = "${at("state")}"\n[services.gull]\ntype = "gull"\n`;
  writeFileSync(at("c.toml"), `${table}trust = "trusted"\n`);
  const file = at("gull.gwp");
  const packed = await godwit("pack", at("gull"), "--unchecked", "--key", at("key"), "--out", file, "--json");
  expect(packed.err).toBe("");
  const { publisher } = JSON.parse(packed.out) as { publisher: string };
  expect((await godwit("inspect", file)).out).toContain("asks for net.udp");
  expect((await godwit("add", file)).err).toContain(`godwit plugin trust ${publisher}`);
  expect((await godwit("trust", publisher)).code).toBe(0);
  expect((await godwit("add", file)).out).toBe('installed service "gull" 1.0.0\n');
  expect((await godwit("list")).out).toMatch(/^gull +1\.0\.0 +service$/m);

  const check = () => runForTest(["config", "check", "--config", at("c.toml")]);
  expect((await check()).err).toBe("");
  writeFileSync(at("c.toml"), `${table}grant = ["net.udp"]\n`);
  expect((await check()).err).toBe("");
  writeFileSync(at("c.toml"), `${table}grant = ["net.udp", "net.tcp"]\n`);
  expect((await check()).err).toContain("services.gull.grant[1]");
  writeFileSync(at("c.toml"), `${table.replace("gull", "t").replace("gull", "telex")}trust = "contained"\n`);
  expect((await check()).err).toContain("services.t.trust");
  writeFileSync(at("c.toml"), `${table}trust = "trusted"\nword = 3\n`);
  expect((await check()).err).toContain("services.gull.word");
  writeFileSync(at("c.toml"), `${table}trust = "trusted"\nwurd = "x"\n`);
  expect((await check()).err).toContain("services.gull.wurd");

  expect((await godwit("remove", "gull")).code).toBe(0);
  expect((await godwit("remove", "gull")).code).toBe(1);
  expect((await check()).err).toContain("services.gull.type");
});

const pack = (...more: readonly string[]) =>
  godwit("pack", at("gull"), "--unchecked", "--key", at("key"), "--out", at("x.gwp"), ...more);

test("an entry outside the folder, or one that does not bundle, is not packed", async () => {
  writeFileSync(at("c.toml"), "");
  for (const entry of ["../word.ts", "/etc/hostname", "none.ts"]) {
    writeFolder(entry);
    const { code, err } = await pack();
    expect([entry, code, err.includes("lies outside") || err.includes("cannot bundle")]).toEqual([
      entry,
      1,
      true,
    ]);
  }
});

test.each([
  [{ id: "tern" }, ['"tern" in the code', '"gull" in godwit-plugin.json']],
  [{ namespace: "discovery" }, ['"discovery" in the code', '"service" in godwit-plugin.json']],
  [
    { permissions: ["net.udp", "service.offer:temperature"] },
    ['the code asks for "service.offer:temperature"; add it to permissions in godwit-plugin.json'],
  ],
  [{ permissions: [] }, ['godwit-plugin.json asks for "net.udp" and the code does not']],
  [{ config: undefined }, ["does not export a plugin by default"]],
])("code that is not what its manifest says is not packed: %j", async (change, says) => {
  writeFileSync(at("c.toml"), "");
  writeFolder("index.ts", { ...manifest, ...change });
  const { code, err } = await pack();
  expect(code).toBe(1);
  for (const words of says) expect(err).toContain(words);
  // What is not packed needs no signature either.
  expect([existsSync(at("x.gwp")), existsSync(at("key"))]).toEqual([false, false]);
});

test("code that cannot be loaded here is packed, and it is said that nobody compared it", async () => {
  writeFileSync(at("c.toml"), "");
  writeFolder();
  writeFileSync(at("gull", "index.ts"), 'throw new Error("no such radio");');
  const { code, err } = await pack();
  expect([code, existsSync(at("x.gwp"))]).toEqual([0, true]);
  expect(err).toContain("was not compared with godwit-plugin.json: no such radio");
});

test("pack says that it made a key, where, and what names another, and nothing where one is there", async () => {
  writeFileSync(at("c.toml"), "");
  writeFolder();
  const first = await pack();
  expect(first.out).toContain(`made the key ${at("key")}:`);
  expect(first.out).toContain("--key");
  const second = await pack();
  expect(second.out).toBe(first.out.replace(/^made the key .*\n/m, ""));
  expect(JSON.parse((await pack("--json")).out)).toMatchObject({ key: at("key"), key_created: false });
  rmSync(at("key"));
  expect(JSON.parse((await pack("--json")).out)).toMatchObject({ key: at("key"), key_created: true });
});

test("a folder without a plugin is named once, with what to do", async () => {
  writeFileSync(at("c.toml"), "");
  writeFileSync(at("gull.gwp"), "");
  for (const [command, where] of [
    ["check", at("none")],
    ["test", folder],
    ["dev", at("none")],
    ["pack", at("none")],
    ["pack", at("gull.gwp")],
  ] as const) {
    const { code, err } = await godwit(command, where);
    expect([command, code]).toEqual([command, 1]);
    expect(err).toContain("name the folder of a plugin, or begin one with godwit plugin new");
    expect(err.split(where)).toHaveLength(2);
  }
  const missing = await godwit("inspect", at("none.gwp"));
  expect([missing.code, missing.err.split(at("none.gwp")).length]).toEqual([1, 2]);
});

test("check and test say of a program that they are for TypeScript, and what to do instead", async () => {
  writeFileSync(at("c.toml"), "");
  mkdirSync(at("gull"));
  writeFileSync(
    at("gull", "godwit-plugin.json"),
    JSON.stringify({ ...manifest, runtime: "exec", entry: "gull.py" }),
  );
  for (const command of ["check", "test"]) {
    const { code, err } = await godwit(command, at("gull"));
    expect([command, code]).toEqual([command, 1]);
    for (const words of ["is a program", "TypeScript", "godwit plugin pack", "--trust untrusted"])
      expect(err).toContain(words);
  }
  expect((await pack()).err).toContain("the entry of godwit-plugin.json: ENOENT");
  writeFileSync(at("gull", "gull.py"), "import socket");
  expect((await pack()).code).toBe(0);
});

describe("what an operator would find out is refused by check and by pack", () => {
  beforeAll(() => writeKitModule(), 60_000);
  const TESTED = "export const serviceConformance = (): void => {};\nserviceConformance();\n";
  const refusals = async (...more: readonly string[]) => {
    const answers = [];
    for (const argv of [
      ["check", at("gull")],
      ["pack", at("gull"), "--key", at("key"), "--out", at("x.gwp"), ...more],
    ]) {
      const { code, err } = await godwit(...argv);
      answers.push({ code, err });
    }
    expect([existsSync(at("x.gwp")), existsSync(at("key"))]).toEqual([false, false]);
    return answers;
  };
  beforeEach(() => {
    writeFileSync(at("c.toml"), "");
    writeFolder();
    writeFileSync(at("gull", "index.test.ts"), TESTED);
  });

  test("a permission that means nothing, with the one that was meant or the form of it", async () => {
    for (const [permission, says] of [
      ["net.tpc", '"net.tpc" is none; did you mean net.tcp?'],
      ["broker.connect", '"broker.connect" is to be broker.connect:HOST:PORT'],
      ["files.read:relative", '"files.read:relative" is to be files.read:/PATH'],
    ]) {
      const said = { ...manifest, permissions: [permission] };
      writeFileSync(at("gull", "godwit-plugin.json"), JSON.stringify(said));
      writeFileSync(at("gull", "index.ts"), `export default { ...${JSON.stringify(said)}, start() {} };\n`);
      for (const { code, err } of await refusals("--unchecked")) {
        expect(code).toBe(1);
        expect(err).toContain(says!);
      }
    }
  });

  test("types that are wrong, in the compiler's words", async () => {
    writeFileSync(at("gull", "word.ts"), "export const word: string = 3;");
    for (const { code, err } of await refusals()) {
      expect(code).toBe(1);
      expect(err).toContain("the types are not right");
      expect(err).toContain("word.ts");
    }
  });

  test("no test that runs the suite of its kind; one in node_modules is none", async () => {
    writeFileSync(at("gull", "index.test.ts"), "export {};\n");
    mkdirSync(at("gull", "node_modules/other"), { recursive: true });
    writeFileSync(at("gull", "node_modules/other/x.test.ts"), TESTED);
    for (const { code, err } of await refusals()) {
      expect(code).toBe(1);
      expect(err).toContain(
        "runs the service conformance suite: call serviceConformance of @godwit/sdk/testkit",
      );
    }
  });

  test("nothing of that: check says so, and pack packs the folder it stands in, with nothing but its answer on standard output", async () => {
    expect((await godwit("check", at("gull"))).out).toBe(
      '"gull" 1.0.0: the manifest and the types are right\n',
    );
    const before = process.cwd();
    process.chdir(at("gull"));
    try {
      const { code, out, err } = await godwit("pack", "--key", at("key"), "--json");
      expect([code, err]).toEqual([0, ""]);
      expect(JSON.parse(out)).toMatchObject({ path: "gull-1.0.0.gwp" });
      expect(existsSync(at("gull", "gull-1.0.0.gwp"))).toBe(true);
    } finally {
      process.chdir(before);
    }
  });
});

test("every permission that is named with its form means something", () => {
  for (const form of permissionWords) {
    const text = form
      .replace("PORT", "4870")
      .replace("HOST", "example.org")
      .replace("/PATH", "/srv")
      .replace("NAME", "position");
    expect([form, parsePermission(text)?.kind]).toEqual([form, form.split(":")[0] as never]);
  }
});
