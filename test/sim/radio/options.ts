/** What a world on radio channels is made of. */
import type { Random } from "@godwit/sdk";
import type { SimTime } from "../time.ts";
import type { Mesh } from "../../../runtime/mesh/mesh.ts";
import type { Life, LifeTransport, SimNode } from "../node.ts";
import type { AirtimeLedger } from "./airtime.ts";
import type { MakeHostile } from "./hostile.ts";
import type { Lora, Overhead } from "./lora.ts";
import type { Miss } from "./medium.ts";

/** One radio of a world. */
export interface WorldRadio {
  readonly address: number;
  /** Of its node, ms. */
  readonly airtimeMs: number;
  /** Frames that found no room. */
  readonly refused: number;
}

/** The channel of one world with everybody on it. */
export interface WorldAir {
  readonly airtime: AirtimeLedger;
  /** By node; undefined: it has none. */
  readonly radios: readonly (WorldRadio | undefined)[];
  readonly channel: {
    /** Of all together since the start, ms; overlaps count twice. */
    readonly airtimeMs: number;
    readonly misses: Readonly<Record<Miss, number>>;
    readonly radios: readonly WorldRadio[];
    airtimeOf(bytes: number, to: "one" | "all"): number;
  };
  endpointOf(node: number): string;
  /** Of a node with a radio. */
  newLife(life: Life, seed: number): LifeTransport;
  start(): void;
  /** Mail counts from now on. */
  startTalk(): void;
}

export interface RadioWorldOptions {
  readonly seed: number;
  readonly nodes: number;
  /** Minutes in which the nodes start, one after the other in any order. */
  readonly startMinutes: number;
  /** Minutes before anything is said. */
  readonly warmUpMinutes: number;
  /** Then minutes in which each pair of `peers` has a message each way, in any order: links are made when there is mail for them, and last. */
  readonly practiceMinutes?: number;
  /** Minutes in which mail is offered that counts, and after the last of it, which must be more than its lifetime. */
  readonly minutes: number;
  readonly drainMinutes: number;
  readonly lora: Lora;
  readonly overhead: Overhead;
  readonly mtu: number;
  readonly loss: number;
  /** Of the channel for each node: its own budget, and how much of it at once, ms. */
  readonly ownShare: number;
  readonly burstMs: number;
  readonly dutyCycle: number;
  readonly queueFramesMax: number;
  readonly relayHopsMax?: number;
  /** Of the channel, for others, from the start or from when mail counts. */
  readonly foreignShare: number;
  readonly isForeignLate?: boolean;
  /** How well nodes hear each other, dB; undefined: not at all. Asked once for each pair. No radio: -1 of `radioOf`. */
  readonly hears: (a: number, b: number, random: Random) => number | undefined;
  /** Which nodes have a radio; without it all. */
  readonly hasRadio?: (node: number) => boolean;
  /** Of the channel, for somebody who sends again what he heard, as it was or changed. */
  readonly attackShare?: number;
  /** Stations of somebody who has the key of the channel, each heard by all. */
  readonly hostile?: readonly MakeHostile[];
  /** Mean time between two sudden deaths of nodes, and until the dead one is back, ms; none: all live. */
  readonly crashes?: { readonly pauseMs: number; readonly downMs: number };
  /** What mail is addressed to; default ids. */
  readonly addresses?: "ids" | "callsigns";
  /** Fast edges. */
  readonly wires?: readonly (readonly [number, number])[];
  /** Means of how long a wire works and how long it does not, ms; none: it always does. */
  readonly flaps?: { readonly upMs: number; readonly downMs: number };
  /** Other radios than the simulator's own. */
  readonly newAir?: (options: RadioWorldOptions, time: SimTime, random: Random) => WorldAir;
  /** Nodes, of which each cannot be heard for a while: from, and for how long, ms of virtual time. */
  readonly cellars?: readonly { readonly node: number; readonly fromMs: number; readonly forMs: number }[];
  /** Pairs that are to have a link, the one first that dials. */
  readonly peers: readonly (readonly [number, number])[];
  /** It knows where to dial by configuration; else it has to hear of it on the channel. */
  readonly isConfigured: boolean;
  /** All know the records of all, as from a file. */
  readonly introduced: boolean;
  readonly mailPerHour: number;
  readonly bodyBytes: number;
  readonly lifetimeMs: number;
  /** Who writes to whom; without it anybody to anybody. */
  readonly pair?: (random: Random) => readonly [number, number];
  readonly faultsMax?: number;
  /** The newest protocol version that a node speaks over the radio; without it that of this build. */
  readonly versionOf?: (node: number) => number;
  /** Plants a bug in each node that opens (tests of the checkers only). */
  readonly mutate?: (mesh: Mesh, node: SimNode) => void;
}
