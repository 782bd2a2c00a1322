/** What text is made for: colours or none, so many columns or as many as it needs, and times as people or as programs tell them. */
import { type Colours, createColours } from "../kernel/colours.ts";
import type { Clock } from "../kernel/clock.ts";

export type Dress = (text: string) => string;

export interface Paint extends Colours {
  /** Of the terminal; undefined: what is written may be as wide as it likes. */
  readonly columns: number | undefined;
  /** A time of the API, null for none: "never", "5 s ago", "in 3 h"; as the API told it where the exact time is asked for. */
  readonly moment: (iso: string | null) => string;
  /** The same for a time that is so many seconds ahead, or back where negative; null for none: "-". */
  readonly ahead: (seconds: number | null) => string;
  /** A time as the distance to one before it: "+500 ms"; "-2 s" where two clocks differ. */
  readonly lag: (iso: string, from: string) => string;
  /** The colour of a state, of which `text` begins with the word. */
  readonly state: (text: string) => Dress;
}

export interface PaintOptions {
  readonly isColoured: boolean;
  readonly columns: number | undefined;
  readonly clock: Clock;
  /** Exact times, RFC 3339. */
  readonly isUtc: boolean;
}

export function createPaint({ isColoured, columns, clock, isUtc }: PaintOptions): Paint {
  const colours = createColours(isColoured);
  return {
    ...colours,
    columns,
    moment(iso) {
      if (iso === null) return "never";
      const atMs = Date.parse(iso);
      return isUtc || Number.isNaN(atMs) ? iso : relativeTime(atMs - clock.wallMs(), iso);
    },
    ahead(seconds) {
      if (seconds === null) return "-";
      const iso = new Date(clock.wallMs() + seconds * 1_000).toISOString();
      return isUtc ? iso : relativeTime(seconds * 1_000, iso);
    },
    lag(iso, from) {
      const ms = Date.parse(iso) - Date.parse(from);
      if (isUtc || Number.isNaN(ms)) return iso;
      const amount = Math.abs(ms) < 10 * SECOND_MS ? `${Math.abs(ms)} ms` : roundedDuration(Math.abs(ms));
      return `${ms < 0 ? "-" : "+"}${amount}`;
    },
    state: (text) => stateDress(colours, text),
  };
}

const SECOND_MS = 1_000;
const MINUTE_MS = 60 * SECOND_MS;
const HOUR_MS = 60 * MINUTE_MS;
const DAY_MS = 24 * HOUR_MS;
/** Farther than this the distance says little, and a date says more: a machine whose clock was wrong, mostly. */
const DISTANCE_MS_MAX = 400 * DAY_MS;

/** Negative: past. */
function relativeTime(distanceMs: number, iso: string): string {
  const ms = Math.abs(distanceMs);
  if (ms < SECOND_MS) return "now";
  if (ms > DISTANCE_MS_MAX) return iso.slice(0, 10);
  const amount = roundedDuration(ms);
  return distanceMs < 0 ? `${amount} ago` : `in ${amount}`;
}

/** In the unit that gives 1 to 119 of it, or days. */
function roundedDuration(ms: number): string {
  if (ms < 119.5 * SECOND_MS) return `${Math.round(ms / SECOND_MS)} s`;
  if (ms < 119.5 * MINUTE_MS) return `${Math.round(ms / MINUTE_MS)} min`;
  if (ms < 47.5 * HOUR_MS) return `${Math.round(ms / HOUR_MS)} h`;
  return `${Math.round(ms / DAY_MS)} d`;
}

/** Every word that the API has for a state. What is in none of them is on its way: queued, suspect, starting, degraded. */
const GOOD = /^(?:ok|alive|running|connected|delivered|trusted|confirmed|linked|up|yes|reached|current)$/;
const BAD = /^(?:down|failed|blocked|expired|refused|revoked|unreachable)$/;
const PLAIN = /^(?:|-|no|member|unknown|left|withdrawn|disconnected|old)$/;

function stateDress({ good, warn, bad }: Colours, text: string): Dress {
  const word = /^[\w-]*/.exec(text)![0];
  if (GOOD.test(word)) return good;
  if (BAD.test(word)) return bad;
  return PLAIN.test(word) ? (plain) => plain : warn;
}
