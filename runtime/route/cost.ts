/**
 * Advertised cost of a link: the expected time to deliver 256 bytes, in 0.1 ms units, from what moves slowly (rate,
 * loss, base round trip), on a 25 % grid with hysteresis. Pure. Queue delay is no part of it: it may only choose among
 * feasible next hops (decide.ts), because an advertised queue makes a mesh oscillate. docs/protocol/routing.md "Cost".
 */
import type { Bottleneck } from "../wire/constants.ts";

export interface LinkMeasurement {
  /** Goodput, bits per second, > 0. */
  readonly rateBitsPerSecond: number;
  /** Share of frames that need sending again, 0 (none) up to 1. */
  readonly loss: number;
  /** Smallest round trip seen lately, ms. */
  readonly baseRttMs: number;
}

const REFERENCE_BITS = 256 * 8;
const UNITS_PER_SECOND = 10_000;
const UNITS_PER_MS = 10;
const HOP_PENALTY = 1;
/** A link that loses more is as good as down; a smaller divisor would only make the number meaningless. */
const DELIVERY_MIN = 0.02;
/** Largest link cost: 8,388 s. Keeps sums of 64 hops below infinity. */
export const LINK_COST_MAX = 2 ** 26;
const STEP = 1.25;
/** A measurement must leave the held step by this share of a step before the cost moves. */
const STEP_MARGIN = 0.75;

/** Unquantised cost, 0.1 ms units, 1..LINK_COST_MAX. */
export function rawCost({ rateBitsPerSecond, loss, baseRttMs }: LinkMeasurement): number {
  const transfer = (REFERENCE_BITS * UNITS_PER_SECOND) / Math.max(rateBitsPerSecond, 1);
  const delivered = Math.min(Math.max(1 - loss, DELIVERY_MIN), 1);
  const cost = transfer / delivered + (Math.max(baseRttMs, 0) * UNITS_PER_MS) / 2 + HOP_PENALTY;
  return Number.isFinite(cost) ? Math.min(Math.max(cost, 1), LINK_COST_MAX) : LINK_COST_MAX;
}

const toStep = (cost: number): number => Math.log(cost) / Math.log(STEP);
/** The grid: 1.25^n rounded, so that neighbouring builds agree on it. */
const fromStep = (step: number): number => Math.min(Math.max(Math.round(STEP ** step), 1), LINK_COST_MAX);

/**
 * The cost to advertise: an integer of the 25 % grid, at least 1. `previous` is what this returned last for the link
 * (undefined: first measurement); it is kept until the measurement is 0.75 of a step away.
 */
export function linkCost(previous: number | undefined, measured: LinkMeasurement): number {
  const step = toStep(rawCost(measured));
  if (previous !== undefined && Math.abs(step - toStep(previous)) < STEP_MARGIN) return previous;
  return fromStep(Math.round(step));
}

export const FAST_BITS_PER_SECOND = 1_000_000;
export const MEDIUM_BITS_PER_SECOND = 10_000;

/** Bottleneck class of a link by its rate: 0 from 1 Mbit/s, 1 from 10 kbit/s, else 2. */
export const bottleneckOf = (rateBitsPerSecond: number): Bottleneck =>
  rateBitsPerSecond >= FAST_BITS_PER_SECOND ? 0 : rateBitsPerSecond >= MEDIUM_BITS_PER_SECOND ? 1 : 2;
