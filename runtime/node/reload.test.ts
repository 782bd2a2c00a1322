import { expect, test } from "bun:test";
import { parseConfig } from "../config/load.ts";
import { silentLog } from "../kernel/log.ts";
import { Reloader } from "./reload.ts";

const parse = (text: string) => parseConfig(text, { env: {}, isRoot: true, format: "toml" });

test("a node that began to stop while its file was read opens nothing more", async () => {
  const did: string[] = [];
  const stop = new AbortController();
  const file = Promise.withResolvers<void>();
  const reloader = new Reloader({
    host: {
      remove: async (_, name) => void did.push(`remove ${name}`),
      start: async (instances) => void did.push(`start ${instances.map(({ name }) => name).join()}`),
      replace: async ({ name }) => void did.push(`replace ${name}`),
    },
    config: parse(""),
    log: silentLog,
    signal: stop.signal,
    async read() {
      await file.promise;
      const config = parse('[api]\nlisten = "127.0.0.1:1"\n[services.telex]\ntype = "telex"\n');
      return { config, replaced: new Set(), take: () => did.push("take") };
    },
    apply: (changed) => did.push(`apply ${changed.join()}`),
  });
  const reloading = reloader.reload();
  stop.abort();
  file.resolve();
  await expect(reloading).rejects.toMatchObject({ code: "GODWIT_STOPPED" });
  expect(did).toEqual([]);
});
