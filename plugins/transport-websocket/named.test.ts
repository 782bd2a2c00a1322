/** Dials of endpoints that another named: which path is asked for, and of whom. */
import { afterEach, expect, test } from "bun:test";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { GodwitError, type DialTerms } from "@godwit/sdk";
import {
  dialOutcome,
  LOOPBACK_SPELLINGS,
  ManualClock,
  RefusingTerms,
  seededRandom,
  TestHost,
} from "@godwit/sdk/testkit";
import { type DialOptions, dialWebSocket } from "./dial.ts";
import { parseWebSocketEndpoint } from "./endpoint.ts";
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
    trust: { ca: undefined, isVerified: true },
    clock: new ManualClock(),
    random: seededRandom(1),
    // What nobody else's resolver knows: a client that asked again would get nowhere.
    resolve: async (host) => {
      looked.push(host);
      return ["127.0.0.9", "127.0.0.1"].map((address) => ({ address, family: 4 }));
    },
  };
  const judged: string[] = [];
  const terms: DialTerms = {
    refusal(address) {
      judged.push(address);
      return address === "127.0.0.9" ? "not to be dialled" : undefined;
    },
  };
  const url = parseWebSocketEndpoint(`ws://rebinding.invalid:${port}/godwit`);
  expect(await dialOutcome(dialWebSocket(url, options, signal(), terms))).toBe("connected");
  expect([looked, judged]).toEqual([["rebinding.invalid"], ["127.0.0.9", "127.0.0.1"]]);
  expect(asked).toEqual([{ path: "/godwit", host: `rebinding.invalid:${port}` }]);
});

test("what NO_PROXY exempts is dialled without the proxy, and judged", async () => {
  const { asked, port } = openServer();
  const before = process.env["NO_PROXY"];
  cleanups.push(() => {
    if (before === undefined) delete process.env["NO_PROXY"];
    else process.env["NO_PROXY"] = before;
  });
  process.env["NO_PROXY"] = "127.0.0.1";
  // Nobody is there.
  const driver = await openDriver({ proxy: "http://127.0.0.1:1" });
  const nowhere: DialTerms = { refusal: () => "not to be dialled" };
  const dial = (terms?: DialTerms) =>
    dialOutcome(driver.dial(`ws://127.0.0.1:${port}/godwit`, signal(), undefined, terms));
  expect(await dial(nowhere)).toBe("GODWIT_ENDPOINT_REFUSED");
  expect(asked).toEqual([]);
  expect(await dial(anywhere)).toBe("connected");
  process.env["NO_PROXY"] = "127.0.0.2";
  expect(await dial(anywhere)).toBe("GODWIT_DIAL_FAILED");
});

test("the zone of an address is connected by and judged, and said to nobody", async () => {
  const { asked, port } = openServer("::1");
  const driver = await openDriver({});
  const judged: string[] = [];
  const terms: DialTerms = { refusal: (address) => void judged.push(address) };
  // The interface with this number is the loopback one; of ::1 the kernel takes any.
  const pipe = await driver.dial(`ws://[::1%251]:${port}/godwit`, signal(), undefined, terms);
  cleanups.push(() => pipe.close());
  expect(judged).toEqual(["::1%1"]);
  expect(asked).toEqual([{ path: "/godwit", host: `[::1]:${port}` }]);
  expect(pipe.remote).toBe(`ws://[::1]:${port}/godwit`);
  expect(await dialOutcome(driver.dial(`ws://[fe80::1%nowhere]:${port}/godwit`, signal()))).toBe(
    "GODWIT_DIAL_FAILED",
  );
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
    trust: { ca: undefined, isVerified: true },
    clock: new ManualClock(),
    random: seededRandom(1),
    resolve: () => new Promise(() => {}),
  };
  const abort = new AbortController();
  const dialling = dialOutcome(
    dialWebSocket(parseWebSocketEndpoint("ws://slow.invalid/godwit"), options, abort.signal, anywhere),
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
    trust: { ca, isVerified: true },
    clock: new ManualClock(),
    random: seededRandom(1),
    // No other resolver knows these names.
    resolve: async () => [{ address: "127.0.0.1", family: 4 }],
  });
  const judged: string[] = [];
  const terms: DialTerms = { refusal: (address) => (judged.push(address), undefined) };
  const dial = (name: string, ca: string | undefined) =>
    dialOutcome(
      dialWebSocket(parseWebSocketEndpoint(`wss://${name}:${port}/godwit`), options(ca), signal(), terms),
    );
  expect(await dial("mesh.invalid", tls.cert)).toBe("connected");
  // The same address, and the certificate is for another name, or of nobody who is trusted.
  expect(await dial("other.invalid", tls.cert)).toBe("GODWIT_DIAL_FAILED");
  expect(await dial("mesh.invalid", undefined)).toBe("GODWIT_DIAL_FAILED");
  expect(judged).toEqual(["127.0.0.1", "127.0.0.1", "127.0.0.1"]);
  expect(asked).toEqual([{ path: "/godwit", host: `mesh.invalid:${port}` }]);
});
