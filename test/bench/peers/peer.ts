/** What the peers that carry IP have in common: a daemon in each namespace, and an address where the others reach it. */
import type { Daemon, Hosts } from "../namespaces.ts";

export interface IpPeer {
  readonly daemon: Daemon;
  /** Others reach it here by UDP; known from the start. */
  readonly address: string;
  /** Resolves when its control socket answers. */
  start(): Promise<void>;
}

export interface IpMesh {
  readonly hosts: Hosts;
  readonly peers: readonly IpPeer[];
}

/** Makes a peer in every host, started by nobody yet. */
export type MakeMesh = (hosts: Hosts) => Promise<IpMesh>;

export const START_MS = 10_000;

/** One request and its answer over a unix socket; `isWhole` says when the answer is all there. */
export function ask(path: string, request: string, isWhole: (text: string) => boolean): Promise<string> {
  return new Promise((resolve, reject) => {
    let text = "";
    Bun.connect({
      unix: path,
      socket: {
        open: (socket) => void socket.write(request),
        data(socket, bytes) {
          text += bytes.toString();
          if (!isWhole(text)) return;
          resolve(text);
          socket.end();
        },
        close: () => reject(new Error(`${path}: closed after ${text.length} bytes`)),
        connectError: (_socket, error) => reject(error),
      },
    }).catch(reject);
  });
}
