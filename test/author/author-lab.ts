/** An author's machine: a folder, the binary, and a network namespace with nothing in it but a loopback. */
import { existsSync } from "node:fs";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { Subprocess } from "bun";
import { buildGodwit } from "../../scripts/build.ts";
import { binaryPath, Lab, type LabNode, type LabNodeOptions } from "../../scripts/lab.ts";
import { NetLab, whyNoNetLab } from "../../scripts/netlab.ts";

/** At which level the nodes of these tests run plugins of third parties. */
export const TRUST = "untrusted";

/** Lines of a plugin's table: its level, and what it is granted where that matters. */
export const trustLines = (...grants: readonly string[]): string =>
  `trust = "${TRUST}"\ngrant = ${JSON.stringify(grants)}`;

export interface Ran {
  readonly code: number;
  readonly out: string;
  readonly err: string;
}

export const whyNoNamespace = whyNoNetLab;

export class AuthorLab {
  /** Where the author works; empty at first. */
  readonly folder: string;
  readonly lab: Lab;
  readonly net: NetLab | undefined;
  /** The network namespace, of an offline machine. */
  readonly namespace: string | undefined;
  readonly #inside: readonly string[];
  readonly #children = new Set<Subprocess>();

  private constructor(folder: string, lab: Lab, net: NetLab | undefined) {
    this.folder = folder;
    this.lab = lab;
    this.net = net;
    this.namespace = net?.host("author").namespace;
    this.#inside = this.namespace === undefined ? [] : [Bun.which("ip")!, "netns", "exec", this.namespace];
  }

  /** `isOffline`: without any network, which needs root. */
  static async create({ isOffline }: { readonly isOffline: boolean }): Promise<AuthorLab> {
    if (!existsSync(binaryPath)) await buildGodwit(undefined, binaryPath);
    const folder = await mkdtemp(join(tmpdir(), "godwit-author-"));
    return new AuthorLab(folder, await Lab.create(), isOffline ? NetLab.create() : undefined);
  }

  async close(): Promise<void> {
    for (const child of this.#children) child.kill("SIGKILL");
    await this.lab.close();
    await this.net?.close();
    await rm(this.folder, { recursive: true, force: true });
  }

  /** `godwit WORDS` as the author types it: no Bun, no Node, nothing else on the PATH. */
  async godwit(words: string, cwd = this.folder, more: readonly string[] = []): Promise<Ran> {
    const child = this.spawn([...words.split(" "), ...more], cwd);
    const [out, err, code] = await Promise.all([
      new Response(child.stdout).text(),
      new Response(child.stderr).text(),
      child.exited,
    ]);
    this.#children.delete(child);
    return { code, out, err };
  }

  spawn(argv: readonly string[], cwd: string): Subprocess<"ignore", "pipe", "pipe"> {
    const child = Bun.spawn([...this.#inside, binaryPath, ...argv], {
      cwd,
      env: { PATH: "/nonexistent", HOME: this.folder, NO_COLOR: "1" },
      stdin: "ignore",
      stdout: "pipe",
      stderr: "pipe",
    });
    this.#children.add(child);
    return child;
  }

  /** A real node on the author's machine. */
  async node(options: LabNodeOptions): Promise<LabNode> {
    const { namespace } = this;
    return await this.lab.add({ ...options, ...(namespace === undefined ? {} : { namespace }) });
  }
}

/** Reads a process's output line by line and waits for what must come. */
export class Lines {
  readonly all: string[] = [];
  #wake = () => {};
  #isOver = false;

  constructor(stream: ReadableStream<Uint8Array>) {
    void this.#read(stream);
  }

  async #read(stream: ReadableStream<Uint8Array>): Promise<void> {
    const decoder = new TextDecoder();
    let rest = "";
    for await (const chunk of stream) {
      const lines = (rest + decoder.decode(chunk, { stream: true })).split("\n");
      rest = lines.pop()!;
      this.all.push(...lines);
      this.#wake();
    }
    this.#isOver = true;
    this.#wake();
  }

  /** The first line from place `from` that matches; answers the place behind it. */
  async until(pattern: RegExp, from = 0, timeoutMs = 20_000): Promise<number> {
    const endMs = performance.now() + timeoutMs;
    for (;;) {
      const at = this.all.findIndex((line, i) => i >= from && pattern.test(line));
      if (at >= 0) return at + 1;
      const leftMs = endMs - performance.now();
      if (this.#isOver || leftMs <= 0)
        throw new Error(`no line like ${String(pattern)} in:\n${this.all.slice(from).join("\n")}`);
      let timer: ReturnType<typeof setTimeout> | undefined;
      await new Promise<void>((resolve) => {
        this.#wake = resolve;
        timer = setTimeout(resolve, leftMs);
      });
      clearTimeout(timer);
    }
  }
}
