/** Named cases of delivery, each with real processes: what chaos.test.ts meets by chance is here on purpose. */
import { afterAll, expect, test } from "bun:test";
import { cp, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import type { LabNode } from "../../scripts/lab.ts";
import { closeClusters, Cluster, type ClusterOptions, type Message } from "./cluster.ts";
import { makeBody } from "./ledger.ts";

afterAll(closeClusters);

const CASE_TIMEOUT_MS = 60_000;

/** A case with its mesh, which is gone afterwards whatever happened. */
function scenario(name: string, options: ClusterOptions, play: (mesh: Cluster) => Promise<void>): void {
  test(
    name,
    async () => {
      const mesh = await Cluster.open(options);
      try {
        await play(mesh);
      } finally {
        await mesh.close();
      }
    },
    CASE_TIMEOUT_MS,
  );
}

const LINE: ClusterOptions = {
  callsigns: ["DUN-A", "LON-B", "NYC-C"],
  links: [
    ["DUN-A", "LON-B"],
    ["LON-B", "NYC-C"],
  ],
};
const PAIR: ClusterOptions = { callsigns: ["DUN-A", "LON-B"], links: [["DUN-A", "LON-B"]] };

const post = (body: unknown): RequestInit => ({
  method: "POST",
  headers: { "content-type": "application/json" },
  body: JSON.stringify(body),
});

async function reaches(node: LabNode, destination: string): Promise<boolean> {
  const { routes } = await node.json<{ routes: { destination: string }[] }>("/mesh/routes");
  return routes.some((route) => route.destination === destination);
}

async function bodiesOf(node: LabNode): Promise<string[]> {
  const inbox = await node.box<Message>("inbox");
  return Promise.all(inbox.map(async ({ id }) => await (await node.api(`/messages/${id}/body`)).text()));
}

scenario(
  "a message goes back the way it came when the way on is cut and another one opens behind it",
  {
    callsigns: ["OSL-S", "DUN-A", "LON-B", "NYC-C", "PAR-D"],
    links: [
      ["OSL-S", "DUN-A"],
      ["DUN-A", "LON-B"],
      ["LON-B", "NYC-C"],
      ["DUN-A", "PAR-D"],
      ["PAR-D", "NYC-C"],
    ],
  },
  async (mesh) => {
    const [source, first, second] = [mesh.node("OSL-S"), mesh.node("DUN-A"), mesh.node("LON-B")];
    mesh.wire("DUN-A", "PAR-D").cut();
    await first.until(
      "LON-B to be the only way",
      async () => {
        const { routes } = await first.json<{
          routes: { destination: string; next_hop: string; alternates: unknown[] }[];
        }>("/mesh/routes");
        const route = routes.find(({ destination }) => destination === mesh.id("NYC-C"));
        return route?.next_hop === mesh.id("LON-B") && route.alternates.length === 0;
      },
      20_000,
    );
    mesh.wire("LON-B", "NYC-C").silence("both");
    const id = await source.send({ to: "NYC-C", body: "there and back again" });
    await second.until("LON-B to hold it", async () => (await second.box("transit")).length === 1, 10_000);
    mesh.wire("LON-B", "NYC-C").cut();
    mesh.wire("DUN-A", "PAR-D").heal();
    const message = await mesh.outcome("OSL-S", id);
    expect(message.state).toBe("delivered");
    expect(mesh.way(message)).toBe("OSL-S > DUN-A > LON-B > DUN-A > PAR-D > NYC-C");
    expect(await bodiesOf(mesh.node("NYC-C"))).toEqual(["there and back again"]);
  },
);

scenario("a transfer of 1 MiB resumes after the relay was killed half way", LINE, async (mesh) => {
  const body = makeBody("resumable0", 2 ** 20);
  const wire = mesh.wire("DUN-A", "LON-B");
  const isHalfWay = wire.silenceAfter(700_000);
  const id = await mesh.node("DUN-A").sendBytes(body, { to: "NYC-C" });
  await isHalfWay;
  await Bun.sleep(500); // what has arrived is being written
  await mesh.node("LON-B").kill("SIGKILL");
  expect(await mesh.node("NYC-C").box("inbox")).toEqual([]);
  wire.cut(); // with what lies in its buffers
  const before = wire.bytes;
  wire.heal();
  await mesh.node("LON-B").start();
  const message = await mesh.outcome("DUN-A", id);
  expect(message.state).toBe("delivered");
  expect(mesh.way(message)).toBe("DUN-A > LON-B > NYC-C");
  expect(wire.bytes - before).toBeLessThan(800_000); // the first half MiB did not travel again
  const inbox = await mesh.node("NYC-C").box<Message>("inbox");
  expect(inbox.length).toBe(1);
  const arrived = await (await mesh.node("NYC-C").api(`/messages/${inbox[0]!.id}/body`)).bytes();
  expect(Buffer.compare(arrived, body)).toBe(0);
});

scenario(
  "mail of several senders waits for a recipient that is off, and arrives once",
  {
    callsigns: ["DUN-A", "LON-B", "NYC-C", "PAR-D"],
    links: [
      ["DUN-A", "LON-B"],
      ["PAR-D", "LON-B"],
      ["LON-B", "NYC-C"],
    ],
  },
  async (mesh) => {
    await mesh.node("NYC-C").kill("SIGKILL");
    const sent: { from: string; id: string; body: string }[] = [];
    for (const from of ["DUN-A", "LON-B", "PAR-D"])
      for (let i = 0; i < 20; i++) {
        const body = `${from} number ${i}`;
        sent.push({ from, body, id: await mesh.node(from).send({ to: "NYC-C", body, priority: i % 4 }) });
      }
    await mesh.node("NYC-C").start();
    for (const { from, id } of sent) expect((await mesh.outcome(from, id)).state).toBe("delivered");
    const bodies = await bodiesOf(mesh.node("NYC-C"));
    expect(bodies.sort()).toEqual(sent.map(({ body }) => body).sort());
  },
);

scenario("a sender killed right after it accepted a message still delivers it", LINE, async (mesh) => {
  const sender = mesh.node("DUN-A");
  const ids: string[] = [];
  for (let i = 0; i < 3; i++) {
    mesh.wire("DUN-A", "LON-B").silence("both");
    ids.push(await sender.send({ to: "NYC-C", body: `last words ${i}` }));
    await sender.kill("SIGKILL");
    mesh.wire("DUN-A", "LON-B").heal();
    await sender.start();
  }
  for (const id of ids) expect((await mesh.outcome("DUN-A", id)).state).toBe("delivered");
  const bodies = await bodiesOf(mesh.node("NYC-C"));
  expect(bodies.sort()).toEqual(["last words 0", "last words 1", "last words 2"]);
});

scenario("an idempotency key gives the same id after the sender restarted", PAIR, async (mesh) => {
  const sender = mesh.node("DUN-A");
  const message = { to: "LON-B", body: "only once", idempotency_key: "key 1" };
  const id = await sender.send(message);
  await sender.kill("SIGKILL");
  await sender.start();
  expect(await sender.send(message)).toBe(id);
  const other = await sender.api("/messages", post({ ...message, body: "something else" }));
  expect(other.status).toBe(409);
  expect((await mesh.outcome("DUN-A", id)).state).toBe("delivered");
  expect(await bodiesOf(mesh.node("LON-B"))).toEqual(["only once"]);
});

scenario("a message that was read and removed does not come back with a late repeat", PAIR, async (mesh) => {
  const [sender, recipient] = [mesh.node("DUN-A"), mesh.node("LON-B")];
  mesh.wire("DUN-A", "LON-B").silence("back"); // neither acknowledgement nor receipt reaches the sender
  const id = await sender.send({ to: "LON-B", body: "read me once" });
  const inbox = () => recipient.box<Message>("inbox");
  await recipient.until("the message", async () => (await inbox()).length === 1, 10_000);
  expect((await recipient.api(`/messages/${id}`, { method: "DELETE" })).status).toBe(204);
  await recipient.kill("SIGKILL");
  mesh.wire("DUN-A", "LON-B").cut();
  mesh.wire("DUN-A", "LON-B").heal();
  await recipient.start();
  expect((await mesh.outcome("DUN-A", id)).state).toBe("delivered");
  expect(await inbox()).toEqual([]);
});

scenario(
  "mail sealed to keys that went with the recipient's store is sealed anew and arrives",
  LINE,
  async (mesh) => {
    const [sender, recipient] = [mesh.node("DUN-A"), mesh.node("NYC-C")];
    const wire = mesh.wire("LON-B", "NYC-C");
    wire.silence("both");
    const ids: string[] = [];
    for (let i = 0; i < 5; i++) ids.push(await sender.send({ to: "NYC-C", body: `to an old key ${i}` }));
    await sender.until(
      "LON-B to hold them",
      async () => (await mesh.node("LON-B").box("transit")).length === 5,
      10_000,
    );
    await recipient.kill("SIGKILL");
    await recipient.destroyStore();
    wire.cut();
    wire.heal();
    await recipient.start();
    for (const id of ids) expect((await mesh.outcome("DUN-A", id)).state).toBe("delivered");
    const next = await sender.send({ to: "NYC-C", body: "to the new key" });
    expect((await mesh.outcome("DUN-A", next)).state).toBe("delivered");
    const expected = [...ids.map((_, i) => `to an old key ${i}`), "to the new key"];
    expect((await bodiesOf(recipient)).sort()).toEqual(expected.sort());
  },
);

scenario("a message to a name that nobody has expires and says why", PAIR, async (mesh) => {
  const startedMs = performance.now();
  const id = await mesh.node("DUN-A").send({ to: "ROM-X", body: "anybody?", ttl_seconds: 2 });
  expect((await mesh.node("DUN-A").json<Message>(`/messages/${id}`)).reason).toContain("ROM-X");
  const message = await mesh.outcome("DUN-A", id, 10_000);
  expect(message.state).toBe("expired");
  expect(message.reason).toContain("ROM-X");
  expect(performance.now() - startedMs).toBeGreaterThan(1_900);
  expect(performance.now() - startedMs).toBeLessThan(6_000);
});

scenario("a withdrawn message is never delivered", PAIR, async (mesh) => {
  const sender = mesh.node("DUN-A");
  await mesh.node("LON-B").kill("SIGKILL");
  const id = await sender.send({ to: "LON-B", body: "better not" });
  expect((await sender.api(`/messages/${id}`, { method: "DELETE" })).status).toBe(204);
  const next = await sender.send({ to: "LON-B", body: "but this" });
  await sender.kill("SIGKILL");
  await sender.start();
  await mesh.node("LON-B").start();
  expect((await mesh.outcome("DUN-A", next)).state).toBe("delivered");
  expect((await mesh.outcome("DUN-A", id)).state).toBe("withdrawn");
  expect(await bodiesOf(mesh.node("LON-B"))).toEqual(["but this"]);
});

const LOCATION: ClusterOptions = {
  callsigns: ["DUN-A", "LON-A", "LON-B"],
  links: [
    ["DUN-A", "LON-A"],
    ["DUN-A", "LON-B"],
    ["LON-A", "LON-B"],
  ],
  config: { "*": { extra: '[delivery]\nfailover_delay = "2s"\n' } },
};

scenario("one machine of a location delivers, with the consent of the other", LOCATION, async (mesh) => {
  const ids: string[] = [];
  for (let i = 0; i < 10; i++) ids.push(await mesh.node("DUN-A").send({ to: "LON", body: `to London ${i}` }));
  for (const id of ids) {
    const message = await mesh.outcome("DUN-A", id);
    expect(message.state).toBe("delivered");
    expect(message.receipt?.unconfirmed).toBe(false);
    expect(["LON-A", "LON-B"]).toContain(mesh.callsignOf(message.receipt!.by));
  }
  const bodies = [...(await bodiesOf(mesh.node("LON-A"))), ...(await bodiesOf(mesh.node("LON-B")))];
  expect(bodies.sort()).toEqual(ids.map((_, i) => `to London ${i}`));
});

scenario(
  "the other machine of a location delivers after the failover delay when one is dead",
  LOCATION,
  async (mesh) => {
    await mesh.node("LON-A").kill("SIGKILL");
    const startedMs = performance.now();
    const id = await mesh.node("DUN-A").send({ to: "LON", body: "whoever lives" });
    const message = await mesh.outcome("DUN-A", id);
    expect(message.state).toBe("delivered");
    expect(performance.now() - startedMs).toBeGreaterThan(1_900);
    expect(message.receipt?.unconfirmed).toBe(true);
    expect(mesh.callsignOf(message.receipt!.by)).toBe("LON-B");
    expect(await bodiesOf(mesh.node("LON-B"))).toEqual(["whoever lives"]);
    // The dead one comes back, is offered its copy, and hears that it was delivered.
    await mesh.node("LON-A").start();
    const second = await mesh.node("DUN-A").send({ to: "LON-A", body: "welcome back" });
    expect((await mesh.outcome("DUN-A", second)).state).toBe("delivered");
    await Bun.sleep(3_000);
    expect(await bodiesOf(mesh.node("LON-A"))).toEqual(["welcome back"]);
  },
);

const { config: _, ...USUAL_DELAY } = LOCATION;

for (const [how, signal, withinMs] of [
  ["said farewell delivers at once", "SIGTERM", 3_000],
  ["was killed delivers soon", "SIGKILL", 12_000],
] as const)
  scenario(
    `the other machine of a location whose first ${how}, long before the usual delay is over`,
    USUAL_DELAY,
    async (mesh) => {
      await mesh.node("LON-A").kill(signal);
      const startedMs = performance.now();
      const id = await mesh.node("DUN-A").send({ to: "LON-A", failover: true, body: "whoever is there" });
      const message = await mesh.outcome("DUN-A", id);
      expect(performance.now() - startedMs).toBeLessThan(withinMs);
      expect(message.receipt?.unconfirmed).toBe(true);
      expect(mesh.callsignOf(message.receipt!.by)).toBe("LON-B");
      await mesh.node("LON-A").start();
      const second = await mesh.node("DUN-A").send({ to: "LON-A", body: "welcome back" });
      expect((await mesh.outcome("DUN-A", second)).state).toBe("delivered");
      expect(await bodiesOf(mesh.node("LON-A"))).toEqual(["welcome back"]);
    },
  );

scenario(
  "mail goes on to whoever holds a callsign that another claims, and both are told",
  PAIR,
  async (mesh) => {
    const [sender, holder] = [mesh.node("DUN-A"), mesh.node("LON-B")];
    const rival = await mesh.lab.add({
      callsign: "LON-B",
      folder: "rival",
      network: "chaos",
      peers: [sender.endpoint],
    });
    await rival.start();
    // The one that others write to, the one that holds the name, and the one that claims it.
    for (const node of [sender, holder, rival]) {
      await node.until(
        "the conflict to be seen",
        async () => {
          const { names } = await node.json<{ names: { name: string; conflict: string | null }[] }>(
            "/mesh/names",
          );
          return names.some(({ name, conflict }) => name === "LON-B" && conflict !== null);
        },
        10_000,
      );
      const { checks } = await node.json<{ checks: { name: string; reason: string }[] }>("/health");
      expect(checks.find(({ name }) => name === "names")?.reason).toContain("LON-B is claimed by");
    }
    const message = await mesh.outcome("DUN-A", await sender.send({ to: "LON-B", body: "for the true one" }));
    expect(message.receipt?.by).toBe(mesh.id("LON-B"));
    // A holder that is silent keeps its mail: it waits, and goes to no other key.
    await holder.kill("SIGKILL");
    const waiting = await sender.send({ to: "LON-B", body: "while it is silent" });
    expect((await sender.json<Message>(`/messages/${waiting}`)).state).toBe("queued");
    await holder.start();
    expect((await mesh.outcome("DUN-A", waiting)).receipt?.by).toBe(mesh.id("LON-B"));
    await sender.json("/mesh/names/LON-B/resolve", post({ node: mesh.id("LON-B") }));
    const { checks } = await sender.json<{ checks: { name: string }[] }>("/health");
    expect(checks.some(({ name }) => name === "names")).toBe(false);
    expect((await bodiesOf(holder)).sort()).toEqual(["for the true one", "while it is silent"]);
    expect(await rival.box("inbox")).toEqual([]);
  },
);

test(
  "another network secret never links, a list of old and new does, and so the secret rotates",
  async () => {
    const mesh = await Cluster.open(PAIR, true);
    try {
      const [a, b] = [mesh.node("DUN-A"), mesh.node("LON-B")];
      const [old, fresh] = [join(mesh.lab.dir, "old"), join(mesh.lab.dir, "new")];
      await writeFile(old, "Vt0c8Jq2nXe5Lr7bYk1Hs9Gd4Mw6Zf3Pa-QuTxRoNiB", { mode: 0o600 });
      await writeFile(fresh, "rT7vQ0mZx3Kc9Ln1Yb8Wd5Hg2Jf6Ps4Ao-UeIiXtMqEw", { mode: 0o600 });
      const use = async (node: LabNode, ...files: string[]) => {
        await node.kill("SIGKILL");
        const list = JSON.stringify(files.map((file) => `file:${file}`));
        await node.reconfigure({ nodeExtra: `network_secret = ${list}` });
        await node.start();
      };
      const connected = async (node: LabNode) =>
        (await node.json<{ peers: { connected: number } }>("/mesh/status")).peers.connected;
      const untilLinked = () => a.until("a link", async () => (await connected(a)) === 1, 15_000);
      await use(a, old);
      await use(b, fresh);
      await Bun.sleep(2_500); // a dozen attempts
      expect(await connected(a)).toBe(0);
      expect(await connected(b)).toBe(0);
      await use(b, fresh, old);
      await untilLinked();
      await use(a, fresh);
      await untilLinked();
    } finally {
      await mesh.close();
    }
  },
  CASE_TIMEOUT_MS,
);

scenario(
  "a message to a full inbox waits with its reason, and arrives when there is room",
  { ...PAIR, config: { "LON-B": { extra: "[delivery]\ninbox_messages_max = 4\n" } } },
  async (mesh) => {
    const [sender, recipient] = [mesh.node("DUN-A"), mesh.node("LON-B")];
    // One sender may fill half of it.
    for (const body of ["one", "two"]) await mesh.outcome("DUN-A", await sender.send({ to: "LON-B", body }));
    const id = await sender.send({ to: "LON-B", body: "three" });
    await sender.until(
      "a reason",
      async () => /refused by/.test((await sender.json<Message>(`/messages/${id}`)).reason ?? ""),
      10_000,
    );
    const [newest] = await recipient.box<Message>("inbox");
    await recipient.api(`/messages/${newest!.id}`, { method: "DELETE" });
    expect((await mesh.outcome("DUN-A", id)).state).toBe("delivered");
    expect((await bodiesOf(recipient)).sort()).toEqual(["one", "three"]);
  },
);

scenario("a listening port that is taken is explained, and healed when it comes free", PAIR, async (mesh) => {
  const node = mesh.node("LON-B");
  await node.kill("SIGKILL");
  const squatter = Bun.listen({ hostname: "127.0.0.1", port: node.linkPort, socket: { data() {} } });
  try {
    await node.start();
    const { status, checks } = await node.json<{ status: string; checks: { reason: string }[] }>("/health");
    expect(status).not.toBe("ok");
    expect(checks.map(({ reason }) => reason).join()).toContain(
      `cannot listen on tcp://127.0.0.1:${node.linkPort}`,
    );
  } finally {
    squatter.stop(true);
  }
  const id = await mesh.node("DUN-A").send({ to: "LON-B", body: "at last" });
  expect((await mesh.outcome("DUN-A", id)).state).toBe("delivered");
});

scenario(
  "an older copy of state_dir put back: what is sent since is delivered once, under ids of its own",
  PAIR,
  async (mesh) => {
    const [sender, recipient] = [mesh.node("DUN-A"), mesh.node("LON-B")];
    const sent = new Map<string, string>();
    const send = async (count: number, what: string) => {
      for (let i = 0; i < count; i++) {
        const body = `${what} ${i}`;
        const id = await sender.send({ to: "LON-B", body });
        expect([id, sent.has(id)]).toEqual([id, false]);
        sent.set(id, body);
        expect((await mesh.outcome("DUN-A", id)).state).toBe("delivered");
      }
    };
    const copy = join(sender.dir, "copy");
    await send(2, "before the copy");
    await sender.kill("SIGTERM");
    await cp(sender.stateDir, copy, { recursive: true });
    await sender.start();
    await send(5, "after the copy");
    for (const life of ["first", "second"]) {
      await sender.kill("SIGKILL");
      await rm(sender.stateDir, { recursive: true });
      await cp(copy, sender.stateDir, { recursive: true });
      await sender.start();
      await send(6, `${life} life from the copy`);
    }
    expect((await bodiesOf(recipient)).toSorted()).toEqual([...sent.values()].toSorted());
    const inbox = await recipient.box<Message & { id: string }>("inbox");
    expect(inbox.map(({ id }) => id).toSorted()).toEqual([...sent.keys()].toSorted());
  },
);

scenario(
  "a copy of state_dir that runs on a second machine: all three say so, one of the two goes on, no mail is lost",
  PAIR,
  async (mesh) => {
    const [first, hub] = [mesh.node("DUN-A"), mesh.node("LON-B")];
    await mesh.outcome("DUN-A", await first.send({ to: "LON-B", body: "before" }));
    await first.kill("SIGTERM");
    const second = await mesh.lab.add({
      callsign: "DUN-A",
      folder: "second",
      network: "chaos",
      peers: [hub.endpoint],
    });
    await cp(first.stateDir, second.stateDir, { recursive: true });
    await Promise.all([first.start(), second.start()]);
    const says = async (node: LabNode, words: RegExp) => {
      const { checks } = await node.json<{ checks: { name: string; reason: string }[] }>("/health");
      return checks.some(({ reason }) => words.test(reason));
    };
    const machines = [first, second];
    const which = async (words: RegExp) => {
      for (const node of machines) if (await says(node, words)) return node;
      return undefined;
    };
    await hub.until("the neighbour to see two", () => says(hub, /on two machines at once.*DUN-A/), 60_000);
    await hub.until(
      "one to stand down",
      async () => (await which(/this one stands down/)) !== undefined,
      60_000,
    );
    const down = (await which(/this one stands down/))!;
    const on = down === first ? second : first;
    expect(await says(on, /this one stands down/)).toBe(false);
    // What was under way has got through by then.
    await down.until(
      "its links to end",
      async () => (await down.json<{ peers: { connected: number } }>("/mesh/status")).peers.connected === 0,
      10_000,
    );

    const body = (node: LabNode, i: number) =>
      `from the one that ${node === on ? "goes on" : "stands down"} ${i}`;
    const ids = new Map<LabNode, string[]>();
    for (const node of machines) ids.set(node, []);
    for (const node of machines)
      for (let i = 0; i < 3; i++) ids.get(node)!.push(await node.send({ to: "LON-B", body: body(node, i) }));
    const stateOf = (node: LabNode, id: string) => node.json<Message>(`/messages/${id}`);
    for (const id of ids.get(on)!)
      await on.until("delivery", async () => (await stateOf(on, id)).state === "delivered", 20_000);
    for (const id of ids.get(down)!)
      expect(await stateOf(down, id)).toMatchObject({
        state: "queued",
        reason: "this node stands down: another machine runs under its identity",
      });
    const to = await hub.send({ to: "DUN-A", body: "to whoever it is" });
    expect((await mesh.outcome("LON-B", to)).state).toBe("delivered");
    expect([await bodiesOf(on), await bodiesOf(down)]).toEqual([["to whoever it is"], []]);

    // The one that went on is gone: the other takes its place, with all that it had accepted.
    await on.kill("SIGKILL");
    await down.kill("SIGTERM");
    await down.start();
    for (const id of ids.get(down)!)
      await down.until("delivery", async () => (await stateOf(down, id)).state === "delivered", 20_000);
    const expected = ["before", ...machines.flatMap((node) => [0, 1, 2].map((i) => body(node, i)))];
    expect((await bodiesOf(hub)).toSorted()).toEqual(expected.toSorted());
  },
);

scenario("a restart and a restored copy are no double", PAIR, async (mesh) => {
  const [node, hub] = [mesh.node("DUN-A"), mesh.node("LON-B")];
  const copy = join(node.dir, "copy");
  await node.kill("SIGTERM");
  await cp(node.stateDir, copy, { recursive: true });
  for (let i = 0; i < 4; i++) {
    await node.start();
    await mesh.outcome("DUN-A", await node.send({ to: "LON-B", body: `life ${i}` }));
    await node.kill(i % 2 === 0 ? "SIGKILL" : "SIGTERM");
  }
  await rm(node.stateDir, { recursive: true });
  await cp(copy, node.stateDir, { recursive: true });
  await node.start();
  await mesh.outcome("DUN-A", await node.send({ to: "LON-B", body: "from the copy" }));
  const reasons = async (at: LabNode) =>
    (await at.json<{ checks: { reason: string }[] }>("/health")).checks
      .map(({ reason }) => reason)
      .join("; ");
  expect(await reasons(node)).toContain("older than what the mesh remembers");
  // It has told its neighbours by then, over a new link, and is well.
  await node.until("it to be well", async () => !(await reasons(node)).includes("older than"), 45_000);
  for (const at of [node, hub]) expect(await reasons(at)).not.toContain("machine");
  expect((await bodiesOf(hub)).length).toBe(5);
});

scenario(
  "three copies at three nodes of a mesh: two stand down, wherever they are linked",
  LINE,
  async (mesh) => {
    const first = mesh.node("DUN-A");
    await first.kill("SIGTERM");
    const machines = [first];
    for (const [folder, at] of [
      ["second", "NYC-C"],
      ["third", "LON-B"],
    ] as const) {
      const copy = await mesh.lab.add({
        callsign: "DUN-A",
        folder,
        network: "chaos",
        peers: [mesh.node(at).endpoint],
      });
      await cp(first.stateDir, copy.stateDir, { recursive: true });
      machines.push(copy);
    }
    await Promise.all(machines.map((node) => node.start()));
    const standsDown = async (node: LabNode) => {
      const { checks } = await node.json<{ checks: { reason: string }[] }>("/health");
      return checks.some(({ reason }) => reason.includes("this one stands down"));
    };
    const countDown = async () => (await Promise.all(machines.map(standsDown))).filter((is) => is).length;
    await first.until("two to stand down", async () => (await countDown()) === 2, 60_000);
    await Bun.sleep(3_000); // and no more than two
    expect(await countDown()).toBe(2);
  },
);

scenario(
  "a relay whose older copy was put back is given again what it had acknowledged",
  LINE,
  async (mesh) => {
    const [source, relay, recipient] = [mesh.node("DUN-A"), mesh.node("LON-B"), mesh.node("NYC-C")];
    await mesh.outcome("DUN-A", await source.send({ to: "NYC-C", body: "the way is known" }));
    await relay.kill("SIGTERM");
    const copy = join(relay.dir, "copy");
    await cp(relay.stateDir, copy, { recursive: true });
    await relay.start();
    await source.until("the way", async () => await reaches(source, mesh.id("NYC-C")), 20_000);
    await source.until(
      "the relay to have said what only this run says",
      async () => {
        const { members } = await source.json<{ members: { id: string; incarnation: number }[] }>(
          "/mesh/members",
        );
        return members.some(({ id, incarnation }) => id === mesh.id("LON-B") && incarnation % 2 ** 24 > 0);
      },
      10_000,
    );
    const wire = mesh.wire("LON-B", "NYC-C");
    wire.silence("both"); // the relay takes it and cannot hand it on
    const id = await source.send({ to: "NYC-C", body: "taken and forgotten" });
    const stateOf = async () => (await source.json<Message>(`/messages/${id}`)).state;
    await source.until("the relay to take it", async () => (await stateOf()) === "relayed", 10_000);
    await relay.kill("SIGKILL");
    await rm(relay.stateDir, { recursive: true });
    await cp(copy, relay.stateDir, { recursive: true });
    wire.cut();
    wire.heal();
    await relay.start();
    expect((await mesh.outcome("DUN-A", id, 50_000)).state).toBe("delivered");
    expect((await bodiesOf(recipient)).toSorted()).toEqual(["taken and forgotten", "the way is known"]);
  },
);
