/** Thousands of scrapes. */
import { expect, test } from "bun:test";
import { exposed } from "./testing-process-facts.ts";

test("no counter goes back between scrapes: whoever reads them would take that for a restart", async () => {
  const metrics = exposed();
  const seen = new Map<string, number>();
  for (let scrape = 0; scrape < 3_000; scrape++)
    for (const line of (await metrics.render()).split("\n")) {
      const [name = "", value] = line.split(" ");
      if (!/_total(\{|$)/.test(name)) continue;
      if (Number(value) < (seen.get(name) ?? 0))
        throw new Error(`${name} was ${seen.get(name)} and is ${value}`);
      seen.set(name, Number(value));
    }
  expect([...seen.keys()]).toContain('godwit_thread_cpu_seconds_total{thread="others"}');
});
