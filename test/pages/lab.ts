/** A real node whose plugins have pages, one in each place that a plugin may run, and the tokens that go with them. */
import { once } from "node:events";
import { existsSync, mkdirSync, writeFileSync } from "node:fs";
import { connect, type Socket } from "node:net";
import { join } from "node:path";
import { buildGodwit } from "../../scripts/build.ts";
import { binaryPath, Lab, type LabNode } from "../../scripts/lab.ts";
import { install } from "../sandbox/lab.ts";

/** Instances, after where they run. */
export const places = ["trusted", "contained", "untrusted"] as const;
export type Place = (typeof places)[number];

export const tokens: Readonly<Record<Place | "admin", string>> = {
  trusted: "a-token-for-the-trusted-one",
  contained: "a-token-for-the-contained-one",
  untrusted: "a-token-for-the-untrusted-one",
  admin: "a-token-for-all-of-the-node",
};

export interface BoardState {
  readonly seen: readonly {
    readonly method: string;
    readonly path: string;
    readonly headers: Readonly<Record<string, string>>;
    readonly isAuthorized: boolean;
  }[];
  /** Bytes that its endless stream made. */
  readonly made: number;
  readonly returned: number;
  readonly aborted: number;
}

export class PagesLab {
  readonly lab: Lab;
  readonly node: LabNode;

  private constructor(lab: Lab, node: LabNode) {
    this.lab = lab;
    this.node = node;
  }

  static async start(): Promise<PagesLab> {
    if (!existsSync(binaryPath)) await buildGodwit(undefined, binaryPath);
    const lab = await Lab.create();
    const secrets = join(lab.dir, "secrets");
    mkdirSync(secrets);
    const table = (name: string, scope: string) => {
      writeFileSync(join(secrets, name), tokens[name as Place], { mode: 0o600 });
      return `[[api.tokens]]\nsecret = "file:${join(secrets, name)}"\nscopes = ["${scope}"]\n`;
    };
    const instance = (name: string, trust: string, grant: string) =>
      `[services.${name}]\ntype = "board"\ntrust = "${trust}"\ngrant = [${grant}]\n`;
    const node = await lab.add({
      callsign: "PAGES-A",
      extra: [
        ...places.map((place) => table(place, `pages:${place}`)),
        table("admin", "admin"),
        instance("trusted", "trusted", ""),
        instance("contained", "contained", '"http.pages"'),
        instance("untrusted", "untrusted", '"http.pages"'),
        instance("ungranted", "contained", ""),
      ].join("\n"),
    });
    await install(node.stateDir, {
      id: "board",
      namespace: "service",
      permissions: ["http.pages", "http.pages.public"],
      code: await bundleBoard(),
    });
    await node.start();
    const pages = new PagesLab(lab, node);
    for (const place of places)
      await node.until(
        `the pages of ${place}`,
        async () => (await pages.get(place, "state")).status === 200,
        20_000,
      );
    return pages;
  }

  url(place: string, path = ""): string {
    return `${this.node.apiUrl}/x/${place}/${path}`;
  }

  get(place: Place, path: string, init: RequestInit = {}): Promise<Response> {
    return fetch(this.url(place, path), {
      redirect: "manual",
      ...init,
      headers: { authorization: `Bearer ${tokens[place]}`, ...(init.headers as Record<string, string>) },
    });
  }

  /** A client that is no library: it sends these bytes, and reads when it is told to. */
  async raw(text: string): Promise<Socket> {
    const socket = connect({ host: "127.0.0.1", port: this.node.apiPort });
    socket.pause();
    socket.on("error", () => {});
    await once(socket, "connect");
    socket.write(text);
    return socket;
  }

  /** Asks for more than the plugin may answer at once, of what does not end by itself, until its places are full. */
  async fill(place: Place, path: string): Promise<Socket[]> {
    const ask = () => this.raw(this.asking(place, path));
    const sockets = await Promise.all(Array.from({ length: 150 }, ask));
    // The question itself may have the last place, for a moment after its answer too.
    const isFull = async () => {
      for (let asked = 0; asked < 5; asked++) {
        if ((await this.get(place, "data")).status === 429) continue;
        sockets.push(await ask());
        return false;
      }
      return true;
    };
    await this.node.until(`the places of ${place} to be full`, isFull, 20_000);
    return sockets;
  }

  /** A request as it stands on the wire; `more` are further lines of its head. */
  asking(place: Place, path: string, more = ""): string {
    return `GET /x/${place}/${path} HTTP/1.1\r\nhost: 127.0.0.1:${this.node.apiPort}\r\nauthorization: Bearer ${tokens[place]}\r\n${more}\r\n`;
  }

  async state(place: Place): Promise<BoardState> {
    return (await (await this.get(place, "state")).json()) as BoardState;
  }
}

async function bundleBoard(): Promise<Uint8Array> {
  const folder = join(import.meta.dir, "plugin");
  const built = await Bun.build({
    entrypoints: [join(folder, "board.ts")],
    target: "bun",
    format: "esm",
    external: ["@godwit/sdk"],
    define: { ATTACK: JSON.stringify(await Bun.file(join(folder, "attack.js")).text()) },
  });
  return new Uint8Array(await built.outputs[0]!.arrayBuffer());
}
