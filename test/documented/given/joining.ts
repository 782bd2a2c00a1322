import { type Given, invitation } from "../place.ts";

export const given: Given = {
  machines: { "LON-B": "192.0.2.7", "NYC-C": "192.0.2.11" },
  before: async (place) => void (await place.node("LON-B")),
  steps: [
    {
      block: "godwit join",
      typed: async (place) => await invitation(place.machine("LON-B")),
      after: async (place) => await place.machine("NYC-C").until("godwit members | grep -q LON-B.*alive"),
    },
  ],
};
