/** `[transports.NAME] type = "yggdrasil"`: what may stand there. */
import { z } from "zod/mini";
import { parseAdmin } from "./admin.ts";
import { isCallable, isPeer } from "./endpoint.ts";

export const ADMIN_DEFAULT = "unix:///var/run/yggdrasil/yggdrasil.sock";
const PEERS_MAX = 64;
const ANNOUNCE_MAX = 2;
const LIST_MAX = 64;

const peering = z
  .string()
  .check(z.refine(isPeer, { error: 'expected a peer as Yggdrasil writes it, e.g. "tls://192.0.2.7:9001"' }));

export const yggdrasilConfig = z
  .strictObject({
    /** `system`: a daemon that somebody else runs. `supervised`: one of our own, a child of the node. */
    mode: z._default(z.enum(["system", "supervised"]), "system"),
    /** System: the daemon's admin socket. Default unix:///var/run/yggdrasil/yggdrasil.sock. */
    admin: z.optional(
      z.string().check(
        z.refine((text) => parseAdmin(text) !== undefined, {
          error: `expected unix:///path or tcp://host:port, e.g. "${ADMIN_DEFAULT}"`,
        }),
      ),
    ),
    /** TCP port on the overlay's address. 0: any. */
    port: z._default(z.int().check(z.minimum(0), z.maximum(65_535)), 4_862),
    /** Peers of the overlay that the daemon is told to call, as it writes them itself. */
    peers: z._default(z.array(peering).check(z.maxLength(PEERS_MAX)), []),
    /** Where others' daemons can call this node's: published beside its address. */
    announce: z._default(
      z
        .array(
          z
            .string()
            .check(z.refine(isCallable, { error: 'expected scheme://IP:port, e.g. "tls://192.0.2.7:9001"' })),
        )
        .check(z.maxLength(ANNOUNCE_MAX)),
      [],
    ),
    /** Let the daemon call what other nodes announce. */
    peers_from_discovery: z._default(z.boolean(), false),
    /** Try neighbours that the daemon found by multicast as nodes. */
    multicast_hints: z._default(z.boolean(), true),
    /** Supervised: `stored`: a random key in the node's folder. `derived`: from the identity. */
    key: z._default(z.enum(["stored", "derived"]), "stored"),
    /** Supervised: the program. */
    binary: z._default(
      z.string().check(
        z.refine((text) => text === "yggdrasil" || /^\/[^\s"'\\\0]+$/.test(text), {
          error: 'expected "yggdrasil" or an absolute path without spaces or quotes',
        }),
      ),
      "yggdrasil",
    ),
    /** Supervised: where it takes peerings. */
    listen: z._default(z.array(peering).check(z.maxLength(LIST_MAX)), []),
    /** Supervised: regular expressions of interfaces on which it finds neighbours by multicast. */
    multicast: z._default(
      z.array(z.string().check(z.minLength(1), z.maxLength(100))).check(z.maxLength(LIST_MAX)),
      [],
    ),
    /** Supervised: public keys whose peerings it takes; none: everybody's. */
    allowed_keys: z._default(
      z
        .array(
          z.string().check(z.regex(/^[0-9a-f]{64}$/, { error: "expected 64 characters of lower-case hex" })),
        )
        .check(z.maxLength(1_024)),
      [],
    ),
    /** Supervised: name of its interface. */
    interface: z._default(
      z.string().check(
        z.regex(/^[A-Za-z0-9_.-]{1,15}$/, { error: 'expected the name of an interface, or "auto"' }),
        z.refine((name) => name !== "none", {
          error: "expected an interface: without one there are no links",
        }),
      ),
      "auto",
    ),
    /** Supervised: of that interface, 1,280 to 65,535. */
    mtu: z.optional(z.int().check(z.minimum(1_280), z.maximum(65_535))),
  })
  .check(
    z.superRefine((value, ctx) => {
      const refuse = (path: string, mode: string) =>
        ctx.addIssue({
          code: "custom",
          path: [path],
          message: `expected mode = "${mode}" beside ${path}`,
          input: value,
        });
      if (value.mode === "supervised") {
        if (value.admin !== undefined) refuse("admin", "system");
        return;
      }
      if (value.key !== "stored") refuse("key", "supervised");
      if (value.binary !== "yggdrasil") refuse("binary", "supervised");
      for (const key of ["listen", "multicast", "allowed_keys"] as const)
        if (value[key].length > 0) refuse(key, "supervised");
      if (value.interface !== "auto") refuse("interface", "supervised");
      if (value.mtu !== undefined) refuse("mtu", "supervised");
    }),
  );

export type YggdrasilConfig = z.infer<typeof yggdrasilConfig>;
