/** A node's time on a clock that moves only when told to. For tests only. */
import type { Clock } from "@godwit/sdk";
import { silentLog } from "../kernel/log.ts";
import { type KeptTime, NodeTime } from "./node-time.ts";

export interface TestTime {
  readonly time: NodeTime;
  /** What was saved last. */
  kept: KeptTime | undefined;
  /** What a time source says; undefined: there is none. */
  vouchedMs: () => number | undefined;
}

export function testTime(
  clock: Clock,
  before?: KeptTime,
  vouchedMs: TestTime["vouchedMs"] = () => undefined,
): TestTime {
  const test = { kept: before, vouchedMs };
  const time = new NodeTime({
    clock,
    log: silentLog,
    kept: before,
    save: (kept) => {
      test.kept = kept;
      return Promise.resolve();
    },
    vouched: () => test.vouchedMs(),
  });
  return Object.assign(test, { time });
}
