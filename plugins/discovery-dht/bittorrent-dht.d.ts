/** What of bittorrent-dht 11.0.12 and its parts client.ts uses; the package brings no types. */
declare module "bittorrent-dht" {
  import type { EventEmitter } from "node:events";

  export interface DhtNode {
    readonly id: Buffer;
    readonly host: string;
    readonly port: number;
  }

  /** Of a `get`: a value that was verified. */
  export interface DhtValue {
    readonly v: Buffer;
    readonly k?: Buffer;
    readonly sig?: Buffer;
    readonly seq?: number;
  }

  export type Verify = (signature: Buffer, message: Buffer, key: Buffer) => boolean;

  /** As `node:dgram` has it, as far as the library goes. */
  export interface DhtSocket extends EventEmitter {
    bind(): void;
    send(
      bytes: Buffer,
      offset: number,
      length: number,
      port: number,
      host: string,
      done: (error?: Error) => void,
    ): void;
    address(): { readonly address: string; readonly port: number; readonly family: string };
    close(): void;
  }

  export interface DhtOptions {
    readonly nodeId: Buffer;
    readonly bootstrap: false;
    readonly socket: DhtSocket;
    readonly isIP: (host: string) => number;
    readonly timeout: number;
    readonly k: number;
    readonly concurrency: number;
    readonly maxTables: number;
    readonly maxValues: number;
    readonly maxPeers: number;
    readonly verify: Verify;
  }

  export default class DHT extends EventEmitter {
    constructor(options: DhtOptions);
    readonly nodes: EventEmitter & {
      get(id: Uint8Array): DhtNode | null;
      count(): number;
      toArray(): DhtNode[];
    };
    /** Its own table of values; the oldest leave it only when it is full. */
    readonly _values: {
      readonly length: number;
      remove(key: string): unknown;
      peek(key: string): DhtValue | undefined;
      set(key: string, value: DhtValue & { readonly salt: Buffer; readonly id: Buffer }): unknown;
    };
    /** Who was found next to a target, with their tokens, for five minutes: a put asks them without a search. */
    readonly _tables: { peek(key: string): unknown; remove(key: string): unknown };
    listen(): void;
    addNode(node: { readonly host: string; readonly port: number }): void;
    removeNode(id: Uint8Array): void;
    lookup(target: Buffer, done: (error: Error | null, count?: number) => void): () => void;
    get(
      key: Buffer,
      options: { readonly salt?: Buffer; readonly cache: false; readonly verify: Verify },
      done: (error: Error | null, value?: DhtValue | null) => void,
    ): void;
    put(
      item: {
        readonly k: Buffer;
        readonly salt?: Buffer;
        readonly seq: number;
        readonly v: Buffer;
        readonly sig: Buffer;
      },
      done: (error: (Error & { readonly code?: number }) | null, key?: Buffer, count?: number) => void,
    ): void;
    destroy(done: () => void): void;
  }
}
