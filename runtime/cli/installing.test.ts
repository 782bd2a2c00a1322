import { afterEach, beforeEach, expect, test } from "bun:test";
import {
  existsSync,
  lstatSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { parseConfig } from "../config/load.ts";
import { install, places, uninstall } from "./installing.ts";

let folder: string;
let root: string;
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), "godwit-install-"));
  root = join(folder, "root");
  mkdirSync(root);
  writeFileSync(join(folder, "godwit"), "the binary");
});
afterEach(() => rmSync(folder, { recursive: true }));

const put = (more: { withSocket?: boolean; isDryRun?: boolean } = {}) =>
  install({
    root,
    binary: join(folder, "godwit"),
    manual: ".TH GODWIT 1\n",
    withSocket: false,
    isDryRun: false,
    ...more,
  });
const undo = (more: { isPurge?: boolean; isDryRun?: boolean } = {}) =>
  uninstall({ root, isPurge: false, isDryRun: false, ...more });
const at = (path: string) => join(root, path);
const text = (path: string) => readFileSync(at(path), "utf8");
function write(path: string, content: string): void {
  mkdirSync(dirname(at(path)), { recursive: true });
  writeFileSync(at(path), content);
}
const tree = () => readdirSync(root, { recursive: true }).map(String).sort();

test("binary, units, links and a configuration that is right; the undo leaves the configuration alone", () => {
  put({ withSocket: true });
  expect(text(places.binary)).toBe("the binary");
  expect(lstatSync(at(places.binary)).mode & 0o777).toBe(0o755);
  expect(text(places.manual)).toBe(".TH GODWIT 1\n");
  expect(text(places.service)).toBe(readFileSync("images/systemd/godwit.service", "utf8"));
  expect(text(places.socket)).toBe(readFileSync("images/systemd/godwit.socket", "utf8"));
  expect(readlinkSync(at(places.serviceWanted))).toBe(places.service);
  expect(readlinkSync(at(places.socketWanted))).toBe(places.socket);
  expect(parseConfig(text(places.config), { env: {}, format: "toml" }).api.socket).toBe(
    "/run/godwit/godwit.sock",
  );
  undo();
  expect(tree()).toEqual(["etc", "etc/godwit", "etc/godwit/godwit.toml"]);
});

test("twice is once, and a dry run is nothing", () => {
  expect(put({ isDryRun: true }).map(({ change }) => change)).toEqual([
    "write",
    "write",
    "write",
    "write",
    "link",
  ]);
  expect(tree()).toEqual([]);
  put();
  const before = tree();
  expect(put().map(({ change }) => change)).toEqual(["keep", "keep", "keep", "keep", "keep"]);
  expect(tree()).toEqual(before);
  undo({ isDryRun: true, isPurge: true });
  expect(tree()).toEqual(before);
});

test("an update replaces what is ours; what somebody changed stays, at the update and at the undo", () => {
  put();
  writeFileSync(join(folder, "godwit"), "a newer binary");
  expect(put()[0]).toEqual({ change: "replace", path: places.binary });
  expect(text(places.binary)).toBe("a newer binary");
  write(places.service, "by hand");
  const changes = put().map(({ change, path }) => `${change}: ${path}`);
  expect(changes).toContain(`keep, because it was changed: ${places.service}`);
  undo();
  expect(existsSync(at(places.binary))).toBe(false);
  expect(text(places.service)).toBe("by hand");
});

test("what stood there before comes back", () => {
  write(places.binary, "a binary of before");
  write(places.service, "a unit of before");
  write(places.config, "a configuration of before");
  const before = tree();
  put();
  writeFileSync(join(folder, "godwit"), "a newer binary");
  put();
  expect(text(places.binary)).toBe("a newer binary");
  expect(text(places.config)).toBe("a configuration of before");
  undo();
  expect(tree()).toEqual(before);
  expect(text(places.binary)).toBe("a binary of before");
  expect(text(places.service)).toBe("a unit of before");
});

test("a binary that is in its place already is not ours to remove", () => {
  write(places.binary, "the binary");
  put();
  undo();
  expect(text(places.binary)).toBe("the binary");
});

test("--purge takes state and configuration along", () => {
  put();
  write("/var/lib/private/godwit/identity.key", "key");
  symlinkSync("private/godwit", at("/var/lib/godwit"));
  undo({ isPurge: true });
  expect(tree()).toEqual(["var", "var/lib", "var/lib/private"]);
});

test("nothing installed, a damaged record and a link out of the tree are refused before anything is touched", () => {
  expect(() => undo()).toThrow(/nothing is installed below/);
  write(places.record, "{}");
  expect(() => put()).toThrow(/is damaged/);
  rmSync(at("/usr"), { recursive: true });
  mkdirSync(join(folder, "outside"));
  symlinkSync(join(folder, "outside"), at("/etc"));
  expect(() => put()).toThrow(/which is outside of/);
  expect(readdirSync(join(folder, "outside"))).toEqual([]);
  expect(tree()).toEqual(["etc"]);
});
