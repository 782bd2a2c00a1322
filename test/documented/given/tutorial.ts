import type { EmulatedRadio } from "../../radio/radio.ts";
import { carry, type Given, invitation, type Place } from "../place.ts";
import { newEther, numberOf, plugRadio } from "../radios.ts";

/** On each machine. */
const radios = new Map<string, EmulatedRadio>();
const KEY = "/etc/godwit/radio-godwit.key";

const plugBoth = async (place: Place): Promise<void> => {
  const ether = newEther(place);
  for (const [name, roof] of [
    ["DUN-A", "Dundee roof"],
    ["LON-B", "London roof"],
  ] as const)
    radios.set(name, await plugRadio(place.machine(name), ether, { name: roof, region: "UNSET" }));
};

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
    { block: "godwit radio setup\n", given: plugBoth },
    {
      block: "godwit radio setup --region",
      words: () => Promise.resolve({ "<number>": numberOf(radios.get("DUN-A")!) }),
    },
    {
      block: "godwit radio setup --key",
      given: (place) => Promise.resolve(carry(KEY, place.machine(), place.machine("LON-B"))),
      words: () => Promise.resolve({ "<number>": numberOf(radios.get("LON-B")!) }),
    },
    {
      block: "godwit radio list",
      given: async (place) => {
        for (const name of ["DUN-A", "LON-B"])
          await place.machine(name).until("godwit radio list | grep -q ready");
      },
    },
  ],
};
