/** Loaded in front of a node that runs from source: its wall clock stands a year ahead of everybody else's. */
const YEAR_MS = 365 * 24 * 3_600_000;
const now = Date.now.bind(Date);
Date.now = () => now() + YEAR_MS;
