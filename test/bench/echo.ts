/**
 * Round trips as a program sees them that knows nothing of what carries it: a TCP connection to somebody who sends back
 * what comes, both ends programs of their own. `echo.ts serve PORT`; `echo.ts ask HOST PORT COUNT` prints milliseconds.
 */
import type { Subprocess } from "bun";
import { join } from "node:path";
import { root } from "../../scripts/lib.ts";
import type { Host } from "./namespaces.ts";

/** About what a ping carries. */
const BYTES = 64;
/** A node is not asked again while it still works for the last one. */
const PAUSE_MS = 5;
const SCRIPT = join(root, "test/bench/echo.ts");
const START_MS = 10_000;

/** Answers on every address of the host, until the host ends. */
export async function serveEcho(host: Host, port: number, logPath: string): Promise<Subprocess> {
  const child = host.spawn([process.execPath, SCRIPT, "serve", String(port)], logPath);
  const endMs = performance.now() + START_MS;
  while (!(await host.run(["ss", "-Hltn", `sport = :${port}`])).includes(`:${port}`)) {
    if (performance.now() > endMs) throw new Error(`nobody listens on ${port}: see ${logPath}`);
    await Bun.sleep(20);
  }
  return child;
}

/** Of `count` questions one after another over one connection, ms. */
export async function echoMs(host: Host, address: string, port: number, count: number): Promise<number[]> {
  const out = await host.run([process.execPath, SCRIPT, "ask", address, String(port), String(count)]);
  return JSON.parse(out) as number[];
}

function serve(port: number): void {
  Bun.listen({
    hostname: "::",
    port,
    socket: {
      open: (socket) => void socket.setNoDelay(true),
      data: (socket, bytes) => void socket.write(bytes),
    },
  });
}

async function ask(hostname: string, port: number, count: number): Promise<number[]> {
  let answered = Promise.withResolvers<void>();
  let missing = 0;
  const socket = await Bun.connect({
    hostname,
    port,
    socket: {
      data: (_socket, bytes) => {
        missing -= bytes.length;
        if (missing === 0) answered.resolve();
      },
      close: () => answered.reject(new Error(`${hostname} port ${port} closed the connection`)),
    },
  });
  socket.setNoDelay(true);
  const times: number[] = [];
  const question = new Uint8Array(BYTES);
  for (let i = 0; i < count; i++) {
    answered = Promise.withResolvers<void>();
    missing = BYTES;
    const startMs = performance.now();
    socket.write(question);
    await answered.promise;
    times.push(performance.now() - startMs);
    await Bun.sleep(PAUSE_MS);
  }
  socket.terminate();
  return times;
}

if (import.meta.main) {
  const [mode, ...words] = process.argv.slice(2);
  if (mode === "serve") serve(Number(words[0]));
  else {
    const [host = "", port, count] = words;
    console.log(JSON.stringify(await ask(host, Number(port), Number(count))));
    process.exit(0);
  }
}
