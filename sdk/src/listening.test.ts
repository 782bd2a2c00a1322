import { afterEach, expect, test } from "bun:test";
import { portHolder, whyNotListening, withoutHolder } from "./listening.ts";

type Protocol = "tcp" | "udp";

const children: Bun.Subprocess[] = [];
afterEach(async () => {
  for (const child of children.splice(0)) {
    child.kill("SIGKILL");
    await child.exited;
  }
});

/** Another process that has a port, which the kernel chose. */
async function other(
  protocol: Protocol,
  host: string,
): Promise<{ port: number; pid: number; end(): Promise<void> }> {
  const open =
    protocol === "tcp"
      ? `Bun.listen({ hostname: "${host}", port: 0, socket: { data() {} } })`
      : `await Bun.udpSocket({ hostname: "${host}", port: 0 })`;
  const code = `const opened = ${open}; console.log(opened.port); setInterval(() => {}, 1e6);`;
  const child = Bun.spawn([process.execPath, "-e", code], {
    stdout: "pipe",
    stderr: "inherit",
    stdin: "ignore",
  });
  children.push(child);
  const { value } = await child.stdout.getReader().read();
  const end = async () => {
    child.kill("SIGKILL");
    await child.exited;
  };
  return { port: Number(Buffer.from(value!).toString()), pid: child.pid, end };
}

async function failureOf(protocol: Protocol, host: string, port: number): Promise<unknown> {
  try {
    if (protocol === "tcp") Bun.listen({ hostname: host, port, socket: { data() {} } }).stop(true);
    else (await Bun.udpSocket({ hostname: host, port })).close();
  } catch (error) {
    return error;
  }
  throw new Error(`${host}:${port} was free`);
}

const places: [Protocol, string, string][] = [
  ["tcp", "127.0.0.1", "127.0.0.1"],
  ["tcp", "127.0.0.1", "0.0.0.0"],
  ["tcp", "0.0.0.0", "127.0.0.1"],
  ["tcp", "::1", "::1"],
  ["tcp", "::", "::1"],
  ["udp", "127.0.0.1", "127.0.0.1"],
  ["udp", "::1", "::1"],
];

test.each(places)(
  "a %s port of %s that another process has is told with its id and name to who wants %s",
  async (protocol, host, wanted) => {
    const { port, pid } = await other(protocol, host);
    const error = await failureOf(protocol, wanted, port);
    const place = { protocol, host: wanted, port, setting: "api.listen" };
    const why = whyNotListening(error, place);
    const [, holder, name, free] =
      /^port \d+ of \S+ is taken by PID (\d+) \((.+)\): end that, or choose another port, like (\d+), in api\.listen$/.exec(
        why,
      ) ?? [];
    expect([holder, name]).toEqual([`${pid}`, expect.stringMatching(/^bun/)]);
    expect(Number(free)).toBeGreaterThan(port);
    // It is told over and over while it is so, in the same words.
    expect(whyNotListening(error, place)).toBe(why);
  },
);

test("the port that is offered instead is free", async () => {
  const { port } = await other("tcp", "127.0.0.1");
  const next = Bun.listen({ hostname: "127.0.0.1", port: 0, socket: { data() {} } });
  const place = { protocol: "tcp", host: "127.0.0.1", port, setting: "x" } as const;
  const listens = async (): Promise<boolean> => {
    const why = whyNotListening(await failureOf("tcp", "127.0.0.1", port), place);
    try {
      Bun.listen({
        hostname: "127.0.0.1",
        port: Number(/like (\d+),/.exec(why)![1]),
        socket: { data() {} },
      }).stop(true);
      return true;
    } catch {
      return false;
    }
  };
  try {
    // Whoever runs beside may take it meanwhile, and then another is offered.
    let isFree = false;
    for (let tries = 0; tries < 5 && !isFree; tries++) isFree = await listens();
    expect(isFree).toBe(true);
  } finally {
    next.stop(true);
  }
});

test("who has the port of another address is not to blame", async () => {
  const { port, pid } = await other("tcp", "127.0.0.1");
  const own = Bun.listen({ hostname: "127.0.0.2", port, socket: { data() {} } });
  try {
    const blamed = async (host: string) => {
      const error = await failureOf("tcp", host, port);
      return whyNotListening(error, { protocol: "tcp", host, port, setting: undefined });
    };
    expect(await blamed("127.0.0.1")).toMatch(new RegExp(`taken by PID ${pid} \\(bun.*\\): end that$`));
    expect(await blamed("127.0.0.2")).toBe(
      `port ${port} of 127.0.0.2 is taken by this node itself (PID ${process.pid}): end that`,
    );
  } finally {
    own.stop(true);
  }
});

test("a port that is free again is nobody's, and who takes it then is told", async () => {
  const first = await other("tcp", "127.0.0.1");
  expect(portHolder("tcp", first.port)).toStartWith(`PID ${first.pid} `);
  await first.end();
  expect(portHolder("tcp", first.port)).toBeUndefined();
  const own = Bun.listen({ hostname: "127.0.0.1", port: first.port, socket: { data() {} } });
  expect(portHolder("tcp", first.port)).toBe(`this node itself (PID ${process.pid})`);
  own.stop(true);
});

test("what else is in the way is told with what to do, and what nobody knows in the system's words", async () => {
  const place = { protocol: "tcp", host: "192.0.2.77", port: 80, setting: "listen" } as const;
  expect(whyNotListening(await failureOf("tcp", "192.0.2.77", 0), place)).toBe(
    "this machine has no address 192.0.2.77: give it to an interface, or choose one that it has in listen",
  );
  const refused = Object.assign(new Error("x"), { code: "EACCES" });
  expect(whyNotListening(refused, place)).toBe(
    "this user may not open port 80: run it with CAP_NET_BIND_SERVICE, or choose one from 1024 on in listen",
  );
  expect(whyNotListening(refused, { ...place, port: 1_024 })).toBe(
    "the system refuses port 1024 to this program (EACCES)",
  );
  expect(whyNotListening(new Error("out of luck"), place)).toBe("out of luck");
});

test("whoever may not know what runs here is told that a port is taken, and not by whom", async () => {
  const { port } = await other("tcp", "127.0.0.1");
  const error = await failureOf("tcp", "127.0.0.1", port);
  const place = { protocol: "tcp", host: "127.0.0.1", port, setting: "api.listen" } as const;
  const words = `${whyNotListening(error, place)}; ${whyNotListening(error, place)}`;
  expect(words).toContain("PID");
  const one = `port ${port} of 127.0.0.1 is taken: end that, or choose another port, like N, in api.listen`;
  expect(withoutHolder(words).replaceAll(/like \d+/g, "like N")).toBe(`${one}; ${one}`);
  expect(withoutHolder("address already in use")).toBe("address already in use");
});
