/**
 * Closed meshes under attack, with real nodes: LON-B stands in the middle of DUN-A and NYC-C. Each test has a mesh of
 * its own, because most end with somebody revoked.
 */
import { afterEach, beforeEach, describe, expect, test } from "bun:test";
import { copyFileSync, mkdirSync, readFileSync, statSync } from "node:fs";
import { join } from "node:path";
import { identityFromSeed } from "../../runtime/identity/keys.ts";
import { loadIdentity } from "../../runtime/identity/keystore.ts";
import { formatRevocation } from "../../runtime/identity/proof-text.ts";
import { encodeRecord, encodeRevocation } from "../../runtime/identity/record.ts";
import { systemClock } from "../../runtime/kernel/clock.ts";
import type { NodeId } from "../../runtime/kernel/ids.ts";
import { systemRandom } from "../../runtime/kernel/random.ts";
import { HandshakeGuard } from "../../runtime/link/guard.ts";
import { openSession } from "../../runtime/link/handshake.ts";
import { freePort, LabNode } from "../../scripts/lab.ts";
import { dialPipe } from "../hostile/dial.ts";
import {
  bodies,
  ClosedLab,
  connectedOf,
  deliver,
  idOf,
  metricOf,
  namesOf,
  NETWORK,
  peersOf,
  revokedOf,
  secretIn,
  secretsOf,
  statusOf,
  WAIT_MS,
} from "./closed-lab.ts";

const TEST_MS = 90_000;
const YEAR_MS = 365 * 24 * 3_600_000;
const A_YEAR_AHEAD = [
  process.execPath,
  "--preload",
  join(import.meta.dir, "year-preload.ts"),
  join(import.meta.dir, "../../runtime/main.ts"),
];

let closed: ClosedLab;

beforeEach(async () => {
  closed = await ClosedLab.create();
});
afterEach(() => closed.lab.close());

async function line(options: {
  network?: string;
  hasAuthority: boolean;
}): Promise<[LabNode, LabNode, LabNode]> {
  if (options.hasAuthority) await closed.makeAuthority();
  const more = options.network === undefined ? {} : { network: options.network };
  const b = await closed.add("LON-B", [], more);
  const a = await closed.add("DUN-A", [b], more);
  const c = await closed.add("NYC-C", [b], more);
  await Promise.all([a, b, c].map((node) => node.start()));
  if (options.hasAuthority) for (const node of [a, b, c]) await closed.name(node);
  for (const node of [a, b, c])
    await node.until(
      "both others by name",
      async () => (await namesOf(node)).filter(({ conflict }) => conflict === null).length === 2,
      WAIT_MS,
    );
  return [a, b, c];
}

/** Whether somebody who holds `secret` and `seed` gets a link. */
async function getsIn(node: Pick<LabNode, "linkPort">, secret: string, stateDir?: string): Promise<boolean> {
  const { pipe, end } = await dialPipe(node.linkPort);
  try {
    const session = await openSession(
      pipe,
      {
        role: "initiator",
        identity: stateDir === undefined ? identityFromAnywhere() : loadIdentity(stateDir),
        network: NETWORK,
        secrets: [new TextEncoder().encode(secret)],
        clock: systemClock,
        random: systemRandom,
        guard: new HandshakeGuard(systemClock, systemRandom),
      },
      AbortSignal.timeout(10_000),
    );
    return await new Promise<boolean>((resolve) => {
      // A node that takes us says hello; one that does not says goodbye.
      session.open({ frame: (bytes) => resolve(bytes[0] === 1), drain() {}, closed: () => resolve(false) });
    });
  } catch {
    return false;
  } finally {
    end();
  }
}

/** By the time that the node gives a message it accepts. */
async function clockAheadMs(node: LabNode): Promise<number> {
  const id = await node.send({ to: "LON-Z", body: "when" });
  const { created_at: at } = await node.json<{ created_at: string }>(`/messages/${id}`);
  return Date.parse(at) - Date.now();
}

const identityFromAnywhere = () => {
  for (;;) {
    try {
      return identityFromSeed(systemRandom.bytes(32));
    } catch {
      // Half of all seeds have the other sign.
    }
  }
};

describe("revocation", () => {
  test(
    "spreads to those who come later, sticks over a restart, and cuts the node off under every address",
    async () => {
      const [a, b, c] = await line({ hasAuthority: true });
      const thief = await idOf(c);
      // A is away when it happens.
      await a.kill("SIGTERM");
      const waiting = await b.send({ to: "NYC-C", body: "not for the thief", ttl_seconds: 3_600 });
      await b.until("it to be delivered", async () => (await bodies(c)).length === 1, WAIT_MS);
      expect(waiting).toHaveLength(32);
      await closed.on(b, ["revoke", "--publish", await closed.revocationOf(thief)]);
      expect(await revokedOf(b)).toEqual([thief]);
      await b.until("the link to go", async () => (await connectedOf(b)) === 0, WAIT_MS);
      // The revoked one was told as well, and says so.
      await c.until(
        "its own health",
        async () => (await c.json<{ status: string }>("/health")).status !== "ok",
        WAIT_MS,
      );
      await a.start();
      await a.until("the revocation", async () => (await revokedOf(a)).includes(thief), WAIT_MS);
      await b.kill("SIGKILL");
      await b.start();
      expect(await revokedOf(b)).toEqual([thief]);
      expect((await peersOf(b)).find(({ id }) => id === thief)).toMatchObject({
        state: "blocked",
        revoked: true,
      });
      // Under its old address and under a new one.
      const secret = secretIn(closed.secretPath);
      expect(await getsIn(b, secret, c.stateDir)).toBe(false);
      await c.kill("SIGTERM");
      const moved = await closed.add("NYC-C", [b], { folder: "moved" });
      mkdirSync(moved.stateDir, { recursive: true, mode: 0o700 });
      copyFileSync(join(c.stateDir, "identity.key"), join(moved.stateDir, "identity.key"));
      await moved.start();
      await moved.until(
        "a refused dial",
        async () => (await metricOf(moved, "godwit_dials_total")) > 0,
        WAIT_MS,
      );
      expect(await connectedOf(moved)).toBe(0);
      expect((await namesOf(b)).map(({ name }) => name)).toEqual(["DUN-A"]);
      // No new mail is sealed to it.
      const late = await a.send({ to: thief, body: "x" });
      const { state, reason } = await a.json<{ state: string; reason: string }>(`/messages/${late}`);
      expect([state, reason]).toEqual(["queued", `nobody called ${thief} has been heard of yet`]);
      expect(await metricOf(b, "godwit_revocations")).toBe(1);
    },
    TEST_MS,
  );

  test(
    "forged, foreign and unauthorised ones are refused, and a replayed record brings nobody back",
    async () => {
      const [a, b, c] = await line({ hasAuthority: true });
      const victim = await idOf(c);
      const stranger = identityFromAnywhere();
      const post = async (bytes: Uint8Array): Promise<number> =>
        (
          await a.api("/mesh/revocations", {
            method: "POST",
            headers: { "content-type": "application/json" },
            body: JSON.stringify({ revocation: formatRevocation(bytes) }),
          })
        ).status;
      const own = loadIdentity(c.stateDir);
      const real = encodeRevocation(own, victim, NETWORK);
      const bent = real.slice();
      bent[60] = bent[60]! ^ 1;
      expect(await post(encodeRevocation(stranger, victim, NETWORK))).toBe(400);
      expect(await post(encodeRevocation(loadIdentity(b.stateDir), victim, NETWORK))).toBe(400);
      expect(await post(encodeRevocation(own, victim, "another"))).toBe(400);
      expect(await post(bent)).toBe(400);
      expect(await post(encodeRecord(own, { sequence: 5 }, NETWORK))).toBe(400);
      expect(await revokedOf(a)).toEqual([]);
      await deliver(a, c, "still a member");
      // By its own key it is taken; from then on its newest record is worth nothing.
      const refusal = await closed.run(["revoke", "self", "--config", c.configPath]);
      expect(refusal.code).toBe(2);
      const { out } = await closed.must(["revoke", "self", "--config", c.configPath, "--confirm", victim]);
      await closed.on(a, ["revoke", "--publish", out.trim()]);
      await b.until("the revocation", async () => (await revokedOf(b)).includes(victim), WAIT_MS);
      await b.until("the link to go", async () => (await connectedOf(b)) === 1, WAIT_MS);
      expect(await getsIn(b, secretIn(closed.secretPath), c.stateDir)).toBe(false);
    },
    TEST_MS,
  );
});

describe("names", () => {
  test(
    "pinned: the holder keeps its mail while another claims the name, until the operator decides; forgetting frees it, and who claims it can be given it again",
    async () => {
      const [a, b, c] = await line({ hasAuthority: false });
      const impostor = await closed.add("NYC-C", [b], { folder: "impostor" });
      await impostor.start();
      await a.until(
        "the conflict",
        async () => (await namesOf(a)).some(({ conflict }) => conflict !== null),
        WAIT_MS,
      );
      await a.send({ to: "NYC-C", body: "for the holder" });
      await c.until("the message", async () => (await bodies(c)).includes("for the holder"), WAIT_MS);
      await closed.on(a, ["names", "resolve", "NYC-C", await idOf(c)]);
      expect((await namesOf(a)).every(({ conflict }) => conflict === null)).toBe(true);
      expect(await bodies(impostor)).toEqual([]);
      await closed.on(a, ["names", "forget", "NYC-C"]);
      expect((await namesOf(a)).map(({ name }) => name)).toEqual(["LON-B"]);
      // It claims the name still, in a record that is not made anew for that.
      await closed.on(a, ["names", "resolve", "NYC-C", await idOf(c)]);
      expect((await namesOf(a)).find(({ name }) => name === "NYC-C")).toMatchObject({
        ...{ node: await idOf(c), vouched: true, conflict: null },
      });
    },
    TEST_MS,
  );

  test(
    "with an authority: a claim without proof, or with somebody else's, means nothing",
    async () => {
      const [a, b, c] = await line({ hasAuthority: true });
      expect((await namesOf(a)).map(({ source }) => source)).toEqual(["authority", "authority"]);
      const impostor = await closed.add("NYC-C", [b], { folder: "impostor" });
      await impostor.start();
      await impostor.until("a link", async () => (await connectedOf(impostor)) === 1, WAIT_MS);
      const proof = (
        await closed.must([
          ...[
            "authority",
            "sign-name",
            "NYC-C",
            await idOf(c),
            "--key",
            closed.keyPath,
            "--network",
            NETWORK,
          ],
        ])
      ).out.trim();
      const refused = await closed.run(["names", "adopt", proof, "--socket", impostor.socketPath]);
      expect([refused.code, refused.err]).toEqual([1, expect.stringContaining("it is for node")]);
      await deliver(a, c, "to the real one");
      expect((await namesOf(a)).find(({ name }) => name === "NYC-C")).toMatchObject({
        node: await idOf(c),
        conflict: null,
      });
      expect(await bodies(impostor)).toEqual([]);
    },
    TEST_MS,
  );
});

describe("rotation", () => {
  test(
    "reaches everybody over the mesh without a lost link, one who was away as well; then the old secret is worth nothing",
    async () => {
      const [a, b, c] = await line({ hasAuthority: true });
      const [old, ids] = [secretIn(closed.secretPath), await Promise.all([a, b, c].map(idOf))];
      const before = (await secretsOf(a)).epochs[0]!.epoch;
      await c.kill("SIGTERM");
      const drops: string[] = [];
      const watch = new AbortController();
      void followEvents(a, "peer", watch.signal, (type) => void (type === "peer.down" && drops.push(type)));
      const next = join(closed.lab.dir, "next.key");
      const refused = await closed.run(["secret", "rotate", "--out", next, "--socket", a.socketPath]);
      expect([refused.code, refused.err]).toEqual([
        1,
        expect.stringContaining("not signed by the network's authority"),
      ]);
      const args = ["secret", "rotate", "--out", next, "--key", closed.keyPath, "--json"];
      const answer = JSON.parse((await closed.on(a, args)).out) as { epoch: string; sent: NodeId[] };
      expect(answer.sent.sort()).toEqual([ids[1]!, ids[2]!].sort());
      await b.until(
        "the new secret",
        async () => (await secretsOf(b)).epochs[0]!.epoch === answer.epoch,
        WAIT_MS,
      );
      for (const node of [a, b])
        await node.until(
          "the link under it",
          async () =>
            (await peersOf(node)).some(({ links }) =>
              links.some((link) => link.secret_epoch === answer.epoch),
            ),
          WAIT_MS,
        );
      await a.until(
        "no link under the old one",
        async () => (await metricOf(a, "godwit_links_old_secret")) === 0,
        WAIT_MS,
      );
      // Whoever was away comes in under the old secret and finds the new one waiting, whatever its clock says.
      await c.reconfigure({ command: A_YEAR_AHEAD });
      await c.start();
      expect(Math.abs((await clockAheadMs(c)) - YEAR_MS)).toBeLessThan(60_000);
      await c.until(
        "the new secret",
        async () => (await secretsOf(c)).epochs[0]!.epoch === answer.epoch,
        WAIT_MS,
      );
      await c.until(
        "its link under it",
        async () => (await metricOf(c, "godwit_links_old_secret")) === 0,
        WAIT_MS,
      );
      expect((await secretsOf(a)).epochs.map(({ epoch, state }) => [epoch, state])).toEqual([
        [answer.epoch, "current"],
        [before, "old"],
      ]);
      expect(await getsIn(b, old)).toBe(true);
      for (const node of [a, b, c]) await closed.on(node, ["secret", "retire"]);
      expect(await getsIn(b, old)).toBe(false);
      expect(await getsIn(b, secretIn(next))).toBe(true);
      expect(drops).toEqual([]);
      await deliver(a, c, "after the rotation");
      // It survives a restart with the old secret still in the configuration, in a file of its own.
      await b.kill("SIGKILL");
      // The watch would have seen one.
      await a.until("the lost link", async () => drops.length > 0, WAIT_MS);
      watch.abort();
      await b.start();
      expect((await secretsOf(b)).epochs.map(({ epoch }) => epoch)).toEqual([answer.epoch]);
      expect(await getsIn(b, old)).toBe(false);
      expect(statSync(join(b.stateDir, "network-secrets.json")).mode & 0o777).toBe(0o600);
      await b.until("its neighbours", async () => (await connectedOf(b)) === 2, WAIT_MS);
      for (const node of [a, b, c]) {
        const seen = [
          node.logTail,
          JSON.stringify(await statusOf(node)),
          JSON.stringify(await secretsOf(node)),
          readFileSync(`/proc/${node.pid}/cmdline`, "latin1"),
          await (await node.api("/metrics")).text(),
        ].join("\n");
        expect(seen).not.toContain(secretIn(next));
        expect(seen).not.toContain(old);
      }
    },
    TEST_MS,
  );

  test(
    "a member without the authority's key rotates nothing, unless the configuration says so",
    async () => {
      const [a, b] = await line({
        hasAuthority: false,
        network: 'rotate = "members"\nsecret_overlap = "4s"\n',
      });
      const next = join(closed.lab.dir, "next.key");
      await closed.on(a, ["secret", "rotate", "--out", next]);
      await b.until("the new secret", async () => (await secretsOf(b)).generation === 1, WAIT_MS);
      // The overlap ends by itself.
      await b.until("the end of the overlap", async () => (await secretsOf(b)).epochs.length === 1, WAIT_MS);
      await a.until(
        "the link under the new one",
        async () => (await metricOf(a, "godwit_links_old_secret")) === 0,
        WAIT_MS,
      );
      expect(await getsIn(b, secretIn(closed.secretPath))).toBe(false);
    },
    TEST_MS,
  );
});

test(
  "whoever joins while a secret is replaced knows which is newer, and lets the old one go with the others",
  async () => {
    const overlap = 'rotate = "members"\nsecret_overlap = "12s"\n';
    const [a, b] = await line({ hasAuthority: false, network: overlap });
    await closed.on(a, ["secret", "rotate", "--out", join(closed.lab.dir, "next.key")]);
    await b.until("the new secret", async () => (await secretsOf(b)).generation === 1, WAIT_MS);
    const { out: token } = await closed.on(b, ["invite"]);
    const dir = join(closed.lab.dir, "fresh");
    mkdirSync(dir);
    const linkPort = freePort();
    const fresh = new LabNode(
      dir,
      {
        callsign: "-",
        env: {
          GODWIT_TRANSPORTS__LAN__LISTEN: JSON.stringify([`127.0.0.1:${linkPort}`]),
          GODWIT_API__LISTEN: "false",
        },
      },
      () => false,
    );
    closed.lab.nodes.push(fresh);
    await closed.must(["join", token.trim(), "--config", fresh.configPath, "--state-dir", fresh.stateDir]);
    await fresh.start();
    const { generation, epochs } = await secretsOf(fresh);
    expect(generation).toBe(1);
    expect(epochs.map(({ epoch, state }) => [epoch, state])).toEqual(
      (await secretsOf(b)).epochs.map(({ epoch, state }) => [epoch, state]),
    );
    await fresh.until("a link", async () => (await connectedOf(fresh)) > 0, WAIT_MS);
    await fresh.until(
      "the end of the overlap",
      async () => (await secretsOf(fresh)).epochs.length === 1,
      WAIT_MS,
    );
    expect(await getsIn({ linkPort }, secretIn(closed.secretPath))).toBe(false);
    expect((await secretsOf(fresh)).epochs[0]!.epoch).toBe((await secretsOf(a)).epochs[0]!.epoch);
  },
  TEST_MS,
);

describe("after the theft of a node", () => {
  test(
    "its id is revoked, the others get a new secret, its name moves to the new machine and its mail follows",
    async () => {
      const [a, b, c] = await line({ hasAuthority: true });
      const thief = await idOf(c);
      // The thief has the disk: identity and secret.
      await c.kill("SIGKILL");
      const mail = await a.send({ to: "NYC-C", body: "for whoever is NYC-C", ttl_seconds: 3_600 });
      const next = join(closed.lab.dir, "next.key");
      await closed.on(a, [
        "revoke",
        "--publish",
        closed.file("c.revocation", await closed.revocationOf(thief)),
      ]);
      const rotated = await closed.on(a, [
        "secret",
        "rotate",
        "--key",
        closed.keyPath,
        "--out",
        next,
        "--json",
      ]);
      const answer = JSON.parse(rotated.out) as {
        sent: NodeId[];
        left_out: { id: NodeId; reason: string }[];
      };
      expect(answer.sent).toEqual([await idOf(b)]);
      expect(answer.left_out).toEqual([{ id: thief, reason: "revoked" }]);
      await b.until("the new secret", async () => (await secretsOf(b)).generation === 1, WAIT_MS);
      const heir = await closed.add("NYC-C", [b], { folder: "heir", secretPath: next });
      await heir.start();
      await closed.name(heir, 2);
      await heir.until(
        "its mail",
        async () => (await bodies(heir)).includes("for whoever is NYC-C"),
        WAIT_MS,
      );
      expect(mail).toHaveLength(32);
      // The thief comes back with everything it has.
      await c.start();
      await c.until("a refused dial", async () => (await metricOf(c, "godwit_dials_total")) > 0, WAIT_MS);
      expect(await connectedOf(c)).toBe(0);
      expect((await secretsOf(c)).generation).toBe(0);
      for (const node of [a, b]) await closed.on(node, ["secret", "retire"]);
      expect(await getsIn(b, secretIn(closed.secretPath))).toBe(false);
      expect((await namesOf(a)).find(({ name }) => name === "NYC-C")?.node).toBe(await idOf(heir));
    },
    TEST_MS,
  );
});

/** Calls `onType` for each event until aborted. */
async function followEvents(
  node: LabNode,
  family: string,
  signal: AbortSignal,
  onType: (type: string) => void,
): Promise<void> {
  try {
    const response = await node.api(`/events?family=${family}`, { signal });
    const decoder = new TextDecoder();
    for await (const chunk of response.body!)
      for (const match of decoder.decode(chunk, { stream: true }).matchAll(/^event: (\S+)$/gm))
        onType(match[1]!);
  } catch {
    // Aborted.
  }
}
