/**
 * `ctx.services` between plugins of a third party, in every mix of levels: in the node's process, in a Worker, locked in. What was
 * granted works, a flood and a slow reader cost only whoever makes them, and an end in mid-call is heard at the other end.
 */
import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { existsSync } from "node:fs";
import { buildGodwit } from "../../scripts/build.ts";
import { binaryPath, Lab, type LabNode } from "../../scripts/lab.ts";
import { bundle, install, askPlugin, untilRunning } from "./lab.ts";

const levels = ["trusted", "contained", "untrusted"] as const;
type Level = (typeof levels)[number];
const mixes = levels.flatMap((provider) => levels.map((user) => ({ provider, user })));
/** More than all windows, queues and pipes on the way hold together. */
const MESSAGES = 4_000;
/** What those may hold, in messages of 2,064 bytes on the average: the node's window, and at each end behind frames a flow's and a pipe's. */
const UNREAD_BYTES_MAX = 262_144 + 2 * (524_288 + 262_144 + 65_536);

interface Table {
  readonly id: string;
  readonly code: string;
  readonly level: Level;
  readonly grant: readonly string[];
  readonly more?: string;
}
/** Name of its table. */
const nameOf = (id: string): string => id.replaceAll("-", "_");
/** What is trusted is granted nothing, and may all. */
const tableText = ({ id, level, grant, more = "" }: Table): string =>
  `[discovery.${nameOf(id)}]\ntype = "${id}"\ntrust = "${level}"\ngrant = ${JSON.stringify(level === "trusted" ? [] : grant)}\n${more}`;

let lab: Lab;
let node: LabNode;

beforeAll(async () => {
  if (!existsSync(binaryPath)) await buildGodwit(undefined, binaryPath);
  lab = await Lab.create();
  const granted = levels.flatMap((level) => [`service:radio-${level}`, `service:victim-${level}`]);
  const tables: Table[] = levels.flatMap((level) => [
    ...["radio", "victim"].map((kind) => ({
      id: `${kind}-${level}`,
      code: "radio",
      level,
      grant: [`service.offer:${kind}-${level}`],
      more: `offers = "${kind}-${level}"`,
    })),
    { id: `user-${level}`, code: "observer", level, grant: granted },
    { id: `failing-${level}`, code: "observer", level, grant: granted },
    { id: `stranger-${level}`, code: "observer", level, grant: [`service:victim-${level}`] },
  ]);
  node = await lab.add({ callsign: "SVC-A", extra: tables.map(tableText).join("\n") });
  for (const { id, code } of tables)
    await install(node.stateDir, {
      id,
      namespace: "discovery",
      permissions: [code === "radio" ? "service.offer:*" : "service:*"],
      code: await bundle(code, { ID: JSON.stringify(id) }),
    });
  await node.start(60_000);
  await untilRunning(
    node,
    tables.map(({ id }) => `discovery.${nameOf(id)}`),
  );
}, 120_000);
afterAll(async () => {
  await lab?.close();
});

const ask = <T = unknown>(
  instance: string,
  request: string,
  input: { readonly name?: string; readonly count?: number } = {},
): Promise<T> => askPlugin<T>(node, instance, request, input);
const until = (what: string, check: () => Promise<boolean>) => node.until(what, check, 30_000);
interface Seen {
  readonly aborted: number;
  readonly closes: Readonly<Record<string, number>>;
  readonly unsent: number;
}

describe.each(mixes)("provider $provider, user $user", ({ provider, user }) => {
  const name = `radio-${provider}`;
  const instance = `user-${user}`;

  test("a request crosses whole, with whoever asks proven", async () => {
    expect(await ask(instance, "when", { name })).toBe("there");
    for (const count of [0, 1, 60_000])
      expect(await ask<object>(instance, "echo", { name, count })).toEqual({
        json: { consumer: `discovery.${nameOf(instance)}`, json: [count] },
        length: count,
        isSame: true,
      });
  }, 60_000);

  test("a flood of requests is refused beyond its bound, and the next is answered", async () => {
    const count = 1_500;
    const outcomes = await ask<Record<string, number>>(instance, "flood", { name, count });
    expect(Object.values(outcomes).reduce((sum, of) => sum + of, 0)).toBe(count);
    expect(Object.keys(outcomes).sort()).toEqual(["GODWIT_QUEUE_FULL", "answered"]);
    await until(
      "room again",
      async () => !("error" in (await ask<object>(instance, "echo", { name, count: 1 }))),
    );
  }, 60_000);

  test("a slow reader holds its sender back; then every message comes, whole, alone and in order, those before a close too", async () => {
    expect(await ask(instance, "slow", { name, count: MESSAGES })).toBe("open");
    let last = -1;
    await until("the sender to wait", async () => {
      const { unsent } = await ask<Seen>(`radio-${provider}`, "seen");
      const isStill = unsent === last;
      last = unsent;
      return isStill;
    });
    expect((MESSAGES - last) * 2_064).toBeLessThan(UNREAD_BYTES_MAX);
    expect(last).toBeGreaterThan(0);
    expect(await ask<object>(instance, "seen")).toMatchObject({ messages: 0, ended: null });
    // Others of the same provider and user do not wait for it.
    expect(await ask<object>(instance, "echo", { name, count: 1 })).toMatchObject({ length: 1 });
    await ask(instance, "read");
    await until("the end", async () => (await ask<{ ended: unknown }>(instance, "seen")).ended !== null);
    expect(await ask<object>(instance, "seen")).toEqual({ messages: MESSAGES, broken: 0, ended: "politely" });
  }, 60_000);

  test("a handler that throws ends the channel at the other end with its failure", async () => {
    expect(await ask(instance, "throws", { name })).toBe("GODWIT_PLUGIN_FAILED");
  }, 60_000);
});

describe.each(levels)("provider %s", (level) => {
  test("that fails in mid-call: the call and the channel end with that, and its next life answers", async () => {
    const name = `victim-${level}`;
    for (const user of levels) {
      expect(await ask(`user-${user}`, "when", { name })).toBe("there");
      expect(await ask<object>(`user-${user}`, "mid-call", { name })).toEqual({
        call: "GODWIT_SERVICE_GONE",
        channel: "GODWIT_SERVICE_GONE",
      });
    }
    await until(
      "its next life",
      async () => !("error" in (await ask<object>("user-untrusted", "echo", { name, count: 1 }))),
    );
  }, 120_000);

  test("a user that fails: its call is aborted, its channel ends, and the others are served", async () => {
    for (const user of levels) {
      const before = await ask<Seen>(`radio-${level}`, "seen");
      const gone = ({ closes }: Seen) => closes["GODWIT_SERVICE_GONE"] ?? 0;
      await until(
        "it to fail",
        async () =>
          (await ask(`failing-${user}`, "fails", { name: `radio-${level}` }).catch(() => "")) === "fails",
      );
      await until("its ends", async () => {
        const now = await ask<Seen>(`radio-${level}`, "seen");
        return now.aborted > before.aborted && gone(now) > gone(before);
      });
    }
    expect(await ask<object>("user-trusted", "echo", { name: `radio-${level}`, count: 1 })).toMatchObject({
      length: 1,
    });
  }, 120_000);
});

test("a provider that exits without a word in mid-call is gone", async () => {
  expect(await ask("user-untrusted", "exits-provider", { name: "victim-untrusted" })).toBe(
    "GODWIT_SERVICE_GONE",
  );
}, 60_000);

test("what was not granted by name is neither used nor offered, at any level that is contained", async () => {
  for (const level of ["contained", "untrusted"] as const) {
    expect(await ask<object>(`stranger-${level}`, "use", { name: "radio-trusted" })).toEqual({
      error: "GODWIT_FORBIDDEN",
    });
    await expect(ask(`radio-${level}`, "offer-other")).rejects.toThrow("FORBIDDEN");
  }
}, 60_000);

test("of all that nothing is left", async () => {
  await until("no channel", async () => {
    const metrics = await (await node.api("/metrics")).text();
    return /^godwit_plugin_service_channels 0$/m.test(metrics);
  });
}, 60_000);
