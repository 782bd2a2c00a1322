/** How the process of a plugin begins, what is taken of what it writes, and how it ends; real processes of the machine. */
import { afterAll, afterEach, expect, test } from "bun:test";
import { mkdtempSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type Clock, ManualClock, systemClock } from "../../kernel/clock.ts";
import { createLog } from "../../kernel/log.ts";
import { launchProcess } from "./launch.ts";
import type { Launched } from "./remote.ts";

const folder = mkdtempSync(join(tmpdir(), "godwit-launch-"));
const living: Launched[] = [];
afterEach(async () => {
  for (const one of living.splice(0)) {
    one.kill();
    await one.ended;
  }
});
afterAll(() => rmSync(folder, { recursive: true, force: true }));

async function launch(script: string, options: { memoryBytesMax?: number; clock?: Clock } = {}) {
  const { memoryBytesMax = 2 ** 30, clock = systemClock } = options;
  const lines: string[] = [];
  const log = createLog({
    level: "debug",
    format: "json",
    clock,
    sink: { write: (line) => void lines.push(line) },
  });
  const launched = await launchProcess({ command: ["/bin/sh", "-c", script], log, clock, memoryBytesMax });
  living.push(launched);
  launched.channel.open({ data() {}, closed() {} });
  return { launched, lines };
}
const until = async (isSo: () => boolean): Promise<void> => {
  while (!isSo()) await new Promise<void>((resolve) => setTimeout(resolve, 2));
};

test("the process of a plugin gets nothing of the node's environment, where secrets may stand", async () => {
  const file = join(folder, "environment");
  process.env["GODWIT_TEST_SECRET"] = "hidden words";
  try {
    // What the kernel was given, before the shell adds to it.
    const { launched } = await launch(`cat /proc/$$/environ > ${file}`);
    await launched.ended;
  } finally {
    delete process.env["GODWIT_TEST_SECRET"];
  }
  expect(readFileSync(file, "utf8")).toBe("");
});

test("the channel is descriptor 3, and there is no other way in: its input is empty, its output nobody's", async () => {
  const { launched } = await launch("echo out; head -c 1 <&0 | wc -c >&3; exec 3>&-; exec sleep 60");
  const got: string[] = [];
  launched.channel.open({ data: (bytes) => void got.push(Buffer.from(bytes).toString()), closed() {} });
  await until(() => got.length > 0);
  expect(got.join("").trim()).toBe("0");
});

test("a plugin that ignores signals ends all the same", async () => {
  const { launched, lines } = await launch(
    "trap '' TERM INT HUP; echo ready >&2; while :; do sleep 0.05; done",
  );
  await until(() => lines.some((line) => line.includes("ready")));
  launched.kill();
  expect(await launched.ended).toContain("SIGKILL");
});

test("a process that uses more memory than it may is told to end, and one that does not is not", async () => {
  const { launched, lines } = await launch("echo ready >&2; exec sleep 60", { memoryBytesMax: 1 });
  await until(() => lines.length > 0);
  expect(launched.overuse?.()).toContain("MiB of memory");
  const small = await launch("echo ready >&2; exec sleep 60");
  await until(() => small.lines.length > 0);
  expect(small.launched.overuse?.()).toBeUndefined();
});

test("the end of a process is told with the last line that it wrote", async () => {
  // It is over before most of that is read, at the pace of what children write.
  const { launched } = await launch(
    "head -c 40000 /dev/zero | tr '\\0' '\\n' >&2; printf 'cannot go on: no way' >&2; exit 3",
  );
  expect(await launched.ended).toBe("its process ended with exit code 3: cannot go on: no way");
});

test("the end of a process is told although somebody else still holds its standard error", async () => {
  const clock = new ManualClock();
  const { launched, lines } = await launch("echo last >&2; sleep 60 3>&- & echo $! >&3; exit 4", { clock });
  const pids: string[] = [];
  launched.channel.open({ data: (bytes) => void pids.push(Buffer.from(bytes).toString()), closed() {} });
  try {
    await until(() => lines.length > 0 && pids.length > 0);
    const told: string[] = [];
    void launched.ended.then((why) => void told.push(why));
    for (let i = 0; i < 1_000 && told.length === 0; i++) {
      await new Promise<void>((resolve) => setTimeout(resolve, 2));
      await clock.advance(1);
    }
    expect(told[0]).toBe("its process ended with exit code 4: last");
  } finally {
    process.kill(Number(pids.join("")), "SIGKILL");
  }
});

test("what a plugin writes to its standard error is logged at a bounded rate, cut, and the last of it explains its end", async () => {
  const { launched, lines } = await launch(
    `i=0; while [ $i -lt 2000 ]; do echo "line $i"; i=$((i+1)); done >&2; head -c 4000 /dev/zero | tr '\\0' x >&2`,
  );
  const why = await launched.ended;
  const told = lines.map((line) => (JSON.parse(line) as { text: string }).text);
  // A hundred at once, and ten in each second that it took.
  expect(told.length).toBeGreaterThanOrEqual(100);
  expect(told.length).toBeLessThan(1_000);
  expect(told[0]).toBe("line 0");
  expect(why).toEndWith(`: ${"x".repeat(500)}`);
});

test("what cannot be started is said, and leaves no descriptor behind", async () => {
  const open = () => readdirSync("/proc/self/fd").length;
  const before = open();
  for (let i = 0; i < 20; i++)
    await expect(
      launchProcess({
        command: [join(folder, "absent")],
        log: createLog({ level: "error", format: "json", clock: systemClock, sink: { write() {} } }),
        clock: systemClock,
        memoryBytesMax: 1,
      }),
    ).rejects.toMatchObject({ code: "GODWIT_PLUGIN_FAILED" });
  expect(open()).toBeLessThan(before + 10);
});
