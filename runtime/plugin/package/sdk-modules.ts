/**
 * The SDK as a packed plugin finds it: the modules inside this very binary, so that classes are the same on both sides.
 * Registrations hold for one thread, so whoever runs plugins calls it once in each.
 */
import type { PluginBuilder } from "bun";
import * as sdk from "@godwit/sdk";
import * as bounded from "@godwit/sdk/bounded";
import * as errors from "@godwit/sdk/errors";
import * as listening from "@godwit/sdk/listening";
import * as netlink from "@godwit/sdk/netlink";
import * as places from "@godwit/sdk/places";
import * as process from "@godwit/sdk/process";
import * as secret from "@godwit/sdk/secret";
import * as serial from "@godwit/sdk/serial";
import * as tcp from "@godwit/sdk/tcp";

const modules: Readonly<Record<string, Readonly<Record<string, unknown>>>> = {
  "@godwit/sdk": sdk,
  "@godwit/sdk/bounded": bounded,
  "@godwit/sdk/errors": errors,
  "@godwit/sdk/listening": listening,
  "@godwit/sdk/netlink": netlink,
  "@godwit/sdk/places": places,
  "@godwit/sdk/process": process,
  "@godwit/sdk/secret": secret,
  "@godwit/sdk/serial": serial,
  "@godwit/sdk/tcp": tcp,
};

/** Names that `godwit plugin pack` leaves out of a bundle. */
export const sdkModules: readonly string[] = Object.keys(modules);

export function bindSdk(build: PluginBuilder): void {
  for (const [name, exports] of Object.entries(modules))
    build.module(name, () => ({ exports: { ...exports }, loader: "object" }));
}
