/**
 * Mixed clusters of the real agent (Debian's serf) and real nodes, each in a namespace of its own: what both conclude of each other through joins,
 * deaths, leaves and partitions, with and without keys, and what operators of either see.
 */
import { afterEach, expect, test } from "bun:test";
import { randomBytes } from "node:crypto";
import { encodeTags } from "../../plugins/discovery-serf/wire/serf-messages.ts";
import { agree, SerfNet, SerfNode, until, whyNoSerf } from "./serf-net.ts";

const why = whyNoSerf();
const suffix = why === undefined ? "" : ` [skipped: ${why}]`;
const isSkipped = why !== undefined && process.env["CI"] !== "true";
/** Serf itself tries those who failed every 30 s. */
const impatient = { reconnect_interval: "2s" };

let net: SerfNet;
afterEach(() => net?.close());

async function nodesOf(count: number, table: string, nodeExtra = ""): Promise<SerfNode[]> {
  const nodes: SerfNode[] = [];
  for (let i = 0; i < count; i++) nodes.push(await net.node(`DUN-${"ABCDEF"[i]}`, table, { nodeExtra }));
  return nodes;
}

test.skipIf(isSkipped)(
  `2 agents and 3 nodes agree through joins, events, queries, deaths and leaves${suffix}`,
  async () => {
    net = await SerfNet.open();
    const [alpha, beta] = [net.agent("alpha"), net.agent("beta")];
    await alpha.start();
    await beta.start({ start_join: [alpha.address] });
    const [a, b, c] = (await nodesOf(
      3,
      `join = ["${alpha.address}"]\ntags = { role = "relay" }`,
      'tags = ["relay", "radio-wifi"]',
    )) as [SerfNode, SerfNode, SerfNode];
    await Promise.all([a.start(), b.start(), c.start()]);
    const alive = { alpha: "alive", beta: "alive", "DUN-A": "alive", "DUN-B": "alive", "DUN-C": "alive" };
    await until("all agree", () => agree(net, alive), 10_000);
    // Serf told the nodes of each other, and they are linked; an agent is shown and never dialled.
    await until(
      "links",
      async () => (await Promise.all(net.nodes.map((node) => node.links()))).join() === "2,2,2",
      10_000,
    );
    const rows = await a.members();
    expect(rows.map(({ name, node, endpoints }) => [name, node !== null, endpoints.length])).toEqual([
      ["DUN-A", true, 0],
      ["DUN-B", true, 1],
      ["DUN-C", true, 1],
      ["alpha", false, 0],
      ["beta", false, 0],
    ]);
    expect(alpha.members().find(({ name }) => name === "DUN-A")?.tags).toMatchObject({
      role: "relay",
      capabilities: "relay,radio-wifi",
    });

    // Events and queries, either way.
    alpha.run("event", "-coalesce=false", "deploy", "42");
    const heard = async (node: SerfNode, name: string) =>
      (await node.ask<{ name: string; text: string }[]>("events")).filter((event) => event.name === name);
    await until(
      "the agent's event",
      async () =>
        (await Promise.all(net.nodes.map((node) => heard(node, "deploy")))).every((one) => one.length === 1),
      5_000,
    );
    expect((await heard(b, "deploy"))[0]?.text).toBe("42");
    expect(b.cli("serf", "event", "hello", "from-a-node")).toContain("hello");
    await until(
      "the node's event at the agents",
      () =>
        [alpha, beta].every(({ log }) =>
          log.some(
            (line) => line.includes("UserEventType: hello") || line.includes("messageUserEventType: hello"),
          ),
        ),
      5_000,
    );
    const asked = JSON.parse(
      alpha.run("query", "-format=json", "-timeout=2s", "-relay-factor=2", "godwit"),
    ) as {
      Acks: string[];
      Responses: Record<string, string>;
    };
    expect(asked.Acks.sort()).toEqual(Object.keys(alive).sort());
    expect(Object.keys(asked.Responses).sort()).toEqual(["DUN-A", "DUN-B", "DUN-C"]);
    expect(asked.Responses["DUN-A"]).toContain('"callsign":"DUN-A"');
    const own = JSON.parse(b.cli("serf", "query", "godwit", "--timeout", "2s", "--json")) as {
      acks: string[];
      answers: { from: string }[];
    };
    expect(own.acks.sort()).toEqual(Object.keys(alive).sort());
    expect(own.answers.map(({ from }) => from).sort()).toEqual(["DUN-A", "DUN-B", "DUN-C"]);
    // A query of an agent is told four times, to members drawn anew each time: now and then one is left out, and the operator asks again.
    await until(
      "all are reached",
      () => alpha.run("reachability").includes("Successfully contacted all live nodes"),
      15_000,
    );
    await until(
      "a round trip to a node",
      () => /Estimated alpha <-> DUN-A rtt: [\d.]+ ms/.test(alpha.run("rtt", "alpha", "DUN-A")),
      10_000,
    );

    // Deaths and leaves of either kind.
    await c.lab.kill("SIGKILL");
    beta.signal("SIGKILL");
    const left = { agents: [alpha], nodes: [a, b] };
    await until(
      "the dead are failed",
      () => agree(net, { ...alive, "DUN-C": "failed", beta: "failed" }, left),
      25_000,
    );
    await b.lab.kill("SIGTERM");
    await until(
      "who left has left",
      () =>
        agree(
          net,
          { ...alive, "DUN-C": "failed", beta: "failed", "DUN-B": "left" },
          { agents: [alpha], nodes: [a] },
        ),
      10_000,
    );
    expect(a.cli("serf", "remove", "beta")).toContain("left");
    await until("the agent heard of it", () => alpha.statusOf("beta") === "left", 5_000);
    alpha.signal("SIGINT");
    await until("the agent has left", async () => (await a.statusOf("alpha")) === "left", 15_000);
  },
  120_000,
);

test.skipIf(isSkipped)(
  `a partition fails each half for the other, and heals${suffix}`,
  async () => {
    net = await SerfNet.open();
    const [alpha, beta] = [net.agent("alpha", impatient), net.agent("beta", impatient)];
    await alpha.start();
    await beta.start({ start_join: [alpha.address] });
    const [a, b, c] = (await nodesOf(3, `join = ["${alpha.address}"]`)) as [SerfNode, SerfNode, SerfNode];
    await Promise.all([a.start(), b.start(), c.start()]);
    const alive = { alpha: "alive", beta: "alive", "DUN-A": "alive", "DUN-B": "alive", "DUN-C": "alive" };
    await until("all agree", () => agree(net, alive), 10_000);
    const cut = [beta.port, b.port, c.port];
    const others = [alpha.address, a.address];
    for (const port of cut)
      port.host.nft(
        "inet",
        "wall",
        `chain in { type filter hook input priority 0; ip saddr { ${others.join()} } drop; }\nchain out { type filter hook output priority 0; ip daddr { ${others.join()} } drop; }`,
      );
    await until(
      "the halves",
      () =>
        agree(
          net,
          { ...alive, beta: "failed", "DUN-B": "failed", "DUN-C": "failed" },
          { agents: [alpha], nodes: [a] },
        ),
      40_000,
    );
    await until(
      "the halves",
      () => agree(net, { ...alive, alpha: "failed", "DUN-A": "failed" }, { agents: [beta], nodes: [b, c] }),
      40_000,
    );
    for (const port of cut) port.host.nft("inet", "wall", "");
    await until("whole again", () => agree(net, alive), 40_000);
  },
  150_000,
);

test.skipIf(isSkipped)(
  `keys of 16, 24 and 32 bytes, and their rotation from either side${suffix}`,
  async () => {
    net = await SerfNet.open();
    const keys = [16, 24, 32].map((length) => randomBytes(length).toString("base64"));
    const alpha = net.agent("alpha", { encrypt_key: keys[0] });
    await alpha.start();
    const file = net.file("gossip.key", `${keys[0]}\n`);
    const [a, b] = (await nodesOf(2, `join = ["${alpha.address}"]\nencrypt_key = "file:${file}"`)) as [
      SerfNode,
      SerfNode,
    ];
    const open = await net.node("OUT-X", `join = ["${alpha.address}"]`);
    await Promise.all([a.start(), b.start(), open.start()]);
    const alive = { alpha: "alive", "DUN-A": "alive", "DUN-B": "alive" };
    const inside = { agents: [alpha], nodes: [a, b] };
    await until("all with the key agree", () => agree(net, alive, inside), 10_000);
    expect((await open.members()).length).toBe(1);
    // From the agent: install, use, remove.
    for (const action of ["-install", "-use"]) alpha.run("keys", `${action}=${keys[1]}`);
    alpha.run("keys", `-remove=${keys[0]}`);
    expect(alpha.run("keys", "-list")).toContain(keys[1]!);
    expect(a.cli("serf", "keys", "list")).toContain(keys[1]!);
    expect(a.cli("serf", "keys", "list")).not.toContain(keys[0]!);
    // From a node.
    for (const action of ["install", "use"])
      expect(b.cli("serf", "keys", action, keys[2]!)).toContain("3 of 3");
    expect(b.cli("serf", "keys", "remove", keys[1]!)).toContain("3 of 3");
    expect(alpha.run("keys", "-list")).toContain(keys[2]!);
    // A node that is started anew has the key of now, though its file has the first one.
    await b.lab.kill("SIGTERM");
    await b.start();
    await until("it is back", () => agree(net, alive, inside), 10_000);
  },
  60_000,
);

test.skipIf(isSkipped)(
  `IPv6, names over 31 bytes, tags of 500 bytes${suffix}`,
  async () => {
    net = await SerfNet.open();
    const long = `agent-${"n".repeat(100)}`;
    const tags = { role: "x".repeat(240), more: "ü".repeat(118) };
    const alpha = net.agent(long, { v6: true, tags });
    await alpha.start();
    const table = `join = ["[${alpha.address}]:7946"]\nname = "${"m".repeat(128)}"\ntags = { note = "${"t".repeat(330)}" }`;
    const port = net.lan.join(net.net.host("g1"));
    const listen = [`[${port.addresses.v6}]:4860`];
    const a = await SerfNode.open(net.lab, port, "DUN-A", table, { v6: true, listen });
    net.nodes.push(a);
    await a.start();
    await until("both agree", () => agree(net, { [long]: "alive", ["m".repeat(128)]: "alive" }), 10_000);
    expect((await a.members()).find(({ name }) => name === long)?.tags).toEqual(tags);
    // Its own and the one that says who it is.
    const seen = alpha.members().find(({ name }) => name !== long)!.tags;
    expect(seen["note"]).toBe("t".repeat(330));
    expect(encodeTags(new Map(Object.entries(seen))).length).toBeGreaterThanOrEqual(500);
  },
  40_000,
);

test.skipIf(isSkipped)(
  `blocked UDP is named, and who is failed is still found; UDP that passes again is well${suffix}`,
  async () => {
    net = await SerfNet.open();
    const alpha = net.agent("alpha");
    await alpha.start();
    const [a] = (await nodesOf(1, `join = ["${alpha.address}"]`)) as [SerfNode];
    await a.start();
    await until("both agree", () => agree(net, { alpha: "alive", "DUN-A": "alive" }), 10_000);
    alpha.host.nft("inet", "deaf", "chain in { type filter hook input priority 0; udp dport 7946 drop; }");
    await until(
      "it is said",
      async () => /UDP does not pass to alpha .*open UDP port 7946/.test(await a.health()),
      20_000,
    );
    expect(await a.statusOf("alpha")).toBe("alive");
    alpha.host.nft("inet", "deaf", "");
    await until("it is well", async () => (await a.health()) === "running", 20_000);
  },
  60_000,
);

test.skipIf(isSkipped)(
  `without UDP a node is alive for agents, hears of events, leaves, and sees who dies${suffix}`,
  async () => {
    net = await SerfNet.open();
    const [alpha, beta] = [net.agent("alpha"), net.agent("beta")];
    await alpha.start();
    await beta.start({ start_join: [alpha.address] });
    const [a] = (await nodesOf(1, `join = ["${alpha.address}"]\nudp = false`)) as [SerfNode];
    await a.start();
    const alive = { alpha: "alive", beta: "alive", "DUN-A": "alive" };
    await until("all agree", () => agree(net, alive), 10_000);
    alpha.run("event", "deploy", "1");
    a.cli("serf", "event", "hello", "2");
    await until("its event", () => beta.log.some((line) => line.includes("hello")), 10_000);
    await until(
      "the agent's event",
      async () => (await a.ask<{ name: string }[]>("events")).some(({ name }) => name === "deploy"),
      10_000,
    );
    await beta.stop();
    await until(
      "failed",
      () => agree(net, { ...alive, beta: "failed" }, { agents: [alpha], nodes: [a] }),
      25_000,
    );
    expect(alpha.log.filter((line) => line.includes("EventMemberFailed: DUN-A"))).toEqual([]);
    await a.lab.kill("SIGTERM");
    await until("left", () => alpha.statusOf("DUN-A") === "left", 10_000);
  },
  90_000,
);

test.skipIf(isSkipped)(
  `those that were failed at the last shutdown are called again, and a seed that comes back is found${suffix}`,
  async () => {
    net = await SerfNet.open();
    const alpha = net.agent("alpha");
    await alpha.start();
    const [a] = (await nodesOf(1, "")) as [SerfNode];
    const b = await net.node("DUN-B", `join = ["${alpha.address}"]`);
    // This one knows nobody: it is joined.
    await a.start();
    await until("it is joined", () => alpha.run("join", a.address).includes("Successfully joined"), 5_000);
    await until("both agree", () => agree(net, { alpha: "alive", "DUN-A": "alive" }, { nodes: [a] }), 10_000);
    await alpha.stop();
    await until("failed", async () => (await a.statusOf("alpha")) === "failed", 20_000);
    // Kept within 5 s of each change.
    await Bun.sleep(5_500);
    await a.lab.kill("SIGTERM");
    await b.start();
    await Promise.all([alpha.start(), a.start()]);
    await until(
      "all agree",
      () => agree(net, { alpha: "alive", "DUN-A": "alive", "DUN-B": "alive" }),
      20_000,
    );
    expect(await a.health()).toBe("running");
  },
  90_000,
);

test.skipIf(isSkipped)(
  `a machine that moved, and one that replaces another under its name, are taken at once${suffix}`,
  async () => {
    net = await SerfNet.open();
    const [alpha, beta] = [net.agent("alpha"), net.agent("beta")];
    await alpha.start();
    await beta.start({ start_join: [alpha.address] });
    const [a] = (await nodesOf(1, `listen = "0.0.0.0:7946"\njoin = ["${alpha.address}"]`)) as [SerfNode];
    await a.start();
    const alive = { alpha: "alive", beta: "alive", "DUN-A": "alive" };
    await until("all agree", () => agree(net, alive), 10_000);
    const at = (address: string) => () =>
      [alpha, beta]
        .map((agent) => agent.members().find(({ name }) => name === "DUN-A"))
        .every((one) => one?.status === "alive" && one.addr === `${address}:7946`);
    const { v6 } = a.port.addresses;
    a.port.readdress({ v4: a.address.replace(/\d+$/, "200"), ...(v6 === undefined ? {} : { v6 }) });
    await until("it moved", at(a.port.addresses.v4!), 10_000);
    // Another machine with another key under the same name, while the first is failed.
    await a.lab.kill("SIGKILL");
    await until(
      "failed",
      () => alpha.statusOf("DUN-A") === "failed" && beta.statusOf("DUN-A") === "failed",
      25_000,
    );
    const other = await net.node("DUN-X", `join = ["${alpha.address}"]\nname = "DUN-A"`);
    await other.start();
    await until("it is replaced", at(other.address), 10_000);
  },
  90_000,
);

test.skipIf(isSkipped)(
  `a port that is taken: who has it is named; with port_search the next one is taken${suffix}`,
  async () => {
    net = await SerfNet.open();
    const alpha = net.agent("alpha");
    await alpha.start();
    // On the very machine of the agent.
    const options = { listen: [`${alpha.address}:4860`] };
    const taken = await SerfNode.open(net.lab, alpha.port, "DUN-A", "", options);
    await taken.start();
    await until(
      "it is said",
      async () =>
        /down cannot listen on .* port 7946: PID \d+ \(serf\) has it; .*port_search/.test(
          await taken.health(),
        ),
      5_000,
    );
    await taken.lab.reconfigure({
      extra: `[discovery.cluster]\ntype = "serf"\nlisten = "${alpha.address}:7946"\nport_search = true\njoin = ["${alpha.address}"]\n`,
    });
    await taken.lab.kill("SIGTERM");
    await taken.start();
    await until("it has joined", () => alpha.statusOf("DUN-A") === "alive", 10_000);
    expect((await taken.members()).find(({ name }) => name === "DUN-A")?.port).toBe(7_947);
  },
  40_000,
);

test.skipIf(isSkipped)(
  `a member that copies another's tag is shown and not dialled; without a signature there is no hint${suffix}`,
  async () => {
    net = await SerfNet.open();
    const alpha = net.agent("alpha");
    await alpha.start();
    const [a, b] = (await nodesOf(2, `join = ["${alpha.address}"]`)) as [SerfNode, SerfNode];
    await Promise.all([a.start(), b.start()]);
    await until(
      "all agree",
      () => agree(net, { alpha: "alive", "DUN-A": "alive", "DUN-B": "alive" }),
      10_000,
    );
    const tag = alpha.members().find(({ name }) => name === "DUN-B")!.tags["godwit"]!;
    const thief = net.agent("thief", { tags: { godwit: tag } });
    await thief.start({ start_join: [alpha.address] });
    await until("it is shown", async () => (await a.statusOf("thief")) === "alive", 10_000);
    const row = (await a.members()).find(({ name }) => name === "thief");
    expect([row?.node, row?.endpoints, row?.why]).toEqual([
      null,
      [],
      "its tag is not signed by the node that it names",
    ]);
  },
  40_000,
);
