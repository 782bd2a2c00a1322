import { afterAll, expect, test } from "bun:test";
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { parseConfig } from "../config/load.ts";
import { findPlugin } from "../plugin/host/instance.ts";
import { readPlugins } from "./plugins.ts";

const stateDir = mkdtempSync(join(tmpdir(), "godwit-plugins-"));
afterAll(() => rmSync(stateDir, { recursive: true }));

test.each([
  ["transports", "transport"],
  ["discovery", "discovery"],
  ["services", "service"],
  ["engines", "engine"],
  ["heal", "heal-action"],
] as const)(
  "a damaged package keeps no node from starting: [%s] goes down with its reason",
  async (section, namespace) => {
    mkdirSync(join(stateDir, "plugins/hurt/1.0.0"), { recursive: true });
    writeFileSync(join(stateDir, "plugins/hurt/1.0.0/package.gwp"), "no package");
    const text = `[node]\nstate_dir = "${stateDir}"\n[${section}.a]\ntype = "hurt"\n`;
    const config = await parseConfig(text, { env: {}, format: "toml", path: "test" });
    const { all } = await readPlugins(config);
    const hurt = findPlugin(all, namespace, "hurt");
    expect(() => hurt!.start({} as never, {})).toThrow("1.0.0 cannot be used");
  },
);
