import { expect, test } from "bun:test";
import { importPlugin } from "./code.ts";

test("a node that is given another plugin says which, and which its manifest names", async () => {
  const code = Buffer.from('export default { id: "tern", namespace: "discovery", config: {}, start() {} };');
  const importing = importPlugin({ id: "gull", namespace: "service" }, code, "another-plugin");
  await expect(importing).rejects.toMatchObject({
    code: "GODWIT_PLUGIN_PACKAGE",
    message: expect.stringMatching(
      /"tern" in the code and "gull" in .*"discovery" in the code and "service" in /,
    ),
  });
});

test("what a module exports by default may be anything, and is no plugin", async () => {
  for (const [at, exported] of [
    "undefined",
    "null",
    "7",
    "() => {}",
    "{ id: 'gull', start() {} }",
  ].entries()) {
    const code = Buffer.from(`export default ${exported};`);
    const importing = importPlugin({ id: "gull", namespace: "service" }, code, `anything-${at}`);
    await expect(importing).rejects.toMatchObject({ code: "GODWIT_PLUGIN_PACKAGE" });
  }
});
