/**
 * The main job, for eyes: builds the binary, runs DUN-A, LON-B and NYC-C in a line on loopback, sends a telex from end
 * to end, kills the node in the middle, sends another (it waits), starts the middle again and shows the delivery.
 */
import { createColours, wantsColour } from "../runtime/kernel/colours.ts";
import { buildGodwit } from "./build.ts";
import { binaryPath, freePort, Lab, type LabNode } from "./lab.ts";

const help = `usage: scripts/demo [--once] [--json]

Builds the binary and runs a mesh of three nodes on this machine: DUN-A - LON-B - NYC-C.
Stays up until Ctrl-C with commands to try.

  --once   do the same and exit
  --json   one line of JSON instead of the story; exits as --once does
`;

interface Message {
  id: string;
  state: string;
  reason: string | null;
  receipt: { by: string; at: string; signature: string } | null;
  trace: { node: string; at: string }[];
}

interface TelexReport {
  id: string;
  from: string;
  to: string;
  state: string;
  trace: string[];
  seconds: number;
}

const flags = new Set(process.argv.slice(2));
const unknown = [...flags].filter((flag) => !["--once", "--json", "--help"].includes(flag));
if (flags.has("--help") || unknown.length > 0) {
  process.stderr.write(unknown.length > 0 ? `unknown option ${unknown.join(" ")}\n\n${help}` : help);
  process.exit(unknown.length > 0 ? 2 : 0);
}
const isJson = flags.has("--json");
const say = (text: string) => {
  if (!isJson) process.stdout.write(`${text}\n`);
};
/** The demo is looked at: what went well and what did not has the colours that `godwit` gives it. */
const { good, warn, bad, bold } = createColours(!isJson && wantsColour(process.stdout.isTTY, process.env));
const startMs = performance.now();
const secondsSince = (fromMs: number) => Math.round(performance.now() - fromMs) / 1000;

const telexPorts = { a: freePort(), c: freePort() };
const stop = new AbortController();
for (const name of ["SIGINT", "SIGTERM"] as const) process.once(name, () => stop.abort());
/** Ctrl-C in the middle of the story. */
const interrupted = new Promise<never>((_, reject) =>
  stop.signal.addEventListener("abort", () => reject(new Error("interrupted")), { once: true }),
);
interrupted.catch(() => {});

say("building the binary (dist/godwit)");
await buildGodwit(undefined, binaryPath);
const lab = await Lab.create();
try {
  const report = await Promise.race([tell(lab), interrupted]);
  if (isJson)
    process.stdout.write(`${JSON.stringify({ ok: true, ...report, seconds: secondsSince(startMs) })}\n`);
  if (!flags.has("--once") && !isJson && !stop.signal.aborted) await stayUp(lab);
} catch (error) {
  const why = error instanceof Error ? error.message : String(error);
  if (isJson)
    process.stdout.write(`${JSON.stringify({ ok: false, error: why, seconds: secondsSince(startMs) })}\n`);
  process.stderr.write(`demo failed: ${why}\n`);
  process.exitCode = stop.signal.aborted ? 130 : 1;
} finally {
  await lab.close();
}
process.exit();

async function tell(mesh: Lab) {
  const telex = (port: number) => `[services.telex]\ntype = "telex"\nlisten = "127.0.0.1:${port}"\n`;
  const b = await mesh.add({ callsign: "LON-B", network: "telex" });
  const rest = { network: "telex", peers: [b.endpoint] };
  const a = await mesh.add({ callsign: "DUN-A", ...rest, extra: telex(telexPorts.a) });
  const c = await mesh.add({ callsign: "NYC-C", ...rest, extra: telex(telexPorts.c) });
  const nodes = [a, b, c];
  await Promise.all(nodes.map((node) => node.start()));
  const ids = await Promise.all(nodes.map(async (node) => (await status(node)).node.id));
  say("\nthree nodes are up, A and C know only B:");
  for (const [i, node] of nodes.entries())
    say(`  ${bold(node.callsign)}  ${ids[i]!.slice(0, 10)}  ${node.apiUrl}`);

  await waitForRoute(a, "NYC-C");
  await waitForRoute(c, "DUN-A");
  say(`\nroutes are there after ${secondsSince(startMs)} s; DUN-A reaches NYC-C through LON-B`);

  say("\nDUN-A sends a telex to NYC-C");
  const first = await send(a, "NYC-C", "HELLO NEW YORK STOP ALL WELL IN DUNDEE STOP");
  const firstReport = await finish(a, first);

  say(`\nLON-B is ${bad("killed")} (SIGKILL, pid ${b.pid}); DUN-A sends another telex`);
  await b.kill("SIGKILL");
  const second = await send(a, "NYC-C", "LONDON IS DOWN STOP THIS ONE CAN WAIT STOP");
  const waiting = await a.json<Message>(`/messages/${second.id}`);
  say(`  ${warn(waiting.state)}: ${waiting.reason ?? "waiting"}`);

  say("\nLON-B starts again");
  await b.start();
  const secondReport = await finish(a, second);
  return {
    nodes: nodes.map((node, i) => ({ callsign: node.callsign, id: ids[i]!, api: node.apiUrl })),
    telex: [firstReport, secondReport],
    killed: "LON-B",
  };

  async function finish(from: LabNode, sent: { id: string; atMs: number }): Promise<TelexReport> {
    let message: Message | undefined;
    await from.until(
      "the receipt",
      async () => {
        stop.signal.throwIfAborted();
        message = await from.json<Message>(`/messages/${sent.id}`);
        return message.state === "delivered" && message.receipt !== null;
      },
      30_000,
    );
    const seconds = secondsSince(sent.atMs);
    const callsigns = new Map(ids.map((id, i) => [id, nodes[i]!.callsign]));
    const trace = message!.trace.map(({ node }) => callsigns.get(node) ?? node);
    say(`  ${good("delivered")} in ${seconds} s by ${trace.join(" > ")}`);
    say(
      `  receipt signed by ${callsigns.get(message!.receipt!.by)}: ${message!.receipt!.signature.slice(0, 32)}...`,
    );
    return { id: sent.id, from: "DUN-A", to: "NYC-C", state: message!.state, trace, seconds };
  }
}

async function send(from: LabNode, to: string, body: string): Promise<{ id: string; atMs: number }> {
  const atMs = performance.now();
  return { id: await from.send({ to, body, subject: "TELEX" }), atMs };
}

function status(node: LabNode): Promise<{ node: { id: string } }> {
  return node.json("/mesh/status");
}

function waitForRoute(from: LabNode, callsign: string): Promise<void> {
  return from.until(
    `a route to ${callsign}`,
    async () => {
      stop.signal.throwIfAborted();
      const { routes } = await from.json<{ routes: { callsign: string | null }[] }>("/mesh/routes");
      return routes.some((route) => route.callsign === callsign);
    },
    20_000,
  );
}

async function stayUp(mesh: Lab): Promise<void> {
  const [b, a, c] = mesh.nodes as [LabNode, LabNode, LabNode];
  say(`
the mesh stays up until Ctrl-C. Try, in another terminal:

  dist/godwit send NYC-C "HELLO" --wait --socket ${a.socketPath}
  dist/godwit inbox --socket ${c.socketPath}
  telnet 127.0.0.1 ${telexPorts.a}       (DUN-A; nc does too: help, stations, send NYC-C)
  telnet 127.0.0.1 ${telexPorts.c}       (NYC-C, to see it arrive)
  dist/godwit why NYC-C --socket ${a.socketPath}
  dist/godwit ping NYC-C --socket ${a.socketPath}
  dist/godwit events --socket ${b.socketPath}
  curl ${b.apiUrl}/mesh/peers
  kill -9 ${b.pid}        (and see messages wait)
`);
  await new Promise<void>((resolve) => {
    if (stop.signal.aborted) resolve();
    stop.signal.addEventListener("abort", () => resolve(), { once: true });
  });
  say("stopping");
}
