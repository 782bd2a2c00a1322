import { type Given, idOf } from "../place.ts";

export const given: Given = {
  machines: { "DUN-A": "192.0.2.10", "LON-B": "192.0.2.7" },
  before: async (place) => {
    const far = await place.node("LON-B", { toml: [place.block("[[forward_allow]]")] });
    await far.run("mkdir /srv\ncd /srv\necho 'from LON-B' > index.html\npython3 -m http.server 80", {
      stays: { "python3 -m http.server": "curl -sf http://127.0.0.1:80/" },
    });
    const here = await place.node("DUN-A", { init: "--peer tcp://192.0.2.7:4860" });
    await here.until("godwit members | grep -q LON-B.*alive");
    await far.until("godwit members | grep -q DUN-A.*alive");
    // A name that is only pinned opens nothing.
    await far.run(`godwit names resolve DUN-A ${await idOf(here)}`);
  },
  steps: [
    {
      block: "godwit forward 127",
      stays: { "godwit forward 127": "curl -sf http://127.0.0.1:8080/ | grep 'from LON-B'" },
    },
  ],
};
