/** Asks time servers in turn until one answers, then once an hour. The socket is Bun's; bytes are those of time.ts. */
import type { Log } from "@godwit/sdk";
import { parseTimeServer } from "../config/machine.ts";
import type { Clock, Timer } from "../kernel/clock.ts";
import type { Random } from "../kernel/random.ts";
import { encodeSntpRequest, readSntpAnswer } from "./time.ts";

const ANSWER_MAX_MS = 2_000;
const AGAIN_FIRST_MS = 8_000;
const AGAIN_MAX_MS = 64_000;
const AGAIN_RIGHT_MS = 3_600_000;

export interface TimeServerDeps {
  readonly clock: Clock;
  readonly random: Random;
  readonly log: Log;
  /** As `parseTimeServer` reads them; may change at any time. */
  servers(): readonly string[];
  /** Resolves to the wall clock in ms at this moment; rejects where there is no answer. */
  ask(server: string, nonce: Uint8Array): Promise<number>;
  onTime(wallMs: number, server: string): void;
}

export class TimeServers {
  readonly #deps: TimeServerDeps;
  #timer: Timer | undefined;
  #againMs = AGAIN_FIRST_MS;
  #isAsking = false;
  #isStopped = false;

  constructor(deps: TimeServerDeps) {
    this.#deps = deps;
  }

  /** Asks now: at the start, and when the network or the list changed while the time is not known. */
  askNow(): void {
    if (this.#isAsking || this.#isStopped) return;
    this.#timer?.cancel();
    void this.#round();
  }

  stop(): void {
    this.#isStopped = true;
    this.#timer?.cancel();
  }

  async #round(): Promise<void> {
    const { clock, random, log, servers, ask, onTime } = this.#deps;
    this.#isAsking = true;
    let isRight = false;
    for (const server of new Set(servers())) {
      try {
        onTime(await ask(server, random.bytes(8)), server);
        isRight = true;
        break;
      } catch (error) {
        log.debug("no time", { server, reason: error instanceof Error ? error.message : String(error) });
      }
    }
    this.#isAsking = false;
    if (this.#isStopped) return;
    this.#againMs = isRight ? AGAIN_FIRST_MS : Math.min(this.#againMs * 2, AGAIN_MAX_MS);
    this.#timer = clock.after(isRight ? AGAIN_RIGHT_MS : this.#againMs, () => this.askNow());
  }
}

/** One exchange over a socket of its own, connected so that only the server's answers arrive. */
export async function askSntp(server: string, nonce: Uint8Array, clock: Clock): Promise<number> {
  const at = parseTimeServer(server);
  if (at === undefined) throw new Error("no address");
  const { promise, resolve, reject } = Promise.withResolvers<number>();
  const startedMs = clock.monotonicMs();
  const socket = await Bun.udpSocket({
    connect: { hostname: at.address, port: at.port },
    socket: {
      data(_socket, bytes) {
        const wallMs = readSntpAnswer(new Uint8Array(bytes), nonce, clock.monotonicMs() - startedMs);
        if (wallMs !== undefined) resolve(wallMs);
      },
      error: (error) => reject(error),
    },
  });
  const timer = clock.after(ANSWER_MAX_MS, () => reject(new Error("no answer")));
  try {
    socket.send(encodeSntpRequest(nonce));
    return await promise;
  } finally {
    timer.cancel();
    socket.close();
  }
}
