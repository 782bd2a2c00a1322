import type { SimNode } from "./node.ts";
import type { Plane } from "../../runtime/wire/packet.ts";

const planes: readonly Plane[] = ["any", "bulk"];

interface Hop {
  readonly to: number;
  /** Life number of the neighbour when the hop was chosen. */
  readonly life: number;
}

const NO_HOPS: readonly Hop[] = [];

export class LoopChecker {
  readonly #nodes: readonly SimNode[];
  readonly #exempt: readonly number[];
  readonly #indexOf: ReadonlyMap<string, number>;
  /** By (destination, plane): hops by node. */
  readonly #hops: (readonly Hop[])[][] = [];
  readonly #lifeOf: Int32Array;
  readonly #visited: Int32Array;
  readonly #interned: Hop[] = [];
  #visit = 0;
  readonly #dirty: [node: number, destination: number][] = [];
  /** Nodes looked at in all searches: says that the checker did work. */
  steps = 0;
  cycles: string[] = [];

  /** `exempt`: liars, who break the rule that the absence of loops rests on; a loop needs honest nodes alone. */
  constructor(nodes: readonly SimNode[], exempt: readonly number[] = []) {
    this.#nodes = nodes;
    this.#exempt = exempt;
    this.#indexOf = new Map(nodes.map((node) => [node.id, node.index]));
    this.#lifeOf = new Int32Array(nodes.length);
    this.#visited = new Int32Array(nodes.length);
    for (let i = 0; i < nodes.length * planes.length; i++) this.#hops.push(nodes.map(() => NO_HOPS));
  }

  /** The next hops of a node towards a destination changed. */
  touch(node: number, destination: string): void {
    const index = this.#indexOf.get(destination);
    if (index !== undefined) this.#dirty.push([node, index]);
  }

  /** A life began or ended: the hops of the node are gone, and with its number the edges towards it. */
  setLife(node: number, life: number): void {
    this.#lifeOf[node] = life;
    for (const table of this.#hops) table[node] = NO_HOPS;
  }

  /** Call after every event. */
  check(): void {
    if (this.#dirty.length === 0) return;
    const grown: [node: number, table: number, added: readonly Hop[]][] = [];
    for (const [node, destination] of this.#dirty.splice(0)) {
      for (let plane = 0; plane < planes.length; plane++) {
        const index = destination * planes.length + plane;
        const table = this.#hops[index]!;
        const before = table[node]!;
        const after = this.#read(node, destination, plane);
        table[node] = after;
        // Only an edge that was not there can close a cycle.
        const added = after.filter(
          (hop) => !before.some((old) => old.to === hop.to && old.life === hop.life),
        );
        if (added.length > 0) grown.push([node, index, added]);
      }
    }
    for (const [node, index, added] of grown) this.#search(node, index, added);
  }

  /** Compares what was reported with what is: a change that nobody was told of is a bug of its own. */
  audit(): string[] {
    const faults: string[] = [];
    for (const node of this.#nodes) {
      if (!node.isUp) continue;
      for (let destination = 0; destination < this.#nodes.length; destination++) {
        for (let plane = 0; plane < planes.length; plane++) {
          const known = this.#hops[destination * planes.length + plane]![node.index]!;
          const now = this.#read(node.index, destination, plane);
          if (known.length !== now.length || known.some((hop, i) => hop.to !== now[i]!.to))
            faults.push(`n${node.index} changed its ${planes[plane]} hops to n${destination} in silence`);
        }
      }
    }
    return faults;
  }

  #read(node: number, destination: number, plane: number): readonly Hop[] {
    const mesh = this.#nodes[node]!.mesh;
    if (mesh === undefined || node === destination || this.#exempt.includes(node)) return NO_HOPS;
    const hops = mesh.router.nextHops(this.#nodes[destination]!.id, planes[plane]!);
    if (hops.length === 0) return NO_HOPS;
    return hops
      .filter((hop) => !hop.isDefault)
      .map(({ neighbour }) => {
        const to = this.#indexOf.get(neighbour)!;
        const far = this.#nodes[to]!.life;
        const isCurrent = far !== undefined && mesh.peers.get(neighbour)?.bootId === far.bootIdHex;
        return this.#hop(to, isCurrent ? far.number : -1);
      });
  }

  /** One object for all who lead there: a mesh of a thousand has millions. */
  #hop(to: number, life: number): Hop {
    const known = this.#interned[to];
    return known?.life === life ? known : (this.#interned[to] = { to, life });
  }

  /** A cycle that new hops of `node` closed leads from one of them back to it. */
  #search(node: number, index: number, added: readonly Hop[]): void {
    const table = this.#hops[index]!;
    const destination = Math.floor(index / planes.length);
    const visit = ++this.#visit;
    const stack: (readonly Hop[])[] = [added];
    while (stack.length > 0) {
      for (const { to, life } of stack.pop()!) {
        if (this.#lifeOf[to] !== life) continue;
        if (to === node) {
          this.cycles.push(
            `forwarding loop towards n${destination} (${planes[index % planes.length]}) through n${node}`,
          );
          return;
        }
        if (to === destination || this.#visited[to] === visit) continue;
        this.#visited[to] = visit;
        this.steps++;
        stack.push(table[to]!);
      }
    }
  }
}
