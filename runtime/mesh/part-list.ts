/**
 * The parts of a mesh in their order: makes them, loads them, tells them what happens and stops them. Knows none of them
 * by name. part.ts says what a part may rely on.
 */
import { godwitError } from "../kernel/errors.ts";
import type { CounterMetric } from "../kernel/metrics.ts";
import type { Scope } from "../kernel/scope.ts";
import type { MeshDeps } from "./deps.ts";
import { DispatchTable } from "./dispatch.ts";
import type { Kept } from "./kept.ts";
import type { MakePart, MeshHooks, MeshPart, Tell } from "./part.ts";
import type { MeshParts } from "./seen.ts";

interface Row {
  readonly name: string;
  readonly part: MeshPart;
  readonly scope: Scope;
}

export abstract class PartList {
  protected readonly deps: MeshDeps;
  protected readonly kept: Kept;
  readonly #scope: Scope;
  readonly #rows: Row[] = [];
  readonly #dispatch: DispatchTable;
  readonly #failures: CounterMetric;

  /** Owns the scope's end: whoever failed to open a list closes it. */
  constructor(deps: MeshDeps, kept: Kept, scope: Scope) {
    this.deps = deps;
    this.kept = kept;
    this.#scope = scope;
    this.#dispatch = new DispatchTable(deps.metrics);
    this.#failures = deps.metrics.counter("godwit_mesh_part_failures_total");
  }

  /** What the parts see of each other. */
  protected abstract get seen(): MeshParts;

  /** The next row. Throws GODWIT_BUG where it takes what an earlier one takes. */
  protected part<Engine>(name: string, make: MakePart<Engine>): Engine {
    const scope = this.#scope.child(name);
    const part = make({
      mesh: this.seen,
      deps: { ...this.deps, clock: scope.clock(this.deps.clock) },
      kept: this.kept,
      scope,
      dispatch: this.#dispatch,
      tell: this.tell,
    });
    this.#dispatch.add(name, () => !scope.isClosed, part);
    this.#rows.push({ name, part, scope });
    scope.own(() => part.stop?.());
    return part.engine;
  }

  protected async load(): Promise<void> {
    for (const { part } of this.#rows) {
      if (this.#scope.isClosed) throw godwitError("GODWIT_STOPPED", "the node is stopping");
      await part.load?.();
    }
  }

  /** From here on the node acts. */
  start(): void {
    for (const { part } of this.#rows) part.start?.();
  }

  /** Idempotent. What the last row started ends first. After it nothing fires. */
  stop(): Promise<void> {
    return this.#scope.close();
  }

  /** In the order of the rows, whatever one of them throws; the first error is thrown on when all have heard. */
  protected readonly tell: Tell = (hook, ...about) => {
    let thrown: { readonly error: unknown } | undefined;
    for (const row of this.#rows) {
      const hear = row.part[hook] as ((...about: unknown[]) => void) | undefined;
      if (hear === undefined || row.scope.isClosed) continue;
      try {
        hear.apply(row.part, about);
      } catch (error) {
        this.#onThrow(row, hook, error);
        thrown ??= { error };
      }
    }
    if (thrown !== undefined) throw thrown.error;
  };

  #onThrow({ name }: Row, hook: keyof MeshHooks, error: unknown): void {
    this.#failures.add(1, { part: name });
    this.deps.log.error("part of the mesh failed", { part: name, hook, error: String(error) });
  }
}
