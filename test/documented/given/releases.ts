import type { Given } from "../place.ts";

export const given: Given = {
  machines: { "DUN-A": "192.0.2.10", "LON-B": "192.0.2.7" },
  before: async (place) => {
    const far = await place.node("LON-B");
    const here = await place.node("DUN-A", { init: "--peer tcp://192.0.2.7:4860" });
    await here.until("godwit members | grep -q LON-B.*alive");
    // Sealed and open: what is kept aside.
    await here.run("godwit send LON-B FIRST --wait");
    await far.quit("godwit run");
    await here.run("godwit send LON-B SECOND");
  },
  steps: [
    {
      block: "systemctl stop godwit",
      given: async (place) => {
        await place.machine().quit("godwit run");
        // This machine has no systemd, and whatever ran the node has stopped it.
        await place.machine().run("systemctl() { [ \"$*\" = 'stop godwit' ]; }");
      },
      after: async (place) => void (await place.machine().run("ls /var/lib/godwit/godwit.db.aside-*")),
    },
    {
      block: "godwit store take-in",
      given: async (place) => void (await place.machine().run("cd /var/lib/godwit")),
      words: async (place) => ({
        "godwit.db.aside-DATE": (await place.machine().run("echo godwit.db.aside-*")).trim(),
      }),
      after: async (place) => {
        await place.machine().run("godwit run");
        await place.machine("LON-B").run("godwit run");
        await place.machine("LON-B").until("[ $(godwit inbox | grep -c DUN-A) = 2 ]");
      },
    },
  ],
};
