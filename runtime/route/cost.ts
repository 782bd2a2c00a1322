/**
 * Advertised cost of a link: the expected time to deliver 256 bytes, in 0.1 ms units, from what moves slowly (rate,
 * loss, base round trip), on a 25 % grid with hysteresis. Pure. Queue delay is no part of it: it may only choose among
 * feasible next hops (decide.ts), because an advertised queue makes a mesh oscillate. docs/protocol/routing.md "Cost".
 */
import type { Bottleneck } from "../wire/constants.ts";
import type { LinkCost } from "./neighbour.ts";
import { UPDATE_MTU_MIN } from "./updates.ts";

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
/**
 * A shorter round trip counts as this one, and a cost moves by half of it at least: below it a measurement says more of
 * how busy the two machines are than of the link, and every move is told to the whole mesh. Less than two such links
 * cost, so that noise never makes a way over two links the cheaper one.
 */
const RTT_FLOOR_MS = 1;
const UNITS_MARGIN = (RTT_FLOOR_MS * UNITS_PER_MS) / 2;

/** Unquantised cost, 0.1 ms units, 1..LINK_COST_MAX. */
export function rawCost({ rateBitsPerSecond, loss, baseRttMs }: LinkMeasurement): number {
  const transfer = (REFERENCE_BITS * UNITS_PER_SECOND) / Math.max(rateBitsPerSecond, 1);
  const delivered = Math.min(Math.max(1 - loss, DELIVERY_MIN), 1);
  const roundTripMs = Math.max(baseRttMs, RTT_FLOOR_MS);
  const cost = transfer / delivered + (roundTripMs * UNITS_PER_MS) / 2 + HOP_PENALTY;
  return Number.isFinite(cost) ? Math.min(Math.max(cost, 1), LINK_COST_MAX) : LINK_COST_MAX;
}

const toStep = (cost: number): number => Math.log(cost) / Math.log(STEP);
/** The grid: 1.25^n rounded, so that neighbouring builds agree on it. */
const fromStep = (step: number): number => Math.min(Math.max(Math.round(STEP ** step), 1), LINK_COST_MAX);

/**
 * The cost to advertise: an integer of the 25 % grid, at least 1. `previous` is what this returned last for the link
 * (undefined: first measurement); it is kept until the measurement is 0.75 of a step and 5 units away.
 */
export function linkCost(previous: number | undefined, measured: LinkMeasurement): number {
  const raw = rawCost(measured);
  const step = toStep(raw);
  const isNear =
    previous !== undefined &&
    (Math.abs(step - toStep(previous)) < STEP_MARGIN || Math.abs(raw - previous) < UNITS_MARGIN);
  if (isNear) return previous;
  return fromStep(Math.round(step));
}

export const FAST_BITS_PER_SECOND = 1_000_000;
export const MEDIUM_BITS_PER_SECOND = 10_000;

/** Bottleneck class of a link by its rate: 0 from 1 Mbit/s, 1 from 10 kbit/s, else 2. */
export const bottleneckOf = (rateBitsPerSecond: number): Bottleneck =>
  rateBitsPerSecond >= FAST_BITS_PER_SECOND ? 0 : rateBitsPerSecond >= MEDIUM_BITS_PER_SECOND ? 1 : 2;

/** Whatever is measured: a metric must grow at each hop, and one whole entry must fit a frame. */
export function sanitise(cost: LinkCost): LinkCost {
  const clamped = Number.isFinite(cost.cost)
    ? Math.min(Math.max(Math.round(cost.cost), 1), LINK_COST_MAX)
    : LINK_COST_MAX;
  const isTooSmall = cost.mtu < UPDATE_MTU_MIN;
  return {
    ...cost,
    cost: clamped,
    mtu: Math.min(cost.mtu, 0xffff),
    ...(isTooSmall ? { profile: "slow" } : {}),
  };
}
