/** A discovery of a third party that only talks to its like on other nodes, and tells an operator what it heard. */
import { definePlugin } from "@godwit/sdk";

const config = {
  "~standard": { version: 1 as const, vendor: "plain", validate: () => ({ value: {} }) },
};

export default definePlugin({
  id: "neighbours",
  namespace: "discovery",
  sdk: "^0.1.0",
  permissions: [],
  config,
  start(ctx) {
    const heard = new Map<string, string>();
    let changes = 0;
    const { peers } = ctx;
    peers.onMessage((from, message) => {
      const isFirst = !heard.has(from);
      heard.set(from, new TextDecoder().decode(message));
      // Its own may not have been listening yet when it was greeted.
      if (isFirst) greet();
    });
    const greet = () => {
      for (const { id, isLinked } of peers.list())
        if (isLinked) peers.send(id, new TextEncoder().encode(`hello from ${peers.self.callsign}`));
    };
    peers.onChange(() => {
      changes++;
      greet();
    });
    greet();
    ctx.onRequest(async (request, input) => {
      if (request !== "heard") throw new Error(`it knows no ${request}`);
      const { self } = ctx;
      const word = new TextEncoder().encode("word");
      const signature = await self.sign(word);
      const isSigned = await self.verify(self.id, word, signature);
      const isForged = await self.verify(self.id, word.subarray(1), signature);
      return {
        heard: Object.fromEntries(heard),
        changes,
        input,
        network: peers.self.network,
        self: { id: self.id, endpoints: self.endpoints(), isSigned, isForged },
      };
    });
  },
});
