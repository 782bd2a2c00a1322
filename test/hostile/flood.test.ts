/** 10,000 free identities come and go at one node. 100,000: `./scripts/test --long identity-flood`. */
import { declareFlood } from "./flood.ts";

declareFlood(10_000, 600_000);
