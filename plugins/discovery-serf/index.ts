/**
 * discovery.serf: a member of a cluster of HashiCorp's Serf that somebody has already. Its members that are nodes of Godwit become hints; the
 * handshake alone proves who they are. Never decides who is alive in the mesh: that is membership's own. docs/serf.md.
 */
import { definePlugin, type Timer } from "@godwit/sdk";
import { Agent } from "./agent.ts";
import { serfConfig } from "./config.ts";
import { answerRequests } from "./requests.ts";

/** A port that is taken, or an interface without an address, may be free, or have one, later. */
const LISTEN_RETRY_MS = 5_000;

export default definePlugin({
  id: "serf",
  namespace: "discovery",
  sdk: "^0.1.0",
  permissions: ["net.udp", "net.tcp", "net.dns", "fs.read", "env", "storage"],
  config: serfConfig,
  warnings: ({ encrypt_key }) =>
    encrypt_key === undefined
      ? [
          "without encrypt_key whoever reaches the port reads the members and their addresses, and can claim any name or declare anybody failed",
        ]
      : [],
  async start(ctx, config) {
    let agent: Agent | undefined;
    let retry: Timer | undefined;
    ctx.own(async () => {
      retry?.cancel();
      await agent?.stop();
    });
    answerRequests(ctx, () => agent);
    let told = "";
    const open = async () => {
      try {
        const opened = await Agent.open(ctx, config);
        if (ctx.signal.aborted) return await opened.stop();
        agent = opened;
        opened.start();
      } catch (error) {
        if (ctx.signal.aborted) return;
        const reason = error instanceof Error ? error.message : String(error);
        ctx.health({ state: "down", reason });
        if (reason !== told) ctx.log.warn("serf does not listen", { reason });
        told = reason;
        retry = ctx.clock.after(LISTEN_RETRY_MS, () => void open());
      }
    };
    await open();
  },
});
