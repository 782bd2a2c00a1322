/**
 * Where what happened is told, and heard: one hub for each life of a node, so that nobody passes events on for others. Owns who
 * listens. Must never keep an event, nor let one listener cost another its event or the teller its work. What needs an
 * answer is no event: that is handed over as a function.
 */

/** The side that tells. `Events`: what is told of each kind. */
export interface Teller<Events> {
  /** Every listener of that kind is called before this returns, in the order in which they came. */
  emit<Kind extends keyof Events>(kind: Kind, event: Events[Kind]): void;
}

/** The side that hears. */
export interface Heard<Events> {
  /** Until the returned function is called. What an event holds is borrowed for the call, unless its type says otherwise. */
  on<Kind extends keyof Events>(kind: Kind, listener: (event: Events[Kind]) => void): () => void;
}

type Listener = (event: never) => void;

export class Hub<Events> implements Teller<Events>, Heard<Events> {
  readonly #failed: (kind: keyof Events, error: unknown) => void;
  /** Replaced, never changed: one that comes or goes while an event is told does not disturb it. */
  readonly #listeners = new Map<keyof Events, readonly Listener[]>();

  /** `failed`: a listener threw, which is a bug of its own. */
  constructor(failed: (kind: keyof Events, error: unknown) => void) {
    this.#failed = failed;
  }

  emit<Kind extends keyof Events>(kind: Kind, event: Events[Kind]): void {
    const listeners = this.#listeners.get(kind);
    if (listeners === undefined) return;
    for (const listener of listeners) {
      try {
        (listener as (event: Events[Kind]) => void)(event);
      } catch (error) {
        this.#failed(kind, error);
      }
    }
  }

  on<Kind extends keyof Events>(kind: Kind, listener: (event: Events[Kind]) => void): () => void {
    // One of its own, so that a function that listens twice is two listeners.
    const own: Listener = (event) => listener(event);
    this.#listeners.set(kind, [...(this.#listeners.get(kind) ?? []), own]);
    return () => {
      this.#listeners.set(
        kind,
        (this.#listeners.get(kind) ?? []).filter((one) => one !== own),
      );
    };
  }
}
