/** A judge of what others name. For tests only. */
import { Metrics } from "./metrics.ts";
import { NamedPlaces, type NamedPlacesDeps } from "./named-places.ts";

/** Judges what others name, on a machine without addresses unless `change` says so. */
export const openPlaces = (change: Partial<NamedPlacesDeps> = {}): NamedPlaces =>
  new NamedPlaces({
    metrics: new Metrics(),
    addresses: () => [],
    allowed: [],
    isOnThisMachine: () => false,
    isMachineAlone: () => false,
    ...change,
  });
