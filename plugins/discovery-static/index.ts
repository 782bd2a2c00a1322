/**
 * discovery.static: the peers that an operator wrote down. Every entry is a permanent hint, dialled for ever.
 */
import { definePlugin } from "@godwit/sdk";
import { z } from "zod/mini";

/** `tcp://host:port`, optionally `#<node id>` behind it to insist on who answers (32 bytes: the last bits are zero). */
const peer = z.string().check(
  z.regex(/^[a-z][a-z0-9+.-]*:\/\/[^\s#]+(#[a-zA-Z2-7]{51}[aAqQ])?$/, {
    error: "expected scheme://host:port, optionally followed by #<52-character node id>",
  }),
);

const config = z.strictObject({
  peers: z._default(z.array(peer).check(z.maxLength(1024)), []),
});

export default definePlugin({
  id: "static",
  namespace: "discovery",
  sdk: "^0.1.0",
  permissions: [],
  config,
  start(ctx, { peers }) {
    for (const entry of peers) {
      const at = entry.indexOf("#");
      const endpoint = at < 0 ? entry : entry.slice(0, at);
      const nodeId = at < 0 ? undefined : entry.slice(at + 1).toLowerCase();
      ctx.discovery.hint({ endpoint, permanent: true, ...(nodeId === undefined ? {} : { nodeId }) });
    }
  },
});
