import { configure, type Given } from "../place.ts";

let publisher = "";

export const given: Given = {
  machines: { "DUN-A": "192.0.2.10" },
  steps: [
    { block: "godwit plugin check", timeoutMs: 120_000 },
    {
      block: "godwit plugin dev --trust untrusted",
      stays: { "godwit plugin dev --trust untrusted": "grep -q 'its receipt came back' $LOG" },
      timeoutMs: 120_000,
      after: async (place) => await place.machine().quit("godwit plugin dev --trust untrusted"),
    },
    {
      block: "godwit plugin pack\ngodwit plugin inspect",
      after: async (_, output) => void (publisher = /\b[a-z2-7]{52}\b/.exec(output)?.[0] ?? ""),
    },
    {
      block: "godwit plugin trust",
      given: async (place) => void (await place.node("DUN-A")),
      words: async () => ({ KEY: publisher }),
    },
    {
      block: "godwit config check",
      given: async (place) => configure(place.machine(), place.block("[transports.gull]")),
    },
    {
      block: "godwit plugin pack\ngodwit plugin add gull-0.2.0",
      given: async (place) =>
        void (await place.machine().run('sed -i \'s/"0.1.0"/"0.2.0"/\' godwit-plugin.json')),
    },
    {
      block: "godwit reload\ngodwit plugin remove",
      given: async (place) =>
        void (await place.machine().run("sed -i '/^.transports.gull/,$ d' /etc/godwit/godwit.toml")),
    },
  ],
};
