import { afterEach, beforeEach, expect, test } from "bun:test";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { ConfigError, parseConfig } from "../config/load.ts";
import { checkSecrets } from "./secret-check.ts";

let stateDir: string;
beforeEach(() => {
  stateDir = mkdtempSync(join(tmpdir(), "godwit-secrets-"));
});
afterEach(() => rmSync(stateDir, { recursive: true }));

const MADE_UP = "our own village mesh 2026";
const check = (secret: string) =>
  checkSecrets(
    parseConfig(`[node]\nstate_dir = "${stateDir}"\nnetwork_secret = "env:K"`, {
      env: { K: secret },
      format: "toml",
      path: "test",
    }),
  );

test("a node that never ran does not begin with a network secret that a person made up, and the refusal does not show it", () => {
  let refusal: unknown;
  try {
    check(MADE_UP);
  } catch (error) {
    refusal = error;
  }
  expect(refusal).toBeInstanceOf(ConfigError);
  expect(String(refusal)).toContain("godwit secret new");
  expect(String(refusal)).not.toContain("village");
  expect(check("q8Zr2mX7vKc1Tn5Yw0Lh9Bf3Dj6Gs4PaEuRxQoMiVzA=")).toEqual([]);
});

test.each(["godwit.db", "network.key"])(
  "where a made-up network secret lives already (%s), the operator is told how to replace it",
  (file) => {
    writeFileSync(join(stateDir, file), "");
    const [warning] = check(MADE_UP);
    expect(warning).toContain("godwit secret rotate");
    expect(warning).not.toContain("village");
  },
);
