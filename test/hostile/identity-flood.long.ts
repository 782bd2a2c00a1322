/** 100,000 free identities come and go at one node: more than any of its tables holds. */
import { declareFlood } from "./flood.ts";

declareFlood(100_000, 3 * 3_600_000);
