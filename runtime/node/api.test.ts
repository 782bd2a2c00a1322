import { expect, test } from "bun:test";
import { parseConfig } from "../config/load.ts";
import type { Log } from "../kernel/log.ts";
import { PublicRead } from "./api.ts";

test("an API that everybody may read is told each time that it begins, and no other time", () => {
  const told: unknown[] = [];
  const log = { warn: (event: string, fields: object) => void told.push({ event, ...fields }) } as Log;
  const publicRead = new PublicRead(log);
  const steps = (["false", "true", "true", "false", "true"] as const).map((value) => {
    publicRead.configure(
      parseConfig(`[api]\npublic_read = ${value}\nlisten = "[::]:8000"`, {
        env: {},
        isRoot: true,
        format: "toml",
      }),
    );
    return [publicRead.isOn, told.length];
  });
  expect(steps).toEqual([
    [false, 0],
    [true, 1],
    [true, 1],
    [false, 1],
    [true, 2],
  ]);
  expect(told[0]).toEqual({
    event: "mesh and metrics readable by whoever reaches the api",
    setting: "api.public_read",
    listen: ["[::]:8000"],
  });
});
