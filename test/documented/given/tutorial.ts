import { type Given, invitation, type Place } from "../place.ts";

const stopped = async (place: Place): Promise<void> => await place.machine("LON-B").quit("godwit run");

const firstId = async (place: Place): Promise<string> =>
  (await place.machine("LON-B").run("godwit inbox | sed -n '2s/ .*//p'")).trim();

export const given: Given = {
  machines: { "DUN-A": "192.0.2.10", "LON-B": "192.0.2.7" },
  before: async (place) => {
    // nc of any make; there may be none where pages are tested.
    await place.machine().run('command -v nc || nc() { socat -t 5 - "TCP:$1:$2"; }');
  },
  steps: [
    {
      block: "godwit invite",
      given: async (place) => await place.machine("LON-B").until("godwit invite --no-qr"),
    },
    { block: "godwit join -", typed: async (place) => await invitation(place.machine("LON-B")) },
    {
      block: "godwit members",
      given: async (place) => await place.machine().until("godwit members | grep -q LON-B.*alive"),
    },
    { block: "godwit inbox read", words: async (place) => ({ "<id>": await firstId(place) }) },
    { block: 'godwit send LON-B "ARE YOU', given: stopped },
    {
      // After the second start.
      block: "godwit outbox",
      given: async (place) => await place.machine().until("[ $(godwit outbox | grep -c delivered) = 2 ]"),
    },
    {
      block: "mkdir -p /srv",
      stays: { "python3 -m http.server": "curl -sf http://127.0.0.1:8080/" },
    },
    {
      block: "godwit forward 127",
      stays: { "godwit forward 127": "curl -sf http://127.0.0.1:9000/" },
    },
    { block: "nc 127", typed: async () => "send LON-B ALL WELL\n" },
  ],
};
