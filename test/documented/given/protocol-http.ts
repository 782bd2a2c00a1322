import type { Given } from "../place.ts";

/** curl is content with a refusal, the page's reader is not. */
const accepted = async (_: unknown, output: string): Promise<void> => {
  if (/"(title|problem)"|GODWIT_/.test(output)) throw new Error(`refused: ${output}`);
};

export const given: Given = {
  machines: { "LON-B": "192.0.2.7" },
  before: async (place) => void (await place.node("LON-B")),
  steps: [
    { block: "curl -s http", after: accepted },
    {
      block: "TOKEN=",
      given: async (place) => place.machine().write("/root/map.png", "not a picture"),
      after: async (place, output) => {
        await accepted(place, output);
        await place.machine().run("[ $(godwit outbox --json | grep -o '\"id\"' | wc -l) = 4 ]");
      },
    },
  ],
};
