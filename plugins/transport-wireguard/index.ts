/**
 * transport.wireguard: links inside a WireGuard tunnel that the node makes and keeps by itself. Owns an interface, its key and its peers;
 * links are TCP between addresses that every node computes (addresses.ts). Who is a peer comes from signed records. Must never
 * say a private or preshared key to anybody but the device and its own files. README.md in this folder.
 */
import { definePlugin } from "@godwit/sdk";
import { wireguardConfig } from "./config.ts";
import { Guests } from "./guests.ts";
import { Overlay } from "./overlay.ts";
import { openKey } from "./state.ts";

export default definePlugin({
  id: "wireguard",
  namespace: "transport",
  sdk: "^0.1.0",
  permissions: ["net.admin", "net.tcp", "net.unix", "process.spawn", "files", "peers"],
  config: wireguardConfig,
  async start(ctx, config) {
    const folder = await ctx.folder();
    const secret = await openKey(folder, ctx.random);
    const guests = await Guests.open(folder, ctx.peers.self.network, ctx.peers.self.id);
    await new Overlay({ ctx, config, folder, guests }, secret).open();
  },
});
