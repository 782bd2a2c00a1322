import { type Given, idOf } from "../place.ts";

export const given: Given = {
  machines: { "DUN-A": "192.0.2.10", "LON-B": "192.0.2.7", "NYC-C": "192.0.2.11" },
  before: async (place) => void (await place.node("LON-B", { init: "--mdns" })),
  steps: [
    {
      block: "godwit init --mdns",
      after: async (place) => await place.machine().until("godwit members | grep -q LON-B.*alive"),
    },
    {
      block: "avahi-publish",
      given: async (place) => {
        const house = await place.node("NYC-C");
        await house.run("mkdir /run/dbus\ndbus-daemon --system --fork --nopidfile\navahi-daemon --daemonize");
      },
      words: async (place) => ({ "<node id>": await idOf(place.machine("NYC-C")) }),
      stays: { "avahi-publish": "grep -q Established $LOG" },
      after: async (place) => await place.machine().until("godwit members | grep -q NYC-C.*alive"),
    },
  ],
};
