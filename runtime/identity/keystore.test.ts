import { afterEach, describe, expect, test } from "bun:test";
import {
  chmodSync,
  existsSync,
  linkSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import fc from "fast-check";
import { GodwitError } from "../kernel/errors.ts";
import { seededRandom, systemRandom } from "../kernel/random.ts";
import { generateIdentity, identityFromSeed } from "./keys.ts";
import { formatKeyFile, KEY_FILE, loadIdentity, loadOrCreateIdentity, parseKeyFile } from "./keystore.ts";

const directories: string[] = [];
const scratch = (): string => {
  const directory = mkdtempSync(join(tmpdir(), "godwit-key-"));
  directories.push(directory);
  return directory;
};
afterEach(() => {
  for (const directory of directories.splice(0)) rmSync(directory, { recursive: true, force: true });
});

function failure(fn: () => unknown): GodwitError {
  try {
    fn();
  } catch (error) {
    if (error instanceof GodwitError) return error;
    throw error;
  }
  throw new Error("it did not fail");
}

describe("the key file", () => {
  test("is made once, 0600 in a 0700 folder, and restores the same identity", () => {
    const stateDir = join(scratch(), "a", "state");
    const first = loadOrCreateIdentity(stateDir, systemRandom);
    expect(first.created).toBe(true);
    expect(statSync(stateDir).mode & 0o777).toBe(0o700);
    expect(statSync(join(stateDir, KEY_FILE)).mode & 0o777).toBe(0o600);
    expect(readdirSync(stateDir)).toEqual([KEY_FILE]);
    const second = loadOrCreateIdentity(stateDir, systemRandom);
    expect(second.created).toBe(false);
    expect(second.identity.id).toBe(first.identity.id);
    expect(loadIdentity(stateDir).seed).toEqual(first.identity.seed);
  });

  test("golden: version 1", () => {
    const identity = identityFromSeed(
      Buffer.from("9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60", "hex"),
    );
    expect(formatKeyFile(identity)).toBe(
      [
        "godwit identity key 1",
        "id 25njqamcweflpvkl73j4szahhihoc4xt3ktcgjnpaingr5yhkena",
        "seed 9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60",
        "check 19bd0cb5da6c68f7",
        "",
      ].join("\n"),
    );
  });

  test("every cut, every changed byte is refused with advice, and nothing is written", () => {
    const stateDir = scratch();
    const path = join(stateDir, KEY_FILE);
    const text = formatKeyFile(generateIdentity(seededRandom(1)));
    const damaged = [
      "",
      "\n",
      text.slice(0, 30),
      text.slice(0, -1),
      `${text}\n`,
      text.replace("key 1", "key 2"),
      text.replace("\n", "\r\n"),
      "x".repeat(100_000),
      formatKeyFile(generateIdentity(seededRandom(2))).replace(/seed .*/, /seed .*/.exec(text)![0]),
    ];
    for (let at = 0; at < text.length; at += 5)
      damaged.push(text.slice(0, at) + (text[at] === "a" ? "b" : "a") + text.slice(at + 1));
    for (const content of damaged) {
      writeFileSync(path, content, { mode: 0o600 });
      for (const load of [() => loadOrCreateIdentity(stateDir, systemRandom), () => loadIdentity(stateDir)]) {
        const refused = failure(load);
        expect(refused.code).toBe("GODWIT_KEY_CORRUPT");
        expect(refused.message).toContain(path);
        expect(refused.message).toContain("backup");
      }
      expect(readFileSync(path, "utf8")).toBe(content);
      expect(readdirSync(stateDir)).toEqual([KEY_FILE]);
    }
  });

  test("a message about a damaged file does not quote its secret", () => {
    const text = formatKeyFile(generateIdentity(seededRandom(3)));
    const seed = /seed (.*)/.exec(text)![1]!;
    const refused = failure(() => parseKeyFile(text.replace("check", "chekc"), "/x"));
    expect(`${refused.message}${refused.stack}`).not.toContain(seed);
  });

  test("any text is an identity or GODWIT_KEY_CORRUPT", () => {
    const good = formatKeyFile(generateIdentity(seededRandom(4)));
    const text = fc.oneof(
      fc.string(),
      fc.string().map((tail) => `godwit identity key 1\n${tail}`),
      fc
        .tuple(fc.nat(good.length), fc.string())
        .map(([at, middle]) => good.slice(0, at) + middle + good.slice(at)),
    );
    fc.assert(
      fc.property(text, (content) => {
        if (content === good) return;
        expect(failure(() => parseKeyFile(content, "/x")).code).toBe("GODWIT_KEY_CORRUPT");
      }),
    );
  });

  test("what others can read is refused by name of its mode", () => {
    const stateDir = scratch();
    loadOrCreateIdentity(stateDir, systemRandom);
    for (const mode of [0o640, 0o604, 0o620, 0o602, 0o610, 0o666]) {
      chmodSync(join(stateDir, KEY_FILE), mode);
      const refused = failure(() => loadOrCreateIdentity(stateDir, systemRandom));
      expect(refused.code).toBe("GODWIT_KEY_EXPOSED");
      expect(refused.message).toContain(mode.toString(8));
      expect(refused.message).toContain("chmod 600");
    }
    chmodSync(join(stateDir, KEY_FILE), 0o400);
    expect(loadOrCreateIdentity(stateDir, systemRandom).created).toBe(false);
  });

  test("links, folders and pipes in its place are refused, dangling ones too", () => {
    const good = scratch();
    loadOrCreateIdentity(good, systemRandom);
    const cases: ((path: string) => void)[] = [
      (path) => symlinkSync(join(good, KEY_FILE), path),
      (path) => symlinkSync("/nowhere/at/all", path),
      (path) => mkdirSync(path, { mode: 0o700 }),
      (path) => void Bun.spawnSync(["mkfifo", "-m", "600", path]),
    ];
    for (const make of cases) {
      const stateDir = scratch();
      make(join(stateDir, KEY_FILE));
      expect(failure(() => loadOrCreateIdentity(stateDir, systemRandom)).code).toBe("GODWIT_KEY_CORRUPT");
      expect(readdirSync(stateDir)).toEqual([KEY_FILE]);
    }
  });

  test("what a power cut left is neither used nor kept", () => {
    const stateDir = scratch();
    const leftover = join(stateDir, `${KEY_FILE}.new-0011`);
    writeFileSync(leftover, formatKeyFile(generateIdentity(seededRandom(5))).slice(0, 70), { mode: 0o600 });
    const { identity, created } = loadOrCreateIdentity(stateDir, seededRandom(6));
    expect(created).toBe(true);
    expect(existsSync(leftover)).toBe(false);
    // Between publishing and tidying up the key has two names.
    linkSync(join(stateDir, KEY_FILE), leftover);
    expect(loadOrCreateIdentity(stateDir, systemRandom).identity.id).toBe(identity.id);
    expect(readdirSync(stateDir)).toEqual([KEY_FILE]);
  });

  test("of two processes that make one at once, both end with the same", async () => {
    const stateDir = join(scratch(), "state");
    const source = `
      import { loadOrCreateIdentity } from ${JSON.stringify(join(import.meta.dir, "keystore.ts"))};
      import { systemRandom } from ${JSON.stringify(join(import.meta.dir, "../kernel/random.ts"))};
      console.log(loadOrCreateIdentity(${JSON.stringify(stateDir)}, systemRandom).identity.id);`;
    const children = Array.from({ length: 4 }, () =>
      Bun.spawn([process.execPath, "-e", source], { stdout: "pipe", stderr: "inherit" }),
    );
    const ids = await Promise.all(children.map(async (child) => new Response(child.stdout).text()));
    expect(new Set(ids).size).toBe(1);
    expect(ids[0]!.trim()).toBe(loadIdentity(stateDir).id);
    expect(readdirSync(stateDir)).toEqual([KEY_FILE]);
  });

  test("a state folder that cannot be, and one without identity, are named", () => {
    const file = join(scratch(), "file");
    writeFileSync(file, "");
    for (const stateDir of [file, join(file, "below")]) {
      const refused = failure(() => loadOrCreateIdentity(stateDir, systemRandom));
      expect(refused.code).toBe("GODWIT_STATE_UNUSABLE");
      expect(refused.message).toContain(stateDir);
    }
    const empty = scratch();
    expect(failure(() => loadIdentity(empty)).message).toContain("godwit init");
    expect(readdirSync(empty)).toEqual([]);
  });
});

test("a key file that is far too long is not read, though it begins as one", () => {
  const stateDir = scratch();
  loadOrCreateIdentity(stateDir, systemRandom);
  const path = join(stateDir, KEY_FILE);
  writeFileSync(path, readFileSync(path, "utf8") + "\n".repeat(100_000));
  expect(failure(() => loadIdentity(stateDir)).message).toContain("far too long");
});
