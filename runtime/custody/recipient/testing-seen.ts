/** A sender, its starts, and the hour. For tests only. */
import { testId } from "../testing.ts";

/** Hours since 1970: the year 2027. */
export const NOW = 500_000;
export const HOUR_MS = 3_600_000;
export const share = { by: "known", isKnown: true };

export const sender = testId("sender");
export const epochOf = (n: number) => n.toString(16).padStart(16, "0");
