/** Agents of Debian's Serf on the loopback of one namespace, and when each said what. */
import type { Subprocess } from "bun";

const FIRST_PORT = 20_000;
const FIRST_RPC_PORT = 21_000;

export interface SerfAgents {
  readonly pids: readonly number[];
  /** When that agent said it for so many times (performance.now). */
  until(index: number, pattern: RegExp, times: number, sinceMs?: number): Promise<number>;
  signal(index: number, signal: NodeJS.Signals): void;
  close(): Promise<void>;
}

/** Where the first one is joined. */
export const SERF_SEED = `127.0.0.1:${FIRST_PORT}`;

/** They are called n0x, n1x and so on; all have seen all when it resolves. */
export async function startSerfAgents(namespace: string, count: number, waitMs: number): Promise<SerfAgents> {
  const children: Subprocess<"ignore", "pipe", "ignore">[] = [];
  const lines: { text: string; atMs: number }[][] = [];
  const close = async () => {
    for (const child of children) child.kill("SIGKILL");
    await Promise.all(children.map((child) => child.exited));
  };
  const until = async (index: number, pattern: RegExp, times: number, sinceMs = 0): Promise<number> => {
    const endMs = performance.now() + waitMs;
    while (performance.now() < endMs) {
      const found = lines[index]!.filter(({ text, atMs }) => atMs >= sinceMs && pattern.test(text));
      if (found.length >= times) return found[times - 1]!.atMs;
      await Bun.sleep(10);
    }
    throw new Error(`serf ${index} was waited for: ${pattern.source}`);
  };
  for (let i = 0; i < count; i++) {
    const words = ["ip", "netns", "exec", namespace, "serf", "agent", `-node=n${i}x`];
    words.push(`-bind=127.0.0.1:${FIRST_PORT + i}`, `-rpc-addr=127.0.0.1:${FIRST_RPC_PORT + i}`);
    if (i > 0) words.push(`-join=${SERF_SEED}`, `-retry-join=${SERF_SEED}`);
    const child = Bun.spawn(words, { stdin: "ignore", stdout: "pipe", stderr: "ignore" });
    children.push(child);
    const own: { text: string; atMs: number }[] = [];
    lines.push(own);
    void (async () => {
      for await (const chunk of child.stdout)
        for (const text of new TextDecoder().decode(chunk).split("\n"))
          own.push({ text, atMs: performance.now() });
    })().catch(() => {});
    // The first must listen before the others join.
    if (i === 0) await until(0, /agent: Serf agent starting|EventMemberJoin/, 1).catch(() => 0);
  }
  try {
    await Promise.all(children.map((_, index) => until(index, /EventMemberJoin/, count)));
  } catch (error) {
    await close();
    throw error;
  }
  return {
    pids: children.map(({ pid }) => pid),
    until,
    signal: (index, signal) => void children[index]!.kill(signal),
    close,
  };
}
