/** Tables of plugins: `[transports.NAME]`, `[discovery.NAME]`, `[services.NAME]`. A part of `schema.ts`. */
import * as z from "zod";
import { keysAtMost } from "./parts.ts";
import { choice, expectations } from "./schema-values.ts";

/** Lower case only, so that an environment variable can name any instance. */
const INSTANCE_PATTERN = /^[a-z0-9](?:[a-z0-9]|_(?!_)){0,31}$/;
/** Instances of one kind of plugin: each starts tasks, so their number is bounded. */
const INSTANCES_MAX = 256;

/** What locks an untrusted plugin in, by the names that operators use. */
export const PROTECTIONS = ["landlock", "landlock-net", "seccomp", "uid"] as const;

/** Answers what frames the tables of one kind. */
export function pluginTablesOf() {
  const instanceName = z
    .string()
    .regex(INSTANCE_PATTERN)
    .register(expectations, {
      type: "name",
      expected: "a name of 1 to 32 lower-case letters, digits and single underscores",
      suggest: (value) => {
        const repaired = String(value)
          .toLowerCase()
          .replace(/[^a-z0-9]+/g, "_")
          .replace(/^_+|_+$/g, "");
        return INSTANCE_PATTERN.test(repaired) ? `"${repaired}"` : undefined;
      },
    });

  return (kind: string, example: string) =>
    z
      .record(
        instanceName,
        z.looseObject({
          type: z
            .string()
            .regex(/^[a-z][a-z0-9-]{0,63}$/)
            .register(expectations, {
              type: "plugin id",
              expected: `the id of ${/^[aeiou]/.test(kind) ? "an" : "a"} ${kind} plugin, like "${example}"`,
            })
            .describe(
              `Which ${kind} plugin this is. Keys of the table beyond those that stand here belong to that plugin.`,
            ),
          enabled: z
            .boolean()
            .default(true)
            .register(expectations, { type: "true or false", expected: "true or false" })
            .describe("False keeps the table and does not start it."),
          trust: choice("trusted", "contained", "untrusted")
            .optional()
            .register(expectations, {
              type: '"trusted", "contained", "untrusted"',
              expected: 'one of "trusted", "contained", "untrusted"',
              defaultText: "trusted for what Godwit brings along, untrusted for installed plugins",
            })
            .describe(
              "How far the plugin's code is trusted. trusted: in the node's process, where it can do whatever the node can. contained: in a thread of its own, so that its faults are its own; no protection against malice. untrusted: in a process that the kernel locks in.",
            ),
          grant: z
            .array(z.string().regex(/^[\x20-\x7e]{1,200}$/))
            .max(64)
            .register(expectations, {
              type: "list",
              expected: 'a list of permissions like "net.udp" or "broker.connect:192.0.2.7:80"',
            })
            .prefault([])
            .describe(
              "What an installed plugin may have of the permissions it asks for, each as it asks or less. docs/plugins.md",
            ),
          accept_missing: z
            .array(z.enum(PROTECTIONS))
            .max(PROTECTIONS.length)
            .register(expectations, {
              type: "list",
              expected: `a list of ${PROTECTIONS.map((name) => `"${name}"`).join(", ")}`,
            })
            .prefault([])
            .describe(
              "Protections of untrusted plugins without which it may run where the kernel lacks them. Without this such a plugin is refused there.",
            ),
        }),
      )
      .refine(keysAtMost(INSTANCES_MAX))
      .register(expectations, {
        type: "tables",
        expected: `tables [NAME], at most ${INSTANCES_MAX}, each with a type and the plugin's own keys`,
      })
      .prefault({});
}
