/** Dials of endpoints that another named: which path is asked for, and of whom. */
import { afterEach, expect, test } from "bun:test";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { GodwitError, type DialTerms } from "@godwit/sdk";
import { dialOutcome, LOOPBACK_SPELLINGS, ManualClock, RefusingTerms, TestHost } from "@godwit/sdk/testkit";
import { type DialOptions, dialWebSocket } from "./dial.ts";
import websocket from "./index.ts";

const cleanups: (() => unknown)[] = [];
afterEach(async () => {
  for (const cleanup of cleanups.splice(0).reverse()) await cleanup();
});

/** A server of the web that takes any path and notes what it was asked. */
function openServer(hostname = "127.0.0.1", tls?: { cert: string; key: string }) {
  const asked: { path: string; host: string | null }[] = [];
  const server = Bun.serve({
    hostname,
    port: 0,
    ...(tls === undefined ? {} : { tls }),
    fetch(request, own) {
      asked.push({ path: new URL(request.url).pathname, host: request.headers.get("host") });
      const headers = { "sec-websocket-protocol": "godwit.1" };
      return own.upgrade(request, { headers }) ? undefined : new Response(null, { status: 404 });
    },
    websocket: { message() {} },
  });
  cleanups.push(() => server.stop(true));
  return { asked, port: server.port! };
}

const anywhere: DialTerms = { refusal: () => undefined };
const signal = () => AbortSignal.timeout(5_000);
async function openDriver(table: object) {
  const host = new TestHost(websocket);
  cleanups.push(() => host.stop());
  await host.start({ listen: [], ...table });
  return host.driver!;
}

test("a path of another's choice is not requested: /godwit is, and the one that this node has itself", async () => {
  const { asked, port } = openServer();
  const driver = await openDriver({ path: "/mesh" });
  const dial = (path: string, terms?: DialTerms) =>
    dialOutcome(driver.dial(`ws://127.0.0.1:${port}${path}`, signal(), undefined, terms));
  for (const path of ["/any/path", "/", "/godwit/", "/godwit/../any", "/%67odwit"])
    expect([path, await dial(path, anywhere)]).toEqual([path, "GODWIT_ENDPOINT_REFUSED"]);
  expect(asked).toEqual([]);
  for (const path of ["/godwit", "/mesh"]) expect(await dial(path, anywhere)).toBe("connected");
  // The operator's own word.
  expect(await dial("/any/path")).toBe("connected");
  expect(asked.map(({ path }) => path)).toEqual(["/godwit", "/mesh", "/any/path"]);
});

test("a name that means another address by the time of the connection does not lead there", async () => {
  const { asked, port } = openServer();
  const looked: string[] = [];
  const options: DialOptions = {
    proxy: undefined,
    tls: { ca: undefined, isVerified: true },
    clock: new ManualClock(),
    // What nobody else's resolver knows: a client that asked again would get nowhere.
    resolve: async (host) => {
      looked.push(host);
      return [{ address: "127.0.0.9" }, { address: "127.0.0.1" }];
    },
  };
  const judged: string[] = [];
  const terms: DialTerms = {
    refusal(address) {
      judged.push(address);
      return address === "127.0.0.9" ? "not to be dialled" : undefined;
    },
  };
  const url = new URL(`ws://rebinding.invalid:${port}/godwit`);
  expect(await dialOutcome(dialWebSocket(url, options, signal(), terms))).toBe("connected");
  expect([looked, judged]).toEqual([["rebinding.invalid"], ["127.0.0.9", "127.0.0.1"]]);
  expect(asked).toEqual([{ path: "/godwit", host: `rebinding.invalid:${port}` }]);
});

test("where no address is left nothing is connected to", async () => {
  const { asked, port } = openServer();
  const driver = await openDriver({});
  for (const host of LOOPBACK_SPELLINGS)
    expect(
      await dialOutcome(driver.dial(`ws://${host}:${port}/godwit`, signal(), undefined, new RefusingTerms())),
    ).toBe("GODWIT_ENDPOINT_REFUSED");
  expect(asked).toEqual([]);
});

test("a dial that is given up while the name is looked up ends at once", async () => {
  const options: DialOptions = {
    proxy: undefined,
    tls: { ca: undefined, isVerified: true },
    clock: new ManualClock(),
    resolve: () => new Promise(() => {}),
  };
  const abort = new AbortController();
  const dialling = dialOutcome(
    dialWebSocket(new URL("ws://slow.invalid/godwit"), options, abort.signal, anywhere),
  );
  abort.abort(new GodwitError("GODWIT_TIMEOUT", "enough", { kind: "transport" }));
  expect(await dialling).toBe("GODWIT_TIMEOUT");
});

/** A certificate for `name` alone, and its key, that openssl makes. */
function certificateOf(name: string): { cert: string; key: string } {
  const folder = mkdtempSync(join(tmpdir(), "godwit-tls-"));
  try {
    const [cert, key] = [join(folder, "cert.pem"), join(folder, "key.pem")];
    const { exitCode, stderr } = Bun.spawnSync([
      ...["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"],
      ...["-days", "2", "-subj", `/CN=${name}`, "-addext", `subjectAltName=DNS:${name}`],
      ...["-out", cert, "-keyout", key],
    ]);
    if (exitCode !== 0) throw new Error(stderr.toString());
    return { cert: readFileSync(cert, "utf8"), key: readFileSync(key, "utf8") };
  } finally {
    rmSync(folder, { recursive: true });
  }
}

test("TLS goes to the address that was judged and holds the certificate against the name", async () => {
  const tls = certificateOf("mesh.invalid");
  const { asked, port } = openServer("127.0.0.1", tls);
  const options = (ca: string | undefined): DialOptions => ({
    proxy: undefined,
    tls: { ca, isVerified: true },
    clock: new ManualClock(),
    // No other resolver knows these names.
    resolve: async () => [{ address: "127.0.0.1" }],
  });
  const judged: string[] = [];
  const terms: DialTerms = { refusal: (address) => (judged.push(address), undefined) };
  const dial = (name: string, ca: string | undefined) =>
    dialOutcome(dialWebSocket(new URL(`wss://${name}:${port}/godwit`), options(ca), signal(), terms));
  expect(await dial("mesh.invalid", tls.cert)).toBe("connected");
  // The same address, and the certificate is for another name, or of nobody who is trusted.
  expect(await dial("other.invalid", tls.cert)).toBe("GODWIT_DIAL_FAILED");
  expect(await dial("mesh.invalid", undefined)).toBe("GODWIT_DIAL_FAILED");
  expect(judged).toEqual(["127.0.0.1", "127.0.0.1", "127.0.0.1"]);
  expect(asked).toEqual([{ path: "/godwit", host: `mesh.invalid:${port}` }]);
});
