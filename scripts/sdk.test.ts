import { expect, test } from "bun:test";
import { sdkModules } from "../runtime/plugin/package/sdk-modules.ts";
import sdkPackage from "../sdk/package.json";
import tsconfig from "../tsconfig.json";
import { sdkEntries } from "./sdk.ts";

test("the package, the compiler and the binary know the same entry points of the SDK", () => {
  const entries = Object.keys(sdkEntries).toSorted();
  const exported = Object.keys(sdkPackage.exports).map((path) => path.replace(".", "@godwit/sdk"));
  expect(exported.toSorted()).toEqual(entries);
  expect(Object.keys(tsconfig.compilerOptions.paths).toSorted()).toEqual(entries);
  // The test kit is for tests: authors have it, running plugins do not.
  expect([...sdkModules, "@godwit/sdk/testkit"].toSorted()).toEqual(entries);
});
