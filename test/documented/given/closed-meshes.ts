import type { PageMachine } from "../machine.ts";
import { carry, configure, type Given, idOf, type Place } from "../place.ts";

const KEY = "/etc/godwit/network.key";
const AUTHORITY = "/root/godwit-authority.key";
const peer = "--peer tcp://192.0.2.7:4860";

const authorityOf = async (place: Place): Promise<string> =>
  place
    .block("[network]\nauthority")
    .replace("<id that authority init printed>", (await place.machine().run(`cat ${AUTHORITY}.id`)).trim());

/** The authority's key is a stick that is carried to where it is used. */
async function signed(place: Place, name: string, machine: PageMachine): Promise<void> {
  carry(AUTHORITY, place.machine(), machine);
  const sign = `godwit authority sign-name ${name} ${await idOf(machine)} --key ${AUTHORITY} --network godwit --out name.proof`;
  await machine.run(`${sign}\ngodwit names adopt name.proof`);
}

export const given: Given = {
  machines: {
    "DUN-A": "192.0.2.10",
    "LON-B": "192.0.2.7",
    "NYC-C": "192.0.2.11",
    "the new DUN-A": "192.0.2.12",
    // An open mesh beside it.
    "PAR-A": "192.0.2.20",
    "ROM-A": "192.0.2.21",
  },
  before: async (place) => void (await place.machine().run(`godwit init --callsign DUN-A ${peer}`)),
  steps: [
    {
      block: "godwit authority init",
      after: async (place, output) => {
        const id = /\b[a-z2-7]{52}\b/.exec(output)?.[0];
        if (id === undefined) throw new Error(`no id of the authority: ${output}`);
        place.machine().write(`${AUTHORITY}.id`, id);
        const tables = [place.block("[node]\nnetwork_secret"), await authorityOf(place)];
        for (const toml of tables) configure(place.machine(), toml);
        await place.machine().run("godwit run");
        for (const name of ["LON-B", "NYC-C"]) {
          carry(KEY, place.machine(), place.machine(name));
          await place.node(name, { init: name === "LON-B" ? "" : peer, toml: tables });
          await signed(place, name, place.machine(name));
        }
        await place.machine().until("godwit members | grep -q NYC-C.*alive");
      },
    },
    {
      block: "godwit authority sign-name DUN-A <id>",
      words: async (place) => ({ "<id>": await idOf(place.machine()) }),
      after: async (place) => await place.machine("LON-B").until("godwit names | grep -q DUN-A.*authority"),
    },
    {
      block: "godwit secret rotate",
      given: async (place) => {
        for (const name of ["LON-B", "NYC-C"])
          await place.machine().until(`godwit names | grep -q ${name}.*authority`);
      },
      after: async (place) =>
        await place.machine("NYC-C").until("[ $(godwit secret --json | grep -o '\"epoch\"' | wc -l) = 2 ]"),
    },
    {
      block: "godwit revoke self",
      after: async (place) => await place.machine("LON-B").until("godwit revocations | grep -q sold"),
    },
    {
      block: "godwit authority revoke <stolen id>",
      words: async (place) => ({ "<stolen id>": await idOf(place.machine()) }),
      after: async (place) => void (await place.machine("LON-B").run("godwit send DUN-A 'ARE YOU BACK'")),
    },
    {
      block: "godwit authority sign-name DUN-A <new id>",
      given: async (place) => {
        const [near, fresh] = [place.machine("LON-B"), place.machine("the new DUN-A")];
        await fresh.run(`godwit init --callsign DUN-A ${peer}`);
        carry(AUTHORITY, near, fresh);
        fresh.write(KEY, near.read("/etc/godwit/network-2.key"), 0o600);
        for (const toml of [place.block("[node]\nnetwork_secret"), await authorityOf(place)])
          configure(fresh, toml);
        await fresh.run("godwit run");
      },
      words: async (place) => ({ "<new id>": await idOf(place.machine("the new DUN-A")) }),
      after: async (place) =>
        await place.machine("the new DUN-A").until("godwit inbox --json | grep -q 'LON-B'"),
    },
    {
      block: "godwit names     ",
      given: async (place) => {
        await place.node("PAR-A", { init: "--network open" });
        const here = await place.node("ROM-A", { init: "--network open --peer tcp://192.0.2.20:4860" });
        await here.until("godwit members | grep -q PAR-A.*alive");
      },
      words: async (place) => ({
        "DUN-A <id>": `PAR-A ${await idOf(place.machine("PAR-A"))}`,
        "forget DUN-A": "forget PAR-A",
      }),
    },
  ],
};
