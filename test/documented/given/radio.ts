import type { EmulatedRadio } from "../../radio/radio.ts";
import type { Given } from "../place.ts";
import { newEther, numberOf, plugRadio } from "../radios.ts";

let radio: EmulatedRadio;

export const given: Given = {
  before: async (place) => {
    await place.machine().run("godwit init --callsign DUN-A");
    radio = await plugRadio(place.machine(), newEther(place), { name: "Dundee roof", region: "UNSET" });
  },
  steps: [
    {
      block: "sudo godwit radio setup --region",
      words: () => Promise.resolve({ "<number>": numberOf(radio) }),
    },
    {
      block: "godwit radio list",
      given: async (place) => await place.machine().until("godwit radio list | grep -q ready"),
    },
  ],
};
