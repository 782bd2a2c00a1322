/** Running time across lives: one row of the store. What is damaged counts as none: a first life, which ends nothing early. */
import type { Clock, Log } from "@godwit/sdk";
import type { Store } from "../store/types.ts";
import { type KeptTime, type Moment, NodeTime } from "./node-time.ts";

const TIME_KEY = "running-time";

export interface OpenTimeOptions {
  readonly store: Store;
  readonly clock: Clock;
  readonly log: Log;
  vouched(): number | undefined;
}

/** Rejects with GODWIT_STORE_FAILED. */
export async function openNodeTime({ store, clock, log, vouched }: OpenTimeOptions): Promise<NodeTime> {
  const row = (await store.load("setting")).find(({ key }) => key === TIME_KEY);
  const kept = row === undefined ? undefined : parseKept(row.meta);
  const unknown = row === undefined || kept === undefined ? {} : unknownFields(row.meta);
  if (row !== undefined && kept === undefined) log.warn("damaged row", { in: "setting", key: TIME_KEY });
  return new NodeTime({
    clock,
    log,
    kept,
    vouched,
    save: (next) =>
      store.commit([
        { op: "put", in: "setting", key: TIME_KEY, meta: JSON.stringify({ ...unknown, ...next }) },
      ]),
  });
}

/** Of a later release: kept for it. */
function unknownFields(text: string): Record<string, unknown> {
  const { runMs: _1, confirmed: _2, noted: _3, absences: _4, ...rest } = JSON.parse(text) as KeptTime;
  return rest;
}

function parseKept(text: string): KeptTime | undefined {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch {
    return undefined;
  }
  if (typeof value !== "object" || value === null) return undefined;
  const { runMs, confirmed, noted, absences } = value as Record<string, unknown>;
  if (!isTime(runMs)) return undefined;
  return {
    runMs,
    confirmed: isMoment(confirmed) ? confirmed : undefined,
    noted: isMoment(noted) ? noted : undefined,
    absences: Array.isArray(absences) ? absences.filter(isAbsence) : [],
  };
}

const isTime = (value: unknown): value is number =>
  typeof value === "number" && Number.isFinite(value) && value >= 0;

const isMoment = (value: unknown): value is Moment =>
  typeof value === "object" &&
  value !== null &&
  isTime((value as Moment).runMs) &&
  isTime((value as Moment).wallMs);

const isAbsence = (value: unknown): value is { runMs: number; offMs: number } =>
  typeof value === "object" &&
  value !== null &&
  isTime((value as { runMs: unknown }).runMs) &&
  isTime((value as { offMs: unknown }).offMs);
