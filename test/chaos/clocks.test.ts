/**
 * Real nodes whose wall clock is wrong at a start, or right after a time off that somebody has to confirm. Needs libfaketime, which
 * is there wherever the suite installs its peers.
 */
import { afterAll, expect, test } from "bun:test";
import { existsSync } from "node:fs";
import { mkdir, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { binaryPath, freePort, Lab, type LabNode } from "../../scripts/lab.ts";
import { closeClusters, Cluster, type ClusterOptions, type Message } from "./cluster.ts";

afterAll(closeClusters);

const TIMEOUT_MS = 90_000;
const faketime = ["x86_64", "aarch64"]
  .map((machine) => `/usr/lib/${machine}-linux-gnu/faketime/libfaketimeMT.so.1`)
  .find((path) => existsSync(path));
const missing =
  faketime === undefined ? " [skipped: needs libfaketime: scripts/test --peers installs it]" : "";
if (missing !== "") console.warn(`test/chaos/clocks.test.ts${missing}`);

/** `+2h`, `-1y` or `@1970-01-01 00:00:10`; undefined: the machine's own clock. Only the wall clock is another one. */
const clockOf = (shift: string | undefined): Readonly<Record<string, string>> =>
  shift === undefined
    ? {}
    : { LD_PRELOAD: faketime!, FAKETIME: shift, FAKETIME_DONT_FAKE_MONOTONIC: "1", DONT_FAKE_MONOTONIC: "1" };

/** Stops the node as an operator does, and starts it with this clock. */
async function restart(node: LabNode, shift: string | undefined): Promise<void> {
  await node.kill("SIGTERM");
  await node.reconfigure({ env: clockOf(shift) });
  await node.start();
}

interface Health {
  readonly status: string;
  readonly checks: readonly { readonly name: string; readonly status: string; readonly reason: string }[];
}

async function clockHealth(node: LabNode): Promise<Health["checks"][number]> {
  const { checks } = (await (await node.api("/health")).json()) as Health;
  return checks.find(({ name }) => name === "clock")!;
}

const states = async (node: LabNode, box: "outbox" | "transit"): Promise<string[]> =>
  (await node.box<Message>(box)).map(({ state }) => state);

function scenario(name: string, options: ClusterOptions, play: (mesh: Cluster) => Promise<void>): void {
  test.skipIf(missing !== "")(
    `${name}${missing}`,
    async () => {
      const mesh = await Cluster.open(options);
      try {
        await play(mesh);
      } finally {
        await mesh.close();
      }
    },
    TIMEOUT_MS,
  );
}

for (const [where, shift] of [
  ["decades ahead", "+14600d"],
  ["in 1970", "@1970-01-01 00:00:10"],
] as const)
  scenario(
    `one start with the clock ${where} expires no mail, own or carried, and says that the clock is in doubt`,
    {
      callsigns: ["DUN-A", "LON-B", "NYC-C"],
      links: [
        ["DUN-A", "LON-B"],
        ["LON-B", "NYC-C"],
      ],
    },
    async (mesh) => {
      const [a, b, c] = mesh.nodes as [LabNode, LabNode, LabNode];
      // Standing still it has its links yet, so that mail comes as far as the relay.
      c.signal("SIGSTOP");
      const carried = await a.send({ to: "NYC-C", body: "wait for me" });
      const own = await b.send({ to: "NYC-C", body: "of the relay" });
      await b.until("custody of it", async () => (await states(b, "transit")).length === 1, 20_000);
      await c.kill("SIGKILL");
      expect((await clockHealth(b)).status).toBe("ok");

      await restart(b, shift);
      const { status, reason } = await clockHealth(b);
      expect(status).toBe("degraded");
      expect(reason).toContain("set it right");
      expect(b.logLines.some((line) => line.includes('"event":"clock in doubt"'))).toBe(true);
      expect(await states(b, "outbox")).toEqual(["queued"]);
      expect(await states(b, "transit")).toHaveLength(1);

      await restart(b, undefined);
      expect((await clockHealth(b)).status).toBe("ok");
      await c.start();
      expect((await mesh.outcome("LON-B", own)).state).toBe("delivered");
      expect((await mesh.outcome("DUN-A", carried)).state).toBe("delivered");
      expect(await c.box<Message>("inbox")).toHaveLength(2);
    },
  );

/** DUN-A says that its clock is right; LON-B has mail for an hour, which nobody takes, and both were off for two. */
function offForTwoHours(
  name: string,
  isTrusted: boolean,
  judge: (b: LabNode, mail: string) => Promise<void>,
): void {
  scenario(
    name,
    {
      callsigns: ["DUN-A", "LON-B"],
      links: [["DUN-A", "LON-B"]],
      config: { "DUN-A": { nodeExtra: 'clock = "trusted"' } },
    },
    async (mesh) => {
      const [a, b] = mesh.nodes as [LabNode, LabNode];
      const trust = (level: string) =>
        b.json(`/mesh/peers/${mesh.id("DUN-A")}/trust`, {
          method: "POST",
          headers: { "content-type": "application/json" },
          body: JSON.stringify({ level, reason: "its clock is right" }),
        });
      await trust("trusted");
      expect(await clockHealth(b)).toMatchObject({
        status: "ok",
        reason: "confirmed: neighbours agree with it",
      });
      if (!isTrusted) await trust("member");
      const mail = await b.send({ to: "NYC-C", body: "for an hour", ttl_seconds: 3_600 });
      await b.kill("SIGTERM");
      await restart(a, "+2h");

      await a.kill("SIGTERM");
      await restart(b, "+2h");
      expect((await clockHealth(b)).reason).toStartWith("unconfirmed: ");
      expect((await b.json<Message>(`/messages/${mail}`)).state).toBe("queued");
      await a.start();
      await b.until(
        "a link",
        async () => (await b.json<{ peers: { connected: number } }>("/mesh/status")).peers.connected === 1,
        20_000,
      );
      await judge(b, mail);
    },
  );
}

offForTwoHours(
  "time off ends mail at its stated time once a neighbour that the operator trusts confirms the clock",
  true,
  async (b, mail) => {
    await b.until(
      "the end of the message",
      async () => (await b.json<Message>(`/messages/${mail}`)).state === "expired",
      10_000,
    );
    expect((await clockHealth(b)).reason).toBe("confirmed: neighbours agree with it");
  },
);

offForTwoHours(
  "a neighbour that nobody trusts ends no mail by what it says of the time",
  false,
  async (b, mail) => {
    expect((await clockHealth(b)).reason).toStartWith("unconfirmed: ");
    expect((await b.json<Message>(`/messages/${mail}`)).state).toBe("queued");
  },
);

test.skipIf(missing !== "")(
  `a used invitation stays used after one start with the clock decades ahead${missing}`,
  async () => {
    const lab = await Lab.create();
    try {
      const key = join(lab.dir, "network.key");
      await writeFile(key, "Vt0c8Jq2nXe5Lr7bYk1Hs9Gd4Mw6Zf3Pa-QuTxRoNiB\n", { mode: 0o600 });
      const nodeExtra = `network_secret = "file:${key}"`;
      const a = await lab.add({ callsign: "DUN-A", network: "clocks", nodeExtra });
      await a.start();
      const token = await inviteOf(a);
      expect(await joinWith(lab, token, "first")).toBe("joined");
      await restart(a, "+14600d");
      expect(await joinWith(lab, token, "thief")).not.toBe("joined");
      await restart(a, undefined);
      expect(await joinWith(lab, token, "second-thief")).toBe("GODWIT_INVITE_USED");
    } finally {
      await lab.close();
    }
  },
  TIMEOUT_MS,
);

/** For one use. A node knows its own address a moment after its API answers. */
async function inviteOf(node: LabNode): Promise<string> {
  const request: RequestInit = {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: JSON.stringify({ ttl_seconds: 24 * 3_600, uses: 1 }),
  };
  let token = "";
  const ask = async () => {
    ({ token } = await node.json<{ token: string }>("/mesh/invites", request));
    return true;
  };
  await node.until("an invitation", ask, 10_000);
  return token;
}

/** A machine with an empty folder and the token; answers "joined", or the code of what it was told. */
async function joinWith(lab: Lab, token: string, name: string): Promise<string> {
  const dir = join(lab.dir, name);
  await mkdir(dir);
  const child = Bun.spawn([binaryPath, "join", token, "--config", join(dir, "godwit.toml"), "--json"], {
    cwd: dir,
    env: {
      PATH: process.env["PATH"] ?? "",
      GODWIT_NODE__STATE_DIR: join(dir, "state"),
      GODWIT_TRANSPORTS__LAN__LISTEN: JSON.stringify([`127.0.0.1:${freePort()}`]),
      GODWIT_API__LISTEN: "false",
    },
    stdin: "ignore",
    stdout: "ignore",
    stderr: "pipe",
    timeout: 45_000,
    killSignal: "SIGKILL",
  });
  const [error, code] = await Promise.all([new Response(child.stderr).text(), child.exited]);
  return code === 0 ? "joined" : (JSON.parse(error) as { code: string }).code;
}
