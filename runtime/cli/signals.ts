/**
 * What the signals that reach `godwit run` mean, from its first moment to its last. Owns their handlers; must never let one
 * that asks for nothing end a node. Faults (SIGSEGV, SIGABRT and the like) and real-time signals, which nobody sends by
 * accident (nor SIGSTKFLT, which the engine does not know), keep what the system does. docs/systemd.md "Signals"
 */

/** They ask for a stop with a goodbye. SIGXCPU is a limit of processor time that is used up; SIGKILL follows it. */
const STOP_SIGNALS = ["SIGTERM", "SIGINT", "SIGQUIT", "SIGXCPU"] as const;
/** By default each of them ends a process, and none of them means anything here. The engine passes over SIGPIPE and SIGXFSZ itself. */
const UNUSED_SIGNALS = ["SIGUSR1", "SIGUSR2", "SIGALRM", "SIGVTALRM", "SIGPROF", "SIGIO"] as const;

export class NodeSignals {
  /** The name of the first signal that asks for a stop. A second one ends the process at once, as the system does. */
  readonly stopped: Promise<string>;
  #isHangupDue = false;
  #onHangup: (() => void) | undefined;

  constructor() {
    const { promise, resolve } = Promise.withResolvers<string>();
    this.stopped = promise;
    const onStop = (name: string) => {
      for (const other of STOP_SIGNALS) process.off(other, onStop);
      resolve(name);
    };
    process.on("SIGHUP", () => {
      if (this.#onHangup === undefined) this.#isHangupDue = true;
      else this.#onHangup();
    });
    for (const name of UNUSED_SIGNALS) process.on(name, () => {});
    // Last: who waits for a node that stops properly may send it anything else from here on.
    for (const name of STOP_SIGNALS) process.on(name, onStop);
  }

  /** Who reads the configuration anew. A SIGHUP that came before counts now: what the start had read may be old by then. */
  onHangup(handler: () => void): void {
    this.#onHangup = handler;
    if (this.#isHangupDue) handler();
    this.#isHangupDue = false;
  }
}

let held: NodeSignals | undefined;

/** Those of this process; from the first call on they are in force. */
export const nodeSignals = (): NodeSignals => (held ??= new NodeSignals());
