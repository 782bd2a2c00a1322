import { CLONE } from "../machine.ts";
import { type Given, invitation } from "../place.ts";

export const given: Given = {
  machines: { "DUN-A": "192.0.2.10", "LON-B": "192.0.2.7", "NYC-C": "192.0.2.11" },
  folder: CLONE,
  before: async (place) => void (await place.node("LON-B")),
  steps: [
    {
      block: "dist/godwit join",
      given: async (place) => void (await place.machine("NYC-C").run(`cd ${CLONE}`)),
      typed: async (place) => await invitation(place.machine("LON-B")),
    },
    {
      block: "dist/godwit status",
      given: async (place) => await place.machine().until("godwit members | grep -q LON-B.*alive"),
    },
  ],
};
