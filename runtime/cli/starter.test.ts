import { expect, test } from "bun:test";
import { placeBeside } from "./starter.ts";

const home = { HOME: "/home/a", XDG_CONFIG_HOME: "/home/a/.config" };

test.each<[string | undefined, Record<string, string>, string | undefined]>([
  ["/srv/par/godwit.toml", home, "/srv/par/godwit.state"],
  ["/srv/par/b.json", home, "/srv/par/b.state"],
  [undefined, home, undefined],
  ["/srv/par/godwit.toml", { ...home, GODWIT_NODE__STATE_DIR: "/elsewhere" }, undefined],
  ["/srv/par/godwit.toml", { ...home, STATE_DIRECTORY: "/var/lib/x" }, undefined],
])("the state of a configuration that was named %p is beside it", (named, env, expected) => {
  expect(placeBeside(named, env)).toBe(expected);
});

test("that of the usual configuration is where it always is", () => {
  const usual = process.getuid?.() === 0 ? "/etc/godwit/godwit.toml" : "/home/a/.config/godwit/godwit.toml";
  expect(placeBeside(usual, home)).toBeUndefined();
});
