import { afterEach, beforeEach, describe, expect, test } from "bun:test";
import { mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { Plugin, PluginContext } from "@godwit/sdk";
import fc from "fast-check";
import { generateIdentity, type Identity } from "../../identity/keys.ts";
import { asGodwitError } from "../../kernel/errors.ts";
import { seededRandom } from "../../kernel/random.ts";
import { builtinPlugins } from "../../registry.ts";
import {
  installedPlugins,
  installPackage,
  listInstalled,
  readPackage,
  removeInstalled,
  trustPublisher,
} from "../installed.ts";
import { decodePackage, encodePackage, parseManifest } from "./package.ts";

const publisher = generateIdentity(seededRandom(1));
const stranger = generateIdentity(seededRandom(2));
const base = {
  id: "gull",
  namespace: "service",
  version: "1.0.0",
  sdk: "^0.1.0",
  permissions: ["net:udp"],
  entry: "index.ts",
  config: {
    type: "object",
    properties: { word: { type: "string" } },
    required: ["word"],
    additionalProperties: false,
  },
};
const utf8 = (value: unknown) =>
  new TextEncoder().encode(typeof value === "string" ? value : JSON.stringify(value));
const codeSaying = (word: string, id = "gull") => `import { definePlugin, GodwitError } from "@godwit/sdk";
const config = { "~standard": { version: 1, vendor: "gull", validate: (value) => ({ value }) } };
export default definePlugin({ id: "${id}", namespace: "service", sdk: "^0.1.0", config, permissions: [],
  start(ctx, { word }) { ctx.said("${word} " + word + " " + typeof GodwitError); } });`;
const make = (manifest: object = {}, code = codeSaying("one"), by: Identity = publisher) =>
  encodePackage(utf8({ ...base, ...manifest }), utf8(code), by);

/** Both kinds of failure as code and message. */
async function failureOf(fn: () => unknown): Promise<string> {
  try {
    await fn();
  } catch (error) {
    const { code, message } = asGodwitError(error);
    return `${code} ${message}`;
  }
  return "nothing thrown";
}

/** A context that only hears what the test plugin says. */
async function startAndHear(plugin: Plugin, table: unknown): Promise<string[]> {
  const heard: string[] = [];
  const context: object = { said: (text: string) => void heard.push(text) };
  await plugin.start(context as PluginContext, table);
  return heard;
}

describe("a package", () => {
  test("comes back as it was made", () => {
    const found = decodePackage(make());
    expect(found.manifest).toEqual(base as never);
    expect(found.publisher).toBe(publisher.id);
    expect(new TextDecoder().decode(found.code)).toBe(codeSaying("one"));
  });

  test("cut short anywhere, or longer, is refused as malformed", async () => {
    const whole = make();
    for (const length of [0, 7, 8, 100, 111, 112, 300, whole.length - 1])
      expect(await failureOf(() => decodePackage(whole.subarray(0, length)))).toStartWith(
        "GODWIT_PLUGIN_PACKAGE",
      );
    expect(await failureOf(() => decodePackage(Buffer.concat([whole, Buffer.of(0)])))).toContain(
      "follows its end",
    );
  });

  test("altered in its key, signature, manifest or code is refused by its signature", async () => {
    const whole = make();
    for (const at of [9, 45, 120, whole.length - 1]) {
      const bent = whole.slice();
      bent[at]! ^= 1;
      expect(await failureOf(() => decodePackage(bent))).toStartWith("GODWIT_PLUGIN_SIGNATURE");
    }
  });

  test("that claims a manifest of 1 GB is refused by its header", async () => {
    const bent = Buffer.from(make());
    bent.writeUInt32BE(2 ** 30, 104);
    expect(await failureOf(() => decodePackage(bent))).toContain("1073741824 bytes of manifest");
  });

  test("whose names could lead out of the folder is not made and not read", async () => {
    for (const bad of [{ id: "../up" }, { id: "a/b" }, { version: "1.0.0/../../x" }, { version: "1.0.0-.." }])
      expect(await failureOf(() => parseManifest(utf8({ ...base, ...bad })))).toStartWith(
        "GODWIT_PLUGIN_PACKAGE",
      );
  });

  test("with an unknown key, no JSON or no JSON Schema says so", async () => {
    expect(await failureOf(() => parseManifest(utf8({ ...base, extra: 1 })))).toContain("extra");
    expect(await failureOf(() => parseManifest(utf8("{")))).toContain("not JSON");
    expect(await failureOf(() => parseManifest(utf8({ ...base, config: { type: "nonsense" } })))).toContain(
      "JSON Schema",
    );
  });

  test("of random bytes behind a right beginning never throws anything else", async () => {
    await fc.assert(
      fc.asyncProperty(fc.uint8Array({ maxLength: 400 }), async (bytes) => {
        const failure = await failureOf(() =>
          decodePackage(Buffer.concat([Buffer.from("GWPLUG1\n"), bytes])),
        );
        expect(failure).toMatch(/^GODWIT_PLUGIN_(PACKAGE|SIGNATURE)/);
      }),
    );
  });
});

describe("installing", () => {
  let folder: string;
  beforeEach(() => void (folder = mkdtempSync(join(tmpdir(), "godwit-plugins-"))));
  afterEach(() => rmSync(folder, { recursive: true }));
  const install = (bytes: Uint8Array) => installPackage(folder, bytes, builtinPlugins);
  const fileOf = (version: string) => join(folder, "plugins", "gull", version, "package.gwp");

  test("asks for trust in the publisher, which can be given", async () => {
    expect(await failureOf(() => install(make()))).toStartWith("GODWIT_PLUGIN_UNTRUSTED");
    expect(await listInstalled(folder, builtinPlugins)).toEqual([]);
    await trustPublisher(folder, publisher.id);
    await trustPublisher(folder, publisher.id);
    await install(make());
    expect(await listInstalled(folder, builtinPlugins)).toHaveLength(1);
    expect(await failureOf(() => trustPublisher(folder, "nonsense"))).toStartWith("GODWIT_ID_INVALID");
  });

  test("refuses another SDK, an id of Godwit, of another publisher, and other contents of one version", async () => {
    await trustPublisher(folder, publisher.id);
    await trustPublisher(folder, stranger.id);
    expect(await failureOf(() => install(make({ sdk: "^9.0.0" })))).toStartWith("GODWIT_PLUGIN_SDK");
    expect(await failureOf(() => install(make({ id: "tcp" })))).toStartWith("GODWIT_PLUGIN_CONFLICT");
    await install(make());
    await install(make());
    expect(await failureOf(() => install(make({ version: "2.0.0" }, codeSaying("x"), stranger)))).toContain(
      "another plugin",
    );
    expect(await failureOf(() => install(make({}, codeSaying("x"))))).toContain("other contents");
  });

  test("the newest version runs, with the SDK of this process, from the bytes that were verified", async () => {
    await trustPublisher(folder, publisher.id);
    await install(make());
    await install(make({ version: "1.10.0" }, codeSaying("ten")));
    await install(make({ version: "1.9.0" }, codeSaying("nine")));
    const [choice] = installedPlugins(await listInstalled(folder, builtinPlugins));
    // Whoever writes to the disk after the check has no say.
    writeFileSync(fileOf("1.10.0"), "something else");
    expect(await startAndHear(choice!.plugin, { word: "hello" })).toEqual(["ten hello function"]);
    const [older] = installedPlugins(await listInstalled(folder, builtinPlugins));
    expect(await startAndHear(older!.plugin, { word: "again" })).toEqual(["nine again function"]);
    expect(older!.hash).not.toBe(choice!.hash);
  });

  test("altered on the disk, or of a publisher no longer trusted, is listed with its reason and not run", async () => {
    await trustPublisher(folder, publisher.id);
    await install(make());
    writeFileSync(join(folder, "plugins", "publishers"), `${stranger.id}\n`);
    expect((await listInstalled(folder, builtinPlugins))[0]?.reason).toContain("not trusted");
    writeFileSync(fileOf("1.0.0"), make().fill(0, 200, 201));
    expect((await listInstalled(folder, builtinPlugins))[0]?.reason).toContain("altered");
    expect(installedPlugins(await listInstalled(folder, builtinPlugins))).toEqual([]);
  });

  test("code that is not the plugin of its manifest does not start", async () => {
    await trustPublisher(folder, publisher.id);
    await install(make({}, codeSaying("one", "other")));
    const [choice] = installedPlugins(await listInstalled(folder, builtinPlugins));
    expect(await failureOf(() => startAndHear(choice!.plugin, { word: "x" }))).toStartWith(
      "GODWIT_PLUGIN_PACKAGE",
    );
  });

  test("removes one version or all, and never what lies elsewhere", async () => {
    await trustPublisher(folder, publisher.id);
    await install(make());
    await install(make({ version: "2.0.0" }));
    mkdirSync(join(folder, "keep", "1.0.0"), { recursive: true });
    expect(await removeInstalled(folder, "../keep")).toBe(false);
    expect(await removeInstalled(folder, "gull", "../../keep")).toBe(false);
    expect(await removeInstalled(folder, "gull", "1.0.0")).toBe(true);
    expect((await listInstalled(folder, builtinPlugins)).map(({ version }) => version)).toEqual(["2.0.0"]);
    expect(await removeInstalled(folder, "gull")).toBe(true);
    expect(await removeInstalled(folder, "gull")).toBe(false);
  });

  test("a package is read from a plain file only", async () => {
    writeFileSync(join(folder, "a.gwp"), make());
    symlinkSync(join(folder, "a.gwp"), join(folder, "b.gwp"));
    expect(readPackage(join(folder, "a.gwp")).publisher).toBe(publisher.id);
    expect(await failureOf(() => readPackage(join(folder, "b.gwp")))).toContain("not a plain file");
    expect(await failureOf(() => readPackage(join(folder, "none.gwp")))).toStartWith("GODWIT_PLUGIN_PACKAGE");
  });
});
