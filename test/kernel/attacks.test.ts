/**
 * The attacks of test/sandbox on Debian's own kernel, 6.1: a machine in QEMU whose first root holds the binary, the hostile
 * plugin and the program that tries everything. Landlock has its second version there, so more is left to seccomp.
 */
import { afterAll, beforeAll, expect, test } from "bun:test";
import { chmodSync, mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { root, run } from "../../scripts/lib.ts";
import { Guest, whyNot } from "../boot/guest.ts";
import { buildImage, type BuiltImage } from "../boot/image.ts";
import { ATTACK_NAMES, ENDINGS } from "../sandbox/attack-list.ts";

const why = whyNot("x64");
const SUITE_MS = 600_000;
/** Nodes one after the other, and an attack that takes all the memory it gets. */
const MEMORY_MIB = 1_024;

let overlay: string;
let image: BuiltImage;

beforeAll(async () => {
  if (why !== "") return;
  overlay = mkdtempSync(join(tmpdir(), "godwit-attacks-"));
  const folder = join(overlay, "attacks");
  const built = await run([process.execPath, "test/sandbox/attack-run.ts", "--build", folder], { cwd: root });
  expect([built.code, built.output]).toEqual([0, ""]);
  chmodSync(join(folder, "attack-run"), 0o755);
  mkdirSync(join(overlay, "etc/godwit"), { recursive: true });
  // What is attacked has to be there, or an attack fails for want of it.
  writeFileSync(join(overlay, "etc/shadow"), "root:*:1::::::\n", { mode: 0o640 });
  writeFileSync(join(overlay, "etc/passwd"), "root:x:0:0:root:/:/none\n", { mode: 0o644 });
  mkdirSync(join(overlay, "bin"));
  symlinkSync("/godwit", join(overlay, "bin/true"));
  const command = ["/attacks/attack-run", "/godwit", "/attacks/attacks.gwp"];
  writeFileSync(
    join(overlay, "etc/godwit/godwit.toml"),
    `[[machine.programs]]\nname = "attacks"\ncommand = ${JSON.stringify(command)}\n`,
  );
  image = await buildImage("x64", ["--overlay", overlay]);
}, SUITE_MS);
afterAll(() => {
  if (why !== "") return;
  image?.remove();
  rmSync(overlay, { recursive: true, force: true });
});

interface Judged {
  readonly attack: string;
  readonly result: string;
  readonly ok: boolean;
}

test.skipIf(why !== "")(
  `no attack works on Debian's kernel, and none ends more than the plugin${why}`,
  async () => {
    await using guest = await Guest.start({ image: image.folder, memoryMiB: MEMORY_MIB });
    const startedMs = performance.now();
    await guest.hear(/attacks \| \{"verdict":"\w+","bad":\d+\}|name=attacks state=waiting/, SUITE_MS);
    const judged = [...guest.text.matchAll(/attacks \| (\{"attack":.*\})/g)].map(
      ([, line]) => JSON.parse(line!) as Judged,
    );
    const names = judged.map(({ attack }) => attack);
    for (const name of [...ATTACK_NAMES, ...ENDINGS.map((ending) => ending.name)])
      expect(names).toContain(name);
    expect(judged.filter(({ ok }) => !ok)).toEqual([]);
    expect(guest.text).toContain('"verdict":"held"');
    const kernel = /godwit is pid 1 kernel=(\S+)/.exec(guest.text)?.[1];
    console.log(
      `  ${judged.length} attacks on ${kernel ?? "?"} in ${((performance.now() - startedMs) / 1_000).toFixed(0)} s`,
    );
  },
  SUITE_MS,
);
