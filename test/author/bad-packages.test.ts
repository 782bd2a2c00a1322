/** Packages that must not get in, each through the real command line: what is said, by which code, and that nothing stays. */
import { afterAll, beforeAll, beforeEach, expect, test } from "bun:test";
import { createHash } from "node:crypto";
import { existsSync, truncateSync } from "node:fs";
import { mkdir, readdir, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { generateIdentity, type Identity } from "../../runtime/identity/keys.ts";
import { systemRandom } from "../../runtime/kernel/random.ts";
import { AuthorLab } from "./author-lab.ts";

let lab: AuthorLab;
const [publisher, stranger] = [generateIdentity(systemRandom), generateIdentity(systemRandom)];
const GIGABYTE = 2 ** 30;
/** A process that reads a gigabyte shows it. */
const KIBIBYTES_MAX = 400_000;

beforeAll(async () => {
  lab = await AuthorLab.create({ isOffline: false });
});
beforeEach(async () => {
  await rm(join(lab.folder, "state"), { recursive: true, force: true });
  await writeFile(join(lab.folder, "c.toml"), `[node]\nstate_dir = "${lab.folder}/state"\n`);
  expect((await lab.godwit(`plugin trust ${publisher.id} --config c.toml`)).code).toBe(0);
});
afterAll(() => lab.close());

const manifest = {
  id: "gull",
  namespace: "service",
  version: "1.0.0",
  sdk: "^0.1.0",
  permissions: [],
  entry: "index.ts",
  config: { type: "object", additionalProperties: false },
};
const CODE = 'export default { id: "gull", namespace: "service" };';

/** Signed as docs/plugins.md says, whatever is inside. */
function forge(text: string, by: Identity = publisher, lengths?: readonly [number, number]): Buffer {
  const [head, code] = [Buffer.from(text), Buffer.from(CODE)];
  const sizes = Buffer.alloc(8);
  sizes.writeUInt32BE(lengths?.[0] ?? head.length, 0);
  sizes.writeUInt32BE(lengths?.[1] ?? code.length, 4);
  const body = Buffer.concat([sizes, head, code]);
  const digest = createHash("sha256").update(body).digest();
  const signature = by.sign(Buffer.concat([Buffer.from("godwit plugin package 1\0"), digest]));
  return Buffer.concat([Buffer.from("GWPLUG1\n"), by.publicKey, signature, body]);
}
const packed = (change: Readonly<Record<string, unknown>> = {}, by = publisher) =>
  forge(JSON.stringify({ ...manifest, ...change }), by);

/** The problem document of a refused `plugin add`. */
async function added(bytes: Uint8Array): Promise<{ code: string; detail: string }> {
  await writeFile(join(lab.folder, "x.gwp"), bytes);
  const { code, out, err } = await lab.godwit("plugin add x.gwp --json --config c.toml");
  if (code === 0) return { code: "installed", detail: out };
  return JSON.parse(err) as { code: string; detail: string };
}
const installed = async (): Promise<string[]> => {
  const folder = join(lab.folder, "state/plugins");
  return (await readdir(folder, { recursive: true })).filter((path) => path.endsWith(".gwp")).sort();
};

const tampered = packed();
tampered[tampered.length - 5]! ^= 1;
const renamed = packed();
renamed.write("bull", renamed.indexOf("gull"));
const resigned = packed({}, stranger);
publisher.publicKey.forEach((byte, at) => (resigned[8 + at] = byte));

const refused: readonly (readonly [name: string, bytes: Uint8Array, code: string, says: string])[] = [
  ["empty", Buffer.alloc(0), "GODWIT_PLUGIN_PACKAGE", "no plugin package"],
  [
    "no package at all",
    Buffer.from("PK\u0003\u0004 a zip file"),
    "GODWIT_PLUGIN_PACKAGE",
    "no plugin package",
  ],
  ["truncated in its head", packed().subarray(0, 60), "GODWIT_PLUGIN_PACKAGE", "cut short"],
  ["truncated in its manifest", packed().subarray(0, 150), "GODWIT_PLUGIN_PACKAGE", "cut short"],
  ["truncated by one byte", packed().subarray(0, -1), "GODWIT_PLUGIN_PACKAGE", "cut short"],
  [
    "with something behind its end",
    Buffer.concat([packed(), Buffer.of(0)]),
    "GODWIT_PLUGIN_PACKAGE",
    "follows its end",
  ],
  ["tampered code", tampered, "GODWIT_PLUGIN_SIGNATURE", "altered"],
  ["tampered manifest", renamed, "GODWIT_PLUGIN_SIGNATURE", "altered"],
  ["signed by another key", resigned, "GODWIT_PLUGIN_SIGNATURE", "did not sign it"],
  ["a publisher nobody trusts", packed({}, stranger), "GODWIT_PLUGIN_UNTRUSTED", "godwit plugin trust"],
  ["wrong SDK major", packed({ sdk: "^9.0.0" }), "GODWIT_PLUGIN_SDK", "needs SDK ^9.0.0"],
  ["an SDK range that is none", packed({ sdk: "newest" }), "GODWIT_PLUGIN_PACKAGE", "wrong at sdk"],
  ["any SDK at all", packed({ sdk: "*" }), "GODWIT_PLUGIN_PACKAGE", "wrong at sdk"],
  ["zip-slip in its id", packed({ id: "../../../etc/gull" }), "GODWIT_PLUGIN_PACKAGE", "wrong at id"],
  [
    "zip-slip in its version",
    packed({ version: "1.0.0/../../.." }),
    "GODWIT_PLUGIN_PACKAGE",
    "wrong at version",
  ],
  ["a NUL in its id", packed({ id: "gull\u0000" }), "GODWIT_PLUGIN_PACKAGE", "wrong at id"],
  [
    "an id of Godwit's own",
    packed({ id: "tcp", namespace: "transport" }),
    "GODWIT_PLUGIN_CONFLICT",
    "of Godwit itself",
  ],
  [
    "a namespace that is none",
    packed({ namespace: "kernel" }),
    "GODWIT_PLUGIN_PACKAGE",
    "wrong at namespace",
  ],
  ["a key nobody knows", packed({ postinstall: "curl" }), "GODWIT_PLUGIN_PACKAGE", "wrong at the top"],
  ["a manifest that is no JSON", forge("{"), "GODWIT_PLUGIN_PACKAGE", "not JSON"],
  [
    "a manifest beyond 64 KiB",
    packed({ entry: "x".repeat(70_000) }),
    "GODWIT_PLUGIN_PACKAGE",
    "at most 65536",
  ],
  [
    "a manifest said to be 1 GB",
    forge("{}", publisher, [GIGABYTE, 10]),
    "GODWIT_PLUGIN_PACKAGE",
    `${GIGABYTE} bytes of manifest`,
  ],
  ["code said to be 4 GB", forge("{}", publisher, [2, 2 ** 32 - 1]), "GODWIT_PLUGIN_PACKAGE", "of code"],
  [
    "requires what is not there",
    packed({ requires: ["tern"] }),
    "GODWIT_PLUGIN_REQUIRES",
    "not installed: add that first",
  ],
  ["requires itself", packed({ requires: ["gull"] }), "GODWIT_PLUGIN_REQUIRES", "requires itself"],
];

test.each(refused)("%s", async (_name, bytes, code, says) => {
  const problem = await added(bytes);
  expect([problem.code, problem.detail]).toEqual([code, expect.stringContaining(says)]);
  expect(await installed()).toEqual([]);
  expect(existsSync("/etc/gull")).toBe(false);
});

test("a package and a manifest of a gigabyte are refused without being read", async () => {
  const big = join(lab.folder, "big.gwp");
  await writeFile(big, packed());
  truncateSync(big, GIGABYTE);
  for (const words of ["plugin inspect big.gwp --json", "plugin add big.gwp --json --config c.toml"]) {
    const { code, err } = await measured(words);
    expect([code, JSON.parse(err)]).toEqual([1, expect.objectContaining({ code: "GODWIT_PLUGIN_PACKAGE" })]);
  }
  await mkdir(join(lab.folder, "big"));
  await writeFile(join(lab.folder, "big/godwit-plugin.json"), "{");
  truncateSync(join(lab.folder, "big/godwit-plugin.json"), GIGABYTE);
  for (const words of ["plugin check big --json", "plugin pack big --json", "plugin test big --json"]) {
    const { code, err } = await measured(words);
    expect([words, code, JSON.parse(err)]).toEqual([
      words,
      1,
      expect.objectContaining({
        code: "GODWIT_PLUGIN_PACKAGE",
        detail: expect.stringContaining("at most 65536 are read"),
      }),
    ]);
  }
}, 30_000);

/** Runs it and asserts that it stayed small. */
async function measured(words: string) {
  const child = lab.spawn(words.split(" "), lab.folder);
  const err = await new Response(child.stderr).text();
  const code = await child.exited;
  const peakKibibytes = (child.resourceUsage()?.maxRSS ?? 0) / 1024;
  expect(peakKibibytes).toBeLessThan(KIBIBYTES_MAX);
  return { code, err };
}

test("an entry that leads out of the folder is not packed", async () => {
  const folder = join(lab.folder, "slip");
  await mkdir(folder);
  for (const entry of ["../x.gwp", "/etc/hostname", "a/../../x.gwp"]) {
    await writeFile(join(folder, "godwit-plugin.json"), JSON.stringify({ ...manifest, entry }));
    const { code, err } = await lab.godwit("plugin pack slip --json");
    expect([code, JSON.parse(err)]).toEqual([
      1,
      expect.objectContaining({
        code: "GODWIT_PLUGIN_PACKAGE",
        detail: expect.stringContaining("lies outside"),
      }),
    ]);
  }
});

test("two plugins of one id: another publisher, another namespace, the same version with other contents", async () => {
  expect(await added(packed())).toMatchObject({ code: "installed" });
  expect((await lab.godwit(`plugin trust ${stranger.id} --config c.toml`)).code).toBe(0);
  for (const other of [
    packed({ version: "2.0.0" }, stranger),
    packed({ version: "2.0.0", namespace: "discovery" }),
    packed({ permissions: ["mesh.read"] }),
  ])
    expect((await added(other)).code).toBe("GODWIT_PLUGIN_CONFLICT");
  expect(await installed()).toEqual(["gull/1.0.0/package.gwp"]);
});

test("a new version that closes a circle is refused, and the circle is told", async () => {
  expect(await added(packed())).toMatchObject({ code: "installed" });
  expect(await added(packed({ id: "tern", requires: ["gull"] }))).toMatchObject({ code: "installed" });
  expect(await added(packed({ version: "1.1.0", requires: ["tern"] }))).toMatchObject({
    code: "GODWIT_PLUGIN_REQUIRES",
    detail: expect.stringContaining('"gull" requires "tern" requires "gull"'),
  });
  expect(await installed()).toEqual(["gull/1.0.0/package.gwp", "tern/1.0.0/package.gwp"]);
  // What was required goes: the other stays, with the reason why it cannot run.
  expect((await lab.godwit("plugin remove gull --config c.toml")).code).toBe(0);
  expect((await lab.godwit("plugin list --config c.toml")).out).toMatch(
    /tern +1\.0\.0 +\S+ +"tern" requires "gull"/,
  );
});
