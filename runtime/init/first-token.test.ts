/** When a machine shows a token, and that it is written nowhere else. */
import { afterEach, beforeEach, expect, test } from "bun:test";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { isScreen, markAt, offerFirstToken, openScreen } from "./first-token.ts";

let folder: string;
beforeEach(() => void (folder = mkdtempSync(join(tmpdir(), "godwit-first-token-"))));
afterEach(() => rmSync(folder, { recursive: true }));

function machine(
  setup: {
    listen?: readonly string[];
    tokens?: number;
    hasScreen?: boolean;
    fails?: boolean;
    isStopped?: boolean;
  } = {},
) {
  const { listen = ["0.0.0.0:8000"], tokens = 0, hasScreen = true, fails = false, isStopped = false } = setup;
  const shown: string[] = [];
  const logged: unknown[] = [];
  let made = 0;
  let closed = 0;
  const write = (line: string) => {
    if (isStopped) throw new Error("EAGAIN");
    shown.push(line);
  };
  const offer = () =>
    offerFirstToken({
      apiListen: listen,
      ...markAt(join(folder, "first-token")),
      count: async () => tokens + made,
      create: async () => {
        if (fails) throw new Error("the disk is full");
        made++;
        return { id: "0a1b", secret: "gwt_secret" };
      },
      revoke: async (id) => void (id === "0a1b" && made--),
      screen: () => (hasScreen ? { write, close: () => void closed++ } : undefined),
      log: { info: (...said) => void logged.push(said) },
    });
  return { offer, shown, logged, made: () => made, closed: () => closed };
}

test("a machine whose API others may call shows one, once, and logs nothing of it", async () => {
  const one = machine();
  await one.offer();
  await one.offer();
  // A screen may have no more.
  expect(one.shown.every((line) => line.length <= 80)).toBe(true);
  expect(one.shown[0]).toContain("gwt_secret");
  expect(one.shown.at(-1)).toContain("DELETE /tokens/0a1b");
  expect([one.made(), one.closed(), one.logged]).toEqual([1, 1, []]);
  // Not when that was revoked either, as long as the state is kept.
  const later = machine();
  await later.offer();
  expect([later.made(), later.shown]).toEqual([0, []]);
  expect(readFileSync(join(folder, "first-token"), "utf8")).toBe("");
});

test("one that has a token, or that nobody else may call, shows none", async () => {
  for (const setup of [
    { tokens: 1 },
    { listen: ["127.0.0.1:8000", "[::1]:8000", "localhost:1"] },
    { listen: [] },
  ]) {
    const one = machine(setup);
    await one.offer();
    expect([one.made(), one.shown, one.logged]).toEqual([0, [], []]);
  }
});

test("one whose only console is a line that others may keep makes none, and says what there is instead", async () => {
  const one = machine({ hasScreen: false });
  await one.offer();
  expect([one.made(), one.shown]).toEqual([0, []]);
  expect(JSON.stringify(one.logged)).toContain("godwit.rescue");
  expect(JSON.stringify(one.logged)).toContain("[[api.tokens]]");
});

test("one that could not be made is tried again at the next start", async () => {
  const one = machine({ fails: true });
  await expect(one.offer()).rejects.toThrow("the disk is full");
  expect([one.closed(), one.shown]).toEqual([1, []]);
  const next = machine();
  await next.offer();
  expect(next.made()).toBe(1);
});

test("one that nobody saw, because the screen is stopped, opens nothing, and the next start shows another", async () => {
  const one = machine({ isStopped: true });
  await expect(one.offer()).rejects.toThrow("EAGAIN");
  expect([one.made(), one.closed()]).toEqual([0, 1]);
  const next = machine();
  await next.offer();
  expect([next.made(), next.shown.length > 0]).toEqual([1, true]);
});

test("a screen is a virtual terminal that the kernel has as a console", () => {
  expect(["tty0", "tty1", "ttyS0", "ttyAMA0", "hvc0", "netcon0", undefined].map(isScreen)).toEqual([
    ...[true, true, false, false, false, false, false],
  ]);
  const device = join(folder, "tty0");
  writeFileSync(device, "");
  expect(openScreen(["ttyS0"], device)).toBeUndefined();
  expect(openScreen(["tty0"], join(folder, "none"))).toBeUndefined();
  // Whichever of them /dev/console is.
  const screen = openScreen(["tty0", "ttyS0"], device);
  screen!.write("a line");
  screen!.close();
  expect(readFileSync(device, "utf8")).toBe("a line\r\n");
});
