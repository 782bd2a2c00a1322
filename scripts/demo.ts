/**
 * The main job, for eyes: builds the binary, runs DUN-A, LON-B and NYC-C in a line on loopback, sends a telex from end
 * to end, kills the node in the middle, sends another (it waits), starts the middle again and shows the delivery. With --radio
 * the story of demo-radio.ts instead.
 */
import { createColours, wantsColour } from "../runtime/kernel/colours.ts";
import { buildGodwit } from "./build.ts";
import { RadioStory } from "./demo-radio.ts";
import { finishTelex, idOf, secondsSince, sendTelex, type Message, type Stage } from "./demo-stage.ts";
import { binaryPath, freePort, Lab, type LabNode } from "./lab.ts";

const help = `usage: scripts/demo [--radio] [--once] [--json]

Builds the binary and runs a mesh of three nodes on this machine: DUN-A - LON-B - NYC-C.
Stays up until Ctrl-C with commands to try.

  --radio  nodes with emulated Meshtastic radios alone: two islands, a gateway between them, what it cost on the air; a minute
  --once   do the same and exit
  --json   one line of JSON instead of the story; exits as --once does
`;

const flags = new Set(process.argv.slice(2));
const unknown = [...flags].filter((flag) => !["--radio", "--once", "--json", "--help"].includes(flag));
if (flags.has("--help") || unknown.length > 0) {
  process.stderr.write(unknown.length > 0 ? `unknown option ${unknown.join(" ")}\n\n${help}` : help);
  process.exit(unknown.length > 0 ? 2 : 0);
}
const isJson = flags.has("--json");
const say = (text: string) => {
  if (!isJson) process.stdout.write(`${text}\n`);
};
/** The demo is looked at: what went well and what did not has the colours that `godwit` gives it. */
const colours = createColours(!isJson && wantsColour(process.stdout.isTTY, process.env));
const startMs = performance.now();
/** Until a receipt is back; the second one has been waiting for it. */
const RECEIPT_MS = 30_000;

const telexPorts = { a: freePort(), c: freePort() };
const stop = new AbortController();
for (const name of ["SIGINT", "SIGTERM"] as const) process.once(name, () => stop.abort());
/** Ctrl-C in the middle of the story. */
const interrupted = new Promise<never>((_, reject) =>
  stop.signal.addEventListener("abort", () => reject(new Error("interrupted")), { once: true }),
);
interrupted.catch(() => {});
const stage: Stage = { say, colours, stop: stop.signal };

say("building the binary (dist/godwit)");
await buildGodwit(undefined, binaryPath);
const lab = await Lab.create();
const radioStory = flags.has("--radio") ? new RadioStory(stage, lab) : undefined;
try {
  const report = await Promise.race([radioStory?.tell() ?? tell(lab), interrupted]);
  if (isJson)
    process.stdout.write(`${JSON.stringify({ ok: true, ...report, seconds: secondsSince(startMs) })}\n`);
  if (!flags.has("--once") && !isJson && !stop.signal.aborted) await stayUp(radioStory?.hints ?? hints(lab));
} catch (error) {
  const why = error instanceof Error ? error.message : String(error);
  if (isJson)
    process.stdout.write(`${JSON.stringify({ ok: false, error: why, seconds: secondsSince(startMs) })}\n`);
  process.stderr.write(`demo failed: ${why}\n`);
  process.exitCode = stop.signal.aborted ? 130 : 1;
} finally {
  await lab.close();
  await radioStory?.close();
}
process.exit();

async function tell(mesh: Lab) {
  const { warn, bad, bold } = colours;
  const telex = (port: number) => `[services.telex]\ntype = "telex"\nlisten = "127.0.0.1:${port}"\n`;
  const b = await mesh.add({ callsign: "LON-B", network: "telex" });
  const rest = { network: "telex", peers: [b.endpoint] };
  const a = await mesh.add({ callsign: "DUN-A", ...rest, extra: telex(telexPorts.a) });
  const c = await mesh.add({ callsign: "NYC-C", ...rest, extra: telex(telexPorts.c) });
  const nodes = [a, b, c];
  await Promise.all(nodes.map((node) => node.start()));
  const ids = await Promise.all(nodes.map(idOf));
  const callsigns = new Map(ids.map((id, i) => [id, nodes[i]!.callsign]));
  say("\nthree nodes are up, A and C know only B:");
  for (const [i, node] of nodes.entries())
    say(`  ${bold(node.callsign)}  ${ids[i]!.slice(0, 10)}  ${node.apiUrl}`);

  await waitForRoute(a, "NYC-C");
  await waitForRoute(c, "DUN-A");
  say(`\nroutes are there after ${secondsSince(startMs)} s; DUN-A reaches NYC-C through LON-B`);

  say("\nDUN-A sends a telex to NYC-C");
  const first = await sendTelex(a, "NYC-C", "HELLO NEW YORK STOP ALL WELL IN DUNDEE STOP");
  const firstReport = await finishTelex(stage, a, first, callsigns, RECEIPT_MS);

  say(`\nLON-B is ${bad("killed")} (SIGKILL, pid ${b.pid}); DUN-A sends another telex`);
  await b.kill("SIGKILL");
  const second = await sendTelex(a, "NYC-C", "LONDON IS DOWN STOP THIS ONE CAN WAIT STOP");
  const waiting = await a.json<Message>(`/messages/${second.id}`);
  say(`  ${warn(waiting.state)}: ${waiting.reason ?? "waiting"}`);

  say("\nLON-B starts again");
  await b.start();
  const secondReport = await finishTelex(stage, a, second, callsigns, RECEIPT_MS);
  return {
    nodes: nodes.map((node, i) => ({ callsign: node.callsign, id: ids[i]!, api: node.apiUrl })),
    telex: [firstReport, secondReport],
    killed: "LON-B",
  };
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

function hints(mesh: Lab): string {
  const [b, a, c] = mesh.nodes as [LabNode, LabNode, LabNode];
  return `
  dist/godwit send NYC-C "HELLO" --wait --socket ${a.socketPath}
  dist/godwit inbox --socket ${c.socketPath}
  telnet 127.0.0.1 ${telexPorts.a}       (DUN-A; nc does too: help, stations, send NYC-C)
  telnet 127.0.0.1 ${telexPorts.c}       (NYC-C, to see it arrive)
  dist/godwit why NYC-C --socket ${a.socketPath}
  dist/godwit ping NYC-C --socket ${a.socketPath}
  dist/godwit events --socket ${b.socketPath}
  curl ${b.apiUrl}/mesh/peers
  kill -9 ${b.pid}        (and see messages wait)`;
}

async function stayUp(what: string): Promise<void> {
  say(`\nthe mesh stays up until Ctrl-C. Try, in another terminal:\n${what}\n`);
  await new Promise<void>((resolve) => {
    if (stop.signal.aborted) resolve();
    stop.signal.addEventListener("abort", () => resolve(), { once: true });
  });
  say("stopping");
}
