/** A minute of each flood of floods.test.ts, and honest traffic meanwhile, relative to the same time without one. */
import { declareSieges } from "./siege.ts";

declareSieges(60_000, 15_000);
