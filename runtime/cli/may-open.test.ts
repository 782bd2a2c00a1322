import { afterEach, beforeEach, expect, test } from "bun:test";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { accessWords } from "./may-open.ts";

const tables = {
  passwd: "root:x:0:0:root:/root:/bin/sh\ngodwit:x:998:998::/:/bin/false\n",
  group: "operators:x:1500:ann\n",
};
const words = (owner: Parameters<typeof accessWords>[2], path = "/run/godwit/godwit.sock") =>
  accessWords(path, "status", owner, tables);

test("whoever may not open the socket is told whose it is, and what to type", () => {
  expect(words({ uid: 998, gid: 998, mode: 0o600 })).toBe(
    "this user may not open /run/godwit/godwit.sock, which is of godwit; run: sudo godwit status",
  );
  expect(words({ uid: 64_000, gid: 64_000, mode: 0o600 })).toContain(
    "of a user that systemd made up for it; run: sudo",
  );
  expect(words({ uid: 1_001, gid: 1, mode: 0o600 })).toContain("of user 1001; ");
  expect(words(undefined)).toBe("this user may not open /run/godwit/godwit.sock; run: sudo godwit status");
});

test("a group that may is named, by its number where it has no name", () => {
  expect(words({ uid: 0, gid: 1_500, mode: 0o660 })).toEndWith(", or join the group operators");
  expect(words({ uid: 0, gid: 1_501, mode: 0o660 })).toEndWith(", or join the group 1501");
  expect(words({ uid: 0, gid: 1_500, mode: 0o640 })).not.toContain("group");
});

test("a socket elsewhere is named in what to type: root would look for its own", () => {
  expect(words({ uid: 0, gid: 0, mode: 0o600 }, "/home/ann/x.sock")).toEndWith(
    "run: sudo godwit status --socket /home/ann/x.sock",
  );
});

let folder: string;
beforeEach(() => void (folder = mkdtempSync(join(tmpdir(), "godwit-may-open-"))));
afterEach(() => rmSync(folder, { recursive: true }));

const isRoot = process.getuid?.() === 0;
test.skipIf(!isRoot)(
  `a client command of another user says so${isRoot ? "" : " [skipped: needs root]"}`,
  async () => {
    const path = join(folder, "godwit.sock");
    const listener = Bun.listen({ unix: path, socket: { data() {} } });
    try {
      Bun.spawnSync(["chmod", "755", folder]);
      Bun.spawnSync(["chmod", "600", path]);
      const program = `const { runForTest } = await import(${JSON.stringify(join(import.meta.dir, "testing.ts"))});
      process.seteuid(65534);
      const { code, err } = await runForTest(["outbox", "rm", "abcdef", "--socket", ${JSON.stringify(path)}]);
      console.log(JSON.stringify({ code, err }));`;
      const ran = Bun.spawnSync([process.execPath, "-e", program]);
      const { code, err } = JSON.parse(ran.stdout.toString()) as { code: number; err: string };
      expect(code).toBe(1);
      expect(err).toContain(
        `this user may not open ${path}, which is of root; run: sudo godwit outbox rm ... --socket ${path}`,
      );
    } finally {
      listener.stop(true);
    }
  },
);
