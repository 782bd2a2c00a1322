/** The template of every kind passes as it is, and what engines and heal actions offer is listed and called on a real node. */
import { afterAll, beforeAll, expect, test } from "bun:test";
import { mkdir, readFile, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import type { LabNode } from "../../scripts/lab.ts";
import { sdkEntries } from "../../scripts/sdk.ts";
import { AuthorLab } from "./author-lab.ts";

const kinds = ["transport", "discovery", "service", "engine", "heal-action"] as const;
let lab: AuthorLab;
let node: LabNode;

beforeAll(async () => {
  lab = await AuthorLab.create({ isOffline: false });
});
afterAll(() => lab.close());

async function fine(words: string, cwd = lab.folder, more: readonly string[] = []): Promise<string> {
  const { code, out, err } = await lab.godwit(words, cwd, more);
  expect([words, code, code === 0 ? "" : err + out]).toEqual([words, 0, ""]);
  return out + err;
}
const config = () => ["--config", node.configPath];

test.each(kinds)("%s: new, check, test and pack without a touch", async (kind) => {
  await fine(`plugin new my-${kind} --kind ${kind}`);
  const folder = join(lab.folder, `my-${kind}`);
  await fine("plugin check", folder);
  expect(await fine("plugin test", folder)).toMatch(/\n 0 fail/);
  await fine("plugin pack .", folder);
  const manifest = JSON.parse(await readFile(join(folder, "godwit-plugin.json"), "utf8")) as { id: string };
  expect(manifest.id).toBe(`my-${kind}`);
});

test("every entry point of the SDK is found by check and by test in an author's folder", async () => {
  await fine("plugin new my-imports --kind service");
  const folder = join(lab.folder, "my-imports");
  const entries = Object.keys(sdkEntries);
  const imports = entries.map((name, at) => `import * as sdk${at} from "${name}";\n`).join("");
  const all = entries.map((_, at) => `sdk${at}`).join(", ");
  await writeFile(
    join(folder, "imports.test.ts"),
    `import { expect, test } from "bun:test";\n${imports}test("imports", () => {\n  for (const one of [${all}]) expect(Object.keys(one).length).toBeGreaterThan(0);\n});\n`,
  );
  await fine("plugin check", folder);
  expect(await fine("plugin test", folder)).toMatch(/\n 0 fail/);
});

test("code that is another plugin than its manifest says, or asks for more, does not pass check", async () => {
  await fine("plugin new my-heater --kind service");
  const folder = join(lab.folder, "my-heater");
  const source = join(folder, "index.ts");
  const good = await readFile(source, "utf8");
  for (const [from, to, says] of [
    [
      'id: "my-heater"',
      'id: "heating"',
      'its id is "heating" in the code and "my-heater" in godwit-plugin.json',
    ],
    [
      "permissions: []",
      'permissions: ["service.offer:temperature"]',
      'the code asks for "service.offer:temperature"; add it to permissions in godwit-plugin.json',
    ],
  ] as const) {
    await writeFile(source, good.replace(from, to));
    const { code, err } = await lab.godwit("plugin check", folder);
    expect([code, err]).toEqual([1, expect.stringContaining(says)]);
  }
});

test("a folder without a tsconfig.json of its own is checked and tested by the kit's", async () => {
  await fine("plugin new my-bare --kind service");
  const folder = join(lab.folder, "my-bare");
  await rm(join(folder, "tsconfig.json"));
  await fine("plugin check", folder);
  expect(await fine("plugin test", folder)).toMatch(/\n 0 fail/);
  await writeFile(join(folder, "wrong.ts"), "export const wrong: string = 1;\n");
  const { code, out, err } = await lab.godwit("plugin check", folder);
  expect([code, out + err]).toEqual([1, expect.stringMatching(/wrong\.ts\(1,14\): error TS2322/)]);
});

test("there is no sixth kind, and no name that is none", async () => {
  const wrong = await lab.godwit("plugin new x --kind router");
  expect([wrong.code, wrong.err]).toEqual([1, expect.stringContaining(kinds.toSorted().join(", "))]);
  for (const name of ["X", "../x", "a/b", "-x", "x".repeat(65)]) {
    const { code, err } = await lab.godwit(`plugin new --kind service -- ${name}`);
    expect([name, code, err]).toEqual([name, 1, expect.stringContaining("no name for a plugin")]);
  }
});

test("an engine and a heal action are listed and called, wherever they run", async () => {
  node = await lab.lab.add({ callsign: "OFF-A" });
  await node.start();
  const offers = join(lab.folder, "offers");
  await mkdir(offers);
  for (const kind of ["engine", "heal-action"]) await fine(`plugin new my-${kind} --kind ${kind}`, offers);
  // Something to heal.
  const source = join(offers, "my-heal-action/index.ts");
  const trouble = `ctx.spawn("trouble", async () => {
      for (const key of ["a", "b", "c"]) await ctx.storage.set(key, new Uint8Array(1));
    });
    ctx.heal.register({`;
  await writeFile(source, (await readFile(source, "utf8")).replace("ctx.heal.register({", trouble));
  for (const kind of ["engine", "heal-action"]) {
    const folder = join(offers, `my-${kind}`);
    const { out } = await lab.godwit("plugin pack .", folder);
    await fine(`plugin trust ${/publisher (\w{52})/.exec(out)![1]!}`, folder, config());
    await fine(`plugin add my-${kind}-0.1.0.gwp`, folder, config());
  }
  const refused = async (words: string) => {
    const { code, err } = await lab.godwit(`${words} --json`, lab.folder, config());
    return [code, (JSON.parse(err) as { code: string }).code];
  };
  for (const trust of ["trusted", "contained", "untrusted"] as const) {
    await node.reconfigure({
      extra: `[engines.keys]\ntype = "my-engine"\ntrust = "${trust}"\nkeys_max = 2\n[heal.prune]\ntype = "my-heal-action"\ntrust = "${trust}"\nkeep = 0\n`,
    });
    await fine("reload", lab.folder, config());
    const list = await fine("plugin list --running", lab.folder, config());
    expect(list).toMatch(/engine +keys +my-engine +running +eventual/);
    expect(list).toMatch(/heal-action +prune +my-heal-action +running +my-heal-action/);
    const { plugins } = await node.json<{ plugins: { namespace: string; guarantee: string | null }[] }>(
      "/mesh/plugins",
    );
    expect(plugins.filter(({ guarantee }) => guarantee !== null)).toMatchObject([{ namespace: "engine" }]);

    expect(await fine("engine put keys colour grey", lab.folder, config())).toBe("1\n");
    expect(await fine("engine get keys colour", lab.folder, config())).toBe("grey\n");
    expect(await refused("engine put keys colour white --expected 1")).toEqual([1, "GODWIT_ENGINE_UNABLE"]);
    expect(await refused("engine get keys shape")).toEqual([1, "GODWIT_NOT_FOUND"]);
    await fine("engine put keys shape round", lab.folder, config());
    expect(await refused("engine put keys size small")).toEqual([1, "GODWIT_QUEUE_FULL"]);

    expect(await fine("heal", lab.folder, config())).toContain("my-heal-action  drops keys");
    const dry = () => fine("heal run my-heal-action --dry-run", lab.folder, config());
    expect(await dry()).toBe("delete a\ndelete b\ndelete c\n");
    expect(await refused("heal run my-heal-action --steps 2")).toEqual([1, "GODWIT_HEAL_BUDGET"]);
    expect(await dry()).toBe("delete c\n");
    expect(await fine("heal run my-heal-action", lab.folder, config())).toBe("deleted c\n");
    expect(await dry()).toBe("there is nothing to do\n");
    expect(await refused("heal run no-such-action")).toEqual([1, "GODWIT_NOT_FOUND"]);
    // With the plugin gone, so is what it offered.
    await node.reconfigure({ extra: "" });
    await fine("reload", lab.folder, config());
    expect(await refused("engine get keys colour")).toEqual([1, "GODWIT_NOT_FOUND"]);
    expect(await refused("heal run my-heal-action")).toEqual([1, "GODWIT_NOT_FOUND"]);
  }
}, 60_000);
