/** What a radio world showed, in lines for people. */
import { kinds } from "./airtime.ts";
import type { RadioResult } from "./result.ts";

const percent = (share: number): string => `${(100 * share).toFixed(2)} %`;
const seconds = (ms: number): string => `${(ms / 1_000).toFixed(0)} s`;

export function reportLines(name: string, result: RadioResult, cpuSeconds: number): string[] {
  const { faults, early, misses, shares, talkShares } = result;
  const perKind = (table: Readonly<Record<string, number>>) =>
    kinds
      .filter((kind) => (table[kind] ?? 0) > 0)
      .map((kind) => `${kind} ${percent(table[kind]!)}`)
      .join(", ");
  const what = new Map<string, number>();
  for (const one of early) {
    const word = one.what.split(" ")[0]!;
    what.set(word, (what.get(word) ?? 0) + 1);
  }
  const waiting = early.filter(({ because }) => because === "the first waits still").length;
  return [
    `${faults.length === 0 ? "ok  " : "FAIL"} ${name}: ${result.sent} messages, ${percent(result.onTime)} within 10 min, ${percent(result.delivered)} delivered, ` +
      `p50 ${seconds(result.delayP50Ms)}, p95 ${seconds(result.delayP95Ms)}; ${JSON.stringify(result.outcomes)}`,
    `     control ${percent(result.talkControl)} of the channel while mail is offered, ${percent(result.control)} since the start; busiest node ${percent(result.ownMost)}`,
    `     while mail is offered: ${perKind(talkShares)}`,
    `     since the start: ${perKind(shares)}`,
    `     repeated too early: ${early.length} ${JSON.stringify(Object.fromEntries(what))}, of which ${waiting} waited still; ${result.links} links; refused ${result.refused}; ` +
      `missed by collision ${misses.collision}, while sending ${misses.sending}, by chance ${misses.loss}`,
    `     ${result.events} events, ${cpuSeconds.toFixed(1)} s of processor time, trace ${result.traceHash.slice(0, 16)}`,
    ...faults.map((fault) => `     ${fault}`),
  ];
}
