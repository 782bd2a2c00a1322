import { CLONE } from "../machine.ts";
import type { Given } from "../place.ts";

export const given: Given = {
  folder: CLONE,
  steps: [
    {
      block: "godwit completion bash",
      after: async (place) =>
        void (await place.machine().run(". /etc/bash_completion.d/godwit\ncomplete -p godwit")),
    },
  ],
};
