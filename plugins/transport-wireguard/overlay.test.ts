/** One instance whose interface cannot come up, as where there is neither WireGuard nor a program for it: what it keeps, tells, and lets in all the same. */
import { afterEach, expect, test } from "bun:test";
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { TestHost } from "@godwit/sdk/testkit";
import { formatWgEndpoint } from "./endpoint.ts";
import wireguard from "./index.ts";
import { clamped, keyText, parseKey, publicKeyOf } from "./keys.ts";

const cleanups: (() => unknown)[] = [];
afterEach(async () => {
  for (const cleanup of cleanups.splice(0).reverse()) await cleanup();
});
const key = (byte: number) => keyText(new Uint8Array(32).fill(byte));
const turn = (): Promise<void> => new Promise<void>((resolve) => setImmediate(resolve));

async function started(more: object = {}) {
  const folder = mkdtempSync(join(tmpdir(), "godwit-overlay-"));
  const host = new TestHost(wireguard, { folder });
  cleanups.push(
    () => rmSync(folder, { recursive: true, force: true }),
    () => host.stop(),
  );
  await host.start({
    ...{ mode: "userspace", program: join(folder, "absent"), advertise: ["192.0.2.9:51820"] },
    ...more,
  });
  const { public_key: publicKey } = (await host.request("show")) as { public_key: string };
  const add = (name: string, of: string) =>
    host
      .request("add-device", { name, public_key: of })
      .then((value) => value as { address: string; public_key: string; hosts: string[] });
  return { host, folder, publicKey, add };
}
const far = "b".repeat(52);

test("nobody is told of an endpoint while the interface is down, and a dial says why", async () => {
  const { host } = await started();
  const why = () => host.health.at(-1)?.reason ?? "";
  for (let look = 0; look < 2_000 && why().includes("not there yet"); look++) {
    await host.clock.advance(100);
    await turn();
  }
  expect([host.endpoints, host.health.at(-1)?.state, why().includes("not there yet")]).toEqual([
    [],
    "degraded",
    false,
  ]);
  const endpoint = formatWgEndpoint({ publicKey: key(7), hosts: [{ host: "192.0.2.1", port: 1 }] });
  expect(
    await host.driver!.dial(endpoint, new AbortController().signal, far).catch((error: unknown) => error),
  ).toMatchObject({ code: expect.stringMatching(/^GODWIT_DIAL_FAILED$/) });
});

test("a device is let in under a key of its own: not this node's, not another's", async () => {
  const { host, publicKey, add } = await started();
  host.peers.set([
    {
      ...{ id: far, callsign: undefined, isLinked: false, via: undefined },
      endpoints: [formatWgEndpoint({ publicKey: key(7), hosts: [{ host: "192.0.2.1", port: 1 }] })],
    },
  ]);
  for (const taken of [publicKey, key(7)])
    await expect(add("phone", taken)).rejects.toMatchObject({
      code: "GODWIT_REQUEST_INVALID",
      message: "that public key is another's",
    });
  const phone = await add("phone", key(8));
  expect([phone.public_key, phone.hosts, phone.address.startsWith("fd")]).toEqual([
    publicKey,
    ["192.0.2.9:51820"],
    true,
  ]);
});

test("a new key is on the disk before anybody hears of it, and one is on its way at a time", async () => {
  const { host, folder, publicKey } = await started();
  const { public_key: next } = (await host.request("rotate")) as { public_key: string };
  const kept = parseKey(readFileSync(join(folder, "private.key.next"), "utf8").trim())!;
  expect(keyText(publicKeyOf(clamped(kept)))).toBe(next);
  expect(next).not.toBe(publicKey);
  await expect(host.request("rotate")).rejects.toMatchObject({ message: "a new key is on its way already" });
  // Until it is in force what is shown is the old one.
  expect(await host.request("show")).toMatchObject({ public_key: publicKey });
  for (let look = 0; look < 400 && existsSync(join(folder, "private.key.next")); look++) {
    await host.clock.advance(50);
    await turn();
  }
  for (let look = 0; look < 400; look++) {
    await turn();
    if (((await host.request("show")) as { public_key: string }).public_key === next) break;
  }
  expect(await host.request("show")).toMatchObject({ public_key: next });
  expect(
    keyText(publicKeyOf(clamped(parseKey(readFileSync(join(folder, "private.key"), "utf8").trim())!))),
  ).toBe(next);
});

test("a rotation that could not be kept can be asked for again", async () => {
  const { host, folder, publicKey } = await started();
  // Where the file would be made there is a folder.
  mkdirSync(join(folder, "private.key.next.new", "in-the-way"), { recursive: true });
  await expect(host.request("rotate")).rejects.toThrow();
  expect(await host.request("show")).toMatchObject({ public_key: publicKey });
  rmSync(join(folder, "private.key.next.new"), { recursive: true });
  expect(await host.request("rotate")).toMatchObject({ public_key: expect.stringMatching(/=$/) });
});
