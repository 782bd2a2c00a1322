/**
 * `ctx.serial`: serial ports that the node opens for a plugin, within what the operator granted. Owns them: they end with the plugin.
 */
import { GodwitError, type PluginSerial, type SerialLine, type SerialLineHandlers } from "@godwit/sdk";
import { listSerialPorts, type ModemLines, openSerial, type SerialPort } from "@godwit/sdk/serial";
import type { Clock } from "../../kernel/clock.ts";
import { godwitError } from "../../kernel/errors.ts";
import type { Scope } from "../../kernel/scope.ts";
import type { SerialPolicy } from "../permissions.ts";

/** Ports of one plugin, those that are being opened too. */
const PORTS_MAX = 16;

export function openPluginSerial(scope: Scope, policy: SerialPolicy, clock: Clock): PluginSerial {
  const live = new Set<Line>();
  let opening = 0;
  let isOwned = false;
  const check = (path: string) => {
    if (scope.isClosed) throw godwitError("GODWIT_STOPPED", "the plugin has stopped");
    if (!policy.mayOpen(path)) throw godwitError("GODWIT_FORBIDDEN", policy.refusal(`serial:${path}`));
    if (live.size + opening >= PORTS_MAX)
      throw godwitError("GODWIT_QUEUE_FULL", `a plugin has at most ${PORTS_MAX} serial ports`);
    if (isOwned) return;
    isOwned = true;
    scope.own(async () => {
      await Promise.all([...live].map((line) => line.end()));
    });
  };
  return {
    async open({ path, baudRate, rtscts }, signal) {
      check(path);
      const either = signal === undefined ? scope.signal : AbortSignal.any([scope.signal, signal]);
      opening++;
      try {
        const options = { path, baudRate, clock, ...(rtscts === undefined ? {} : { rtscts }) };
        const line = new Line(await openSerial(options, either), () => live.delete(line));
        live.add(line);
        return line;
      } finally {
        opening--;
      }
    },
    async list() {
      const ports = await listSerialPorts();
      return ports.filter(
        ({ path, stablePath }) =>
          policy.mayOpen(path) || (stablePath !== undefined && policy.mayOpen(stablePath)),
      );
    },
  };
}

class Line implements SerialLine {
  readonly #port: SerialPort;
  readonly #over = Promise.withResolvers<void>();
  #handlers: SerialLineHandlers | undefined;
  /** It closed before anybody listened. */
  #isGone = false;
  #error: Error | undefined;
  #isClosing = false;

  constructor(port: SerialPort, release: () => void) {
    this.#port = port;
    port.on("data", (bytes: Buffer) => this.#handlers?.data(bytes));
    port.pause();
    port.on("drain", () => this.#handlers?.drain());
    // `close` follows.
    port.on("error", () => {});
    port.once("close", (error: Error | null) => {
      release();
      this.#isGone = true;
      if (error !== null && error !== undefined && !this.#isClosing) this.#error = gone(port.path);
      this.#over.resolve();
      this.#handlers?.closed(this.#error);
    });
  }

  open(handlers: SerialLineHandlers): void {
    this.#handlers = handlers;
    if (this.#isGone) queueMicrotask(() => handlers.closed(this.#error));
    else this.#port.resume();
  }

  write(bytes: Uint8Array): boolean {
    if (this.#isClosing || this.#isGone) return true;
    return this.#port.write(Buffer.from(bytes));
  }

  pause(paused: boolean): void {
    if (paused) this.#port.pause();
    else if (this.#handlers !== undefined) this.#port.resume();
  }

  async set(lines: ModemLines): Promise<void> {
    if (this.#isGone) throw gone(this.#port.path);
    await new Promise<void>((resolve, reject) => {
      this.#port.set(lines, (error) => (error === null ? resolve() : reject(gone(this.#port.path))));
    });
  }

  close(): void {
    if (this.#isClosing || this.#isGone) return;
    this.#isClosing = true;
    this.#port.close();
  }

  end(): Promise<void> {
    this.close();
    return this.#over.promise;
  }
}

const gone = (path: string): GodwitError =>
  new GodwitError("GODWIT_SERIAL_FAILED", `${path} is gone: plug it in again`, {
    kind: "transport",
    retry: "later",
  });
