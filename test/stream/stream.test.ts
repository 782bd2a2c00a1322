/** Streams and forwards between real nodes of the compiled binary. */
import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { Lab, type LabNode } from "../../scripts/lab.ts";
import { addForward, bind, BLOCK, mesh, portOf, residentBytes, sumServer, upload } from "./rig.ts";

const MIB = 1024 * 1024;

describe("a line of three", () => {
  let lab: Lab;
  let nodes: LabNode[];
  beforeAll(async () => {
    lab = await Lab.create();
    nodes = await mesh(lab, 3, [
      [1, 0],
      [2, 1],
    ]);
  }, 30_000);
  afterAll(() => lab.close());

  test("200 MiB arrive whole, and the answer to a finished half comes back", async () => {
    const server = sumServer();
    try {
      const forward = await addForward(nodes[0]!, nodes[2]!, server.port);
      const { answer, sum } = await upload(portOf(forward), 200);
      expect(answer).toBe(sum);
      expect(server.received()).toBe(200 * MIB);
    } finally {
      server.stop();
    }
  }, 60_000);

  test("an HTTP server behind the far node answers", async () => {
    const server = Bun.serve({
      hostname: "127.0.0.1",
      port: 0,
      fetch: (request) => new Response(request.body),
    });
    try {
      const forward = await addForward(nodes[0]!, nodes[2]!, server.port!);
      const response = await fetch(`http://127.0.0.1:${portOf(forward)}/`, { method: "POST", body: BLOCK });
      expect(Bun.hash(await response.bytes())).toBe(Bun.hash(BLOCK));
    } finally {
      await server.stop(true);
    }
  }, 30_000);

  test("200 connections at once", async () => {
    const server = sumServer();
    try {
      const forward = await addForward(nodes[0]!, nodes[2]!, server.port);
      const all = await Promise.all(Array.from({ length: 200 }, () => upload(portOf(forward), 1)));
      for (const { answer, sum } of all) expect(answer).toBe(sum);
    } finally {
      server.stop();
    }
  }, 60_000);

  test("a target that refuses, and one that is not allowed, say so", async () => {
    const closed = Bun.listen({ hostname: "127.0.0.1", port: 0, socket: { data() {} } });
    const port = closed.port;
    closed.stop(true);
    const failure = async (forward: { id: string; listen: string }) => {
      await upload(Number(forward.listen.split(":").at(-1)), 1).catch(() => {});
      const find = async () => {
        const { forwards } = await nodes[0]!.json<{ forwards: { id: string; last_error: string | null }[] }>(
          "/forwards",
        );
        return forwards.find(({ id }) => id === forward.id)!.last_error;
      };
      await nodes[0]!.until("the failure to show", async () => (await find()) !== null, 5_000);
      return await find();
    };
    expect(await failure(await addForward(nodes[0]!, nodes[2]!, port))).toContain("connection refused");
    // STR-B allows nothing.
    expect(await failure(await addForward(nodes[0]!, nodes[1]!, port))).toContain("does not allow");
  }, 30_000);

  test("a reader that stands still bounds memory everywhere", async () => {
    let paused: Bun.Socket | undefined;
    const server = Bun.listen({
      hostname: "127.0.0.1",
      port: 0,
      socket: {
        open(socket) {
          socket.pause();
          paused = socket;
        },
        data() {},
      },
    });
    try {
      const forward = await addForward(nodes[0]!, nodes[2]!, server.port);
      const before = nodes.map(residentBytes);
      let taken = 0;
      const client = await Bun.connect({
        hostname: "127.0.0.1",
        port: portOf(forward),
        socket: {
          data() {},
          drain(socket) {
            for (let sent = 1; sent > 0; taken += sent) sent = Math.max(0, socket.write(BLOCK));
          },
        },
      });
      for (let sent = 1; sent > 0; taken += sent) sent = Math.max(0, client.write(BLOCK));
      let last = -1;
      // Until nothing more is taken for a second.
      await nodes[0]!.until(
        "the flow to stop",
        async () => {
          const now = taken;
          const isStill = now === last && paused !== undefined;
          last = now;
          return isStill;
        },
        20_000,
        1_000,
      );
      const grown = nodes.map((node, i) => (residentBytes(node) - before[i]!) / MIB);
      console.log(
        `slow reader: ${(taken / MIB).toFixed(1)} MiB taken before it stood still; grown by ${grown.map((mib) => mib.toFixed(1)).join(", ")} MiB`,
      );
      expect(taken).toBeLessThan(64 * MIB);
      for (const mib of grown) expect(mib).toBeLessThan(64);
      client.terminate();
    } finally {
      server.stop(true);
    }
  }, 40_000);
});

test("a relay is killed in the middle of a transfer over a ring, and the sums agree", async () => {
  const lab = await Lab.create();
  const server = sumServer();
  try {
    const nodes = await mesh(lab, 4, [
      [1, 0],
      [2, 0],
      [3, 1],
      [3, 2],
    ]);
    const forward = await addForward(nodes[0]!, nodes[3]!, server.port);
    const transfer = upload(portOf(forward), 300);
    await nodes[0]!.until("some of it to arrive", async () => server.received() > 20 * MIB, 20_000, 2);
    const routes = await nodes[0]!.json<{ routes: { callsign: string | null; next_hop: string }[] }>(
      "/mesh/routes",
    );
    const via = routes.routes.find(({ callsign }) => callsign === "STR-D")!.next_hop;
    const ids = await Promise.all(
      nodes.map(async (node) => (await node.json<{ node: { id: string } }>("/mesh/status")).node.id),
    );
    const relay = nodes[ids.indexOf(via)]!;
    const atKill = server.received();
    await relay.kill("SIGKILL");
    const { answer, sum } = await transfer;
    expect(answer).toBe(sum);
    expect(atKill).toBeLessThan(300 * MIB);
    console.log(`${relay.callsign} died after ${(atKill / MIB).toFixed(0)} of 300 MiB`);
  } finally {
    server.stop();
    await lab.close();
  }
}, 90_000);

test("the first to claim a callsign passes no rule about it, nor does a promoted stranger one about trust", async () => {
  const lab = await Lab.create();
  const server = sumServer();
  try {
    const far = await lab.add({
      callsign: "RGT-B",
      extra: `[trust]\npromote_after = "1m"\n[[trust.rules]]\nlevel = "trusted"\nnetworks = ["127.0.0.0/8"]\n[[forward_allow]]\nfrom = ["RGT-A", "trusted"]\ntargets = ["127.0.0.0/8:*"]`,
    });
    const near = await lab.add({ callsign: "RGT-A", peers: [far.endpoint] });
    await Promise.all([far.start(), near.start()]);
    const trustOf = async () =>
      (
        await far.json<{ peers: { callsign: string | null; trust: string }[] }>("/mesh/peers?all=true")
      ).peers.find(({ callsign }) => callsign === "RGT-A")?.trust;
    // The rule about its address: more than waiting for a day could give it.
    await far.until("its level", async () => (await trustOf()) === "trusted", 15_000);
    await near.until(
      "a route and the name",
      async () =>
        (await near.json<{ routes: { callsign: string | null }[] }>("/mesh/routes")).routes.some(
          ({ callsign }) => callsign === "RGT-B",
        ),
      15_000,
    );
    const tries = async () => {
      const forward = await addForward(near, far, server.port);
      const { answer, sum } = await upload(portOf(forward), 1).catch(() => ({ answer: "", sum: "none" }));
      return answer === sum;
    };
    expect(await tries()).toBe(false);
    const { forwards } = await near.json<{ forwards: { last_error: string | null }[] }>("/forwards");
    expect(forwards[0]!.last_error).toContain("does not allow");
    await bind(far, near);
    expect(await tries()).toBe(true);
  } finally {
    server.stop();
    await lab.close();
  }
}, 60_000);
