import { createHmac } from "node:crypto";
import { expect, test } from "bun:test";
import { serviceConformance, TestHost } from "@godwit/sdk/testkit";
import plugin from "./index.ts";

const SECRET = "a secret of sixteen";

/** A hook that answers as it is told and keeps what it got. */
function openHook() {
  const got: { id: string; signature: string; text: string }[] = [];
  const hook = {
    status: 200,
    got,
    url: "",
    close: () => server.stop(true),
  };
  const server = Bun.serve({
    hostname: "127.0.0.1",
    port: 0,
    async fetch(request) {
      const text = await request.text();
      if (hook.status === 200)
        got.push({
          id: (JSON.parse(text) as { id: string }).id,
          signature: request.headers.get("x-godwit-signature") ?? "",
          text,
        });
      return new Response(null, { status: hook.status });
    },
  });
  hook.url = `http://127.0.0.1:${server.port}/`;
  return hook;
}

serviceConformance({
  name: "webhook",
  setup() {
    const hook = openHook();
    return {
      plugin,
      config: { url: hook.url, secret: SECRET },
      badConfigs: [
        { secret: "short" },
        { secret: SECRET, url: "ftp://a" },
        { secret: SECRET, listen: "8080" },
      ],
      handled: () => hook.got.map(({ id }) => id),
      dispose: hook.close,
    };
  },
});

async function until(isTrue: () => boolean): Promise<void> {
  const endMs = performance.now() + 4_000;
  while (performance.now() < endMs && !isTrue()) {
    await new Promise((resolve) => setImmediate(resolve));
  }
  expect(isTrue()).toBe(true);
}

test("a hook that is down gets the message when it is up again, signed", async () => {
  const hook = openHook();
  hook.status = 503;
  const host = new TestHost(plugin);
  await host.start({ url: hook.url, secret: SECRET });
  const id = host.mesh.receive("waits");
  await until(() => (host.mesh.refused.get(id) ?? 0) > 0);
  hook.status = 200;
  // Once and not while it waits: the time of the request is of the same clock.
  host.clock.advance(1_500);
  await until(() => hook.got.length > 0);
  const [got] = hook.got;
  expect(got!.signature).toBe(createHmac("sha256", SECRET).update(got!.text).digest("hex"));
  await until(() => host.mesh.inbox.count === 0);
  await host.stop();
  expect(host.leaks()).toEqual([]);
  await hook.close();
});

test("who has the token can send, once for each key; others cannot", async () => {
  const host = new TestHost(plugin);
  await host.start({ listen: "127.0.0.1:0", secret: SECRET });
  const port = /:(\d+)$/.exec(host.health.at(-1)!.reason!)![1];
  const call = (token: string, body: unknown, key = "1") =>
    fetch(`http://127.0.0.1:${port}/`, {
      method: "POST",
      headers: { authorization: `Bearer ${token}`, "idempotency-key": key, connection: "close" },
      body: JSON.stringify(body),
    });
  expect((await call("wrong", { to: "DUN-B", body: "x" })).status).toBe(401);
  expect((await call(SECRET, { to: "DUN-B" })).status).toBe(400);
  expect((await call(SECRET, { to: "no such address!", body: "x" }, "2")).status).toBe(400);
  const [first, second] = [
    await call(SECRET, { to: "DUN-B", body: "x" }),
    await call(SECRET, { to: "DUN-B", body: "x" }),
  ];
  expect([first.status, await first.json()]).toEqual([second.status, await second.json()]);
  expect(host.mesh.outgoing).toHaveLength(1);
  await host.stop();
});
