/**
 * The examples of the SDK as outside packages: copied away from this project, checked, tested, packed and installed with the
 * binary alone, and then at work between two real nodes.
 */
import { afterAll, beforeAll, expect, test } from "bun:test";
import { chmod, cp, mkdir, readdir, rename, rm, stat } from "node:fs/promises";
import { join } from "node:path";
import { freePort, type LabNode } from "../../scripts/lab.ts";
import { root } from "../../scripts/lib.ts";
import { NetLab } from "../../scripts/netlab.ts";
import { AuthorLab, trustLines, whyNoNamespace } from "./author-lab.ts";

const why = whyNoNamespace();
const suffix = why === undefined ? "" : ` [skipped: ${why}]`;
let lab: AuthorLab;
let net: NetLab | undefined;

beforeAll(async () => {
  lab = await AuthorLab.create({ isOffline: false });
  if (why === undefined) net = NetLab.create();
});
afterAll(async () => {
  await lab.close();
  await net?.close();
});

async function fine(words: string, cwd: string, more: readonly string[] = []): Promise<string> {
  const { code, out, err } = await lab.godwit(words, cwd, more);
  expect([words, code, code === 0 ? "" : err + out]).toEqual([words, 0, ""]);
  return out + err;
}

/** Answers the package and its publisher. */
async function packed(id: string): Promise<{ file: string; publisher: string }> {
  const folder = join(lab.folder, id);
  await cp(join(root, "sdk/examples", id), folder, { recursive: true });
  await fine("plugin check", folder);
  expect(await fine("plugin test", folder)).toMatch(/\n 0 fail/);
  const out = await fine("plugin pack .", folder);
  return { file: join(folder, `${id}-0.1.0.gwp`), publisher: /publisher (\w{52})/.exec(out)![1]! };
}

async function install(
  node: LabNode,
  { file, publisher }: { file: string; publisher: string },
  table: string,
) {
  const config = ["--config", node.configPath];
  await fine(`plugin trust ${publisher}`, lab.folder, config);
  await fine(`plugin add ${file}`, lab.folder, config);
  await node.reconfigure({ extra: table });
  await fine("reload", lab.folder, config);
}

const schemes = async (node: LabNode): Promise<string[]> => {
  const { peers } = await node.json<{ peers: { links: { address: string }[] }[] }>("/mesh/peers");
  return [
    ...new Set(peers.flatMap(({ links }) => links.map(({ address }) => address.replace(/:\/\/.*/, "")))),
  ];
};
const stateOf = async (node: LabNode, id: string): Promise<string> =>
  (await node.json<{ state: string }>(`/messages/${id}`)).state;

test.skipIf(why !== undefined)(
  `udp-multicast: two nodes on one network find each other and exchange mail, with no address configured${suffix}`,
  async () => {
    const found = await packed("udp-multicast");
    const lan = net!.lan("group");
    const nodes: LabNode[] = [];
    for (const name of ["MUL-A", "MUL-B"]) {
      const host = net!.host(name);
      const { device } = lan.join(host);
      const node = await lab.lab.add({ callsign: name, namespace: host.namespace });
      nodes.push(node);
      await node.start();
      const table = `[transports.group]\ntype = "udp-multicast"\n${trustLines("net.udp")}\ninterface = "${device}"\n`;
      await install(node, found, table);
    }
    const [a, b] = nodes as [LabNode, LabNode];
    await b.until("a link over the group", async () => (await schemes(b)).join() === "mcast", 30_000);
    const ids = await Promise.all([
      a.send({ to: "MUL-B", body: "over the group" }),
      b.send({ to: "MUL-A", body: "x".repeat(50_000) }),
    ]);
    await a.until("A's receipt", async () => (await stateOf(a, ids[0])) === "delivered", 20_000);
    await b.until("B's receipt", async () => (await stateOf(b, ids[1])) === "delivered", 20_000);
  },
  120_000,
);

/** As an operator would make one on a file system with owners: everybody may write. */
async function makeStick(path: string): Promise<void> {
  for (const folder of [path, join(path, "a"), join(path, "b")]) {
    await mkdir(folder);
    await chmod(folder, 0o777);
  }
}

/** A folder that one node at a time can see, as a stick is in one machine at a time. */
class Stick {
  #at: string;
  trips = 0;

  constructor(at: string) {
    this.#at = at;
  }

  async carryTo(place: string): Promise<void> {
    await this.#untilQuiet();
    await rename(this.#at, place);
    this.#at = place;
    this.trips++;
    await this.#untilQuiet();
  }

  /** Another, empty one takes its place. */
  async lose(): Promise<void> {
    const away = `${this.#at}.lost`;
    await rename(this.#at, away);
    await makeStick(this.#at);
    await rm(away, { recursive: true });
  }

  /** Until the node has done with it: ten looks at it change nothing. */
  async #untilQuiet(): Promise<void> {
    let [last, same] = ["", 0];
    for (let looks = 0; looks < 500 && same < 10; looks++) {
      const names = await readdir(this.#at, { recursive: true });
      const stats = await Promise.all(
        names.sort().map((name) => stat(join(this.#at, name)).catch(() => undefined)),
      );
      const now = names.map((name, i) => `${name} ${stats[i]?.size} ${stats[i]?.ino}`).join();
      same = now === last ? same + 1 : 0;
      last = now;
      await Bun.sleep(30);
    }
  }
}

test.skipIf(why !== undefined)(
  `file-drop: mail between two nodes that never meet, on a stick that is carried to and fro${suffix}`,
  async () => {
    const found = await packed("file-drop");
    // An untrusted plugin is another user, who has to get to the stick: what mount options would say.
    await chmod(lab.folder, 0o711);
    const sites: { node: LabNode; slot: string }[] = [];
    for (const name of ["DRO-A", "DRO-B"]) {
      // A machine without any network.
      const node = await lab.lab.add({ callsign: name, namespace: net!.host(name).namespace });
      const slot = join(lab.folder, `media-${name}`);
      await mkdir(slot);
      await node.reconfigure({ extra: "" });
      await node.start();
      const others = name === "DRO-B" ? '\n[discovery.sticks]\ntype = "static"\npeers = ["drop://a"]\n' : "";
      const own = name.slice(-1).toLowerCase();
      await install(
        node,
        found,
        `[transports.stick]\ntype = "file-drop"\n${trustLines(`files.write:${slot}`)}\nfolder = "${slot}/stick"\nname = "${own}"\npoll_seconds = 0.05\n${others}`,
      );
      sites.push({ node, slot: join(slot, "stick") });
    }
    const [a, b] = sites as [(typeof sites)[0], (typeof sites)[0]];
    // Accepted now, with nobody in reach: that is what custody is for.
    const idA = await a.node.send({ to: "DRO-B", body: "carried by hand" });
    const idB = await b.node.send({ to: "DRO-A", body: "y".repeat(10_000) });
    const made = join(lab.folder, "made");
    await makeStick(made);
    const stick = new Stick(made);
    const isDone = async () =>
      (await stateOf(a.node, idA)) === "delivered" && (await stateOf(b.node, idB)) === "delivered";
    while (!(await isDone()) && stick.trips < 24)
      await stick.carryTo(stick.trips % 2 === 0 ? a.slot : b.slot);
    expect([await stateOf(a.node, idA), await stateOf(b.node, idB)]).toEqual(["delivered", "delivered"]);
    console.log(`both receipts after ${stick.trips} trips of the stick`);
    // The link stands: later mail needs one round, and a stick that is lost on the way costs another.
    const before = stick.trips;
    const next = await a.node.send({ to: "DRO-B", body: "z".repeat(300_000) });
    await stick.carryTo(stick.trips % 2 === 0 ? a.slot : b.slot);
    await stick.carryTo(stick.trips % 2 === 0 ? a.slot : b.slot);
    await stick.lose();
    while ((await stateOf(a.node, next)) !== "delivered" && stick.trips < before + 12)
      await stick.carryTo(stick.trips % 2 === 0 ? a.slot : b.slot);
    expect(await stateOf(a.node, next)).toBe("delivered");
    console.log(`300 kB and their receipt, the stick lost once: ${stick.trips - before} trips`);
    expect((await schemes(a.node)).join()).toBe("drop");
    const inbox = (await b.node.box<{ id: string }>("inbox")).map(({ id }) => id);
    expect(inbox.filter((id) => id === idA || id === next)).toHaveLength(2);
    expect(new Set(inbox).size).toBe(inbox.length);
  },
  180_000,
);

test("position-source and position-mail: one plugin owns the receiver, another without any socket tells a station where it is", async () => {
  const [source, mail] = [await packed("position-source"), await packed("position-mail")];
  const receiver = Bun.listen({
    hostname: "127.0.0.1",
    port: 0,
    socket: {
      open: (socket) => void socket.write('{"class":"VERSION"}\n{"class":"TPV","lat":54.1,"lon":7.9}\n'),
      data() {},
    },
  });
  try {
    const a = await lab.lab.add({ callsign: "POS-A" });
    const b = await lab.lab.add({ callsign: "POS-B", peers: [a.endpoint] });
    await Promise.all([a.start(), b.start()]);
    const tables = [
      `[services.mail]\ntype = "position-mail"\n${trustLines("service:position")}\nto = "POS-B"\n`,
      `[services.gps]\ntype = "position-source"\n${trustLines("net.tcp", "service.offer:position")}\nsource = "127.0.0.1:${receiver.port}"\n`,
    ];
    // The user first: it waits for whoever offers.
    await install(a, mail, tables[0]!);
    await install(a, source, tables.join("\n"));
    await b.until(
      "word of where A is",
      async () => (await b.box<{ subject: string }>("inbox")).some(({ subject }) => subject === "position"),
      30_000,
    );
  } finally {
    receiver.stop(true);
  }
}, 120_000);

test("webhook: what is posted at one node arrives at a hook of the other", async () => {
  const found = await packed("webhook");
  const got = Promise.withResolvers<{ signature: string | null; body: Record<string, string> }>();
  const hook = Bun.serve({
    hostname: "127.0.0.1",
    port: 0,
    async fetch(request) {
      const body = (await request.json()) as Record<string, string>;
      got.resolve({ signature: request.headers.get("x-godwit-signature"), body });
      return new Response("ok");
    },
  });
  try {
    const secret = "a secret of sixteen";
    const port = freePort();
    const a = await lab.lab.add({ callsign: "WEB-A" });
    const b = await lab.lab.add({ callsign: "WEB-B", peers: [a.endpoint] });
    await Promise.all([a.start(), b.start()]);
    const table = (more: string) =>
      `[services.hook]\ntype = "webhook"\n${trustLines("net.tcp")}\nsecret = "${secret}"\n${more}\n`;
    await install(a, found, table(`listen = "127.0.0.1:${port}"`));
    await install(b, found, table(`url = "http://127.0.0.1:${hook.port}/"`));
    const response = await fetch(`http://127.0.0.1:${port}/`, {
      method: "POST",
      headers: { authorization: `Bearer ${secret}` },
      body: JSON.stringify({ to: "WEB-B", subject: "by HTTP", body: "and out by HTTP" }),
    });
    expect(response.status).toBe(202);
    const { body, signature } = await got.promise;
    expect(Buffer.from(body["body_base64"]!, "base64").toString()).toBe("and out by HTTP");
    expect([body["subject"], body["from_callsign"]]).toEqual(["by HTTP", "WEB-A"]);
    expect(signature).toMatch(/^[0-9a-f]{64}$/);
    const { id } = (await response.json()) as { id: string };
    await a.until("the receipt", async () => (await stateOf(a, id)) === "delivered", 20_000);
  } finally {
    await hook.stop(true);
  }
}, 90_000);
