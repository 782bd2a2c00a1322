/** A clock that stands in 1970, as that of a machine without a battery does: libfaketime of Debian, for the environment of a node. */
import { existsSync } from "node:fs";

const library = ["x86_64", "aarch64"]
  .map((machine) => `/usr/lib/${machine}-linux-gnu/faketime/libfaketimeMT.so.1`)
  .find((path) => existsSync(path));

/** Undefined: it is there. */
export const whyNoFaketime =
  library === undefined ? "needs libfaketime: scripts/test --peers installs it" : undefined;

export const clockOf1970: Readonly<Record<string, string>> = {
  LD_PRELOAD: library ?? "",
  FAKETIME: "@1970-01-01 00:00:10",
  FAKETIME_DONT_FAKE_MONOTONIC: "1",
  DONT_FAKE_MONOTONIC: "1",
};
