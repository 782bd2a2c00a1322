/**
 * The SDK as a packed plugin finds it: the modules inside this very binary, so that classes are the same on both sides.
 * Registrations hold for one thread, so whoever runs plugins calls it once in each.
 */
import type { PluginBuilder } from "bun";
import * as sdk from "@godwit/sdk";
import * as errors from "@godwit/sdk/errors";
import * as netlink from "@godwit/sdk/netlink";
import * as process from "@godwit/sdk/process";
import * as tcp from "@godwit/sdk/tcp";

/** Names that `godwit plugin pack` leaves out of a bundle. */
export const sdkModules = [
  "@godwit/sdk",
  "@godwit/sdk/errors",
  "@godwit/sdk/netlink",
  "@godwit/sdk/process",
  "@godwit/sdk/tcp",
] as const;

export function bindSdk(build: PluginBuilder): void {
  build.module("@godwit/sdk", () => ({ exports: { ...sdk }, loader: "object" }));
  build.module("@godwit/sdk/errors", () => ({ exports: { ...errors }, loader: "object" }));
  build.module("@godwit/sdk/netlink", () => ({ exports: { ...netlink }, loader: "object" }));
  build.module("@godwit/sdk/process", () => ({ exports: { ...process }, loader: "object" }));
  build.module("@godwit/sdk/tcp", () => ({ exports: { ...tcp }, loader: "object" }));
}
