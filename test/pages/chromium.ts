/**
 * Headless Chromium of Debian, driven over its debugging socket: pages are opened, asked for values, and what the browser says of them
 * is noted. Leaves no process and no folder.
 */
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

const PROGRAM = "/usr/bin/chromium";
const CALL_MS = 30_000;

/** Without the last ones it looks for hosts of its vendor at each start. */
const FLAGS = [
  ...["--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--remote-debugging-port=0"],
  ...["--no-first-run", "--disable-quic", "--disable-background-networking", "--disable-component-update"],
  ...["--disable-sync", "--disable-default-apps", "--disable-extensions", "--no-proxy-server"],
  // What stops a window must be the policy of its page.
  "--disable-popup-blocking",
];

interface Reply {
  readonly id?: number;
  readonly result?: unknown;
  readonly error?: { readonly message: string };
  readonly method?: string;
  readonly params?: unknown;
  readonly sessionId?: string;
}

export class Chromium {
  readonly #child: Bun.Subprocess<"ignore", "ignore", "pipe">;
  readonly #folder: string;
  readonly #socket: WebSocket;
  readonly #calls = new Map<number, PromiseWithResolvers<unknown>>();
  readonly #listeners = new Set<(reply: Reply) => void>();
  #next = 1;

  private constructor(child: Bun.Subprocess<"ignore", "ignore", "pipe">, folder: string, socket: WebSocket) {
    this.#child = child;
    this.#folder = folder;
    this.#socket = socket;
    socket.onmessage = ({ data }) => this.#onReply(JSON.parse(String(data)) as Reply);
  }

  static async start(): Promise<Chromium> {
    const folder = mkdtempSync(join(tmpdir(), "godwit-chromium-"));
    const child = Bun.spawn([PROGRAM, ...FLAGS, `--user-data-dir=${folder}`, "about:blank"], {
      env: { PATH: process.env["PATH"] ?? "", HOME: folder },
      stdin: "ignore",
      stdout: "ignore",
      stderr: "pipe",
    });
    try {
      const socket = new WebSocket(await debuggingUrl(child.stderr));
      await new Promise<void>((resolve, reject) => {
        socket.onopen = () => resolve();
        socket.onerror = () => reject(new Error("the debugging socket of Chromium refuses"));
      });
      return new Chromium(child, folder, socket);
    } catch (error) {
      child.kill("SIGKILL");
      await child.exited;
      rmSync(folder, { recursive: true, force: true });
      throw error;
    }
  }

  async close(): Promise<void> {
    this.#socket.close();
    this.#child.kill("SIGKILL");
    await this.#child.exited;
    rmSync(this.#folder, { recursive: true, force: true, maxRetries: 5 });
  }

  async call<T>(method: string, params: object = {}, sessionId?: string): Promise<T> {
    const id = this.#next++;
    const waiting = Promise.withResolvers<unknown>();
    this.#calls.set(id, waiting);
    const timer = setTimeout(() => waiting.reject(new Error(`${method} was not answered`)), CALL_MS);
    this.#socket.send(
      JSON.stringify({ id, method, params, ...(sessionId === undefined ? {} : { sessionId }) }),
    );
    try {
      return (await waiting.promise) as T;
    } finally {
      clearTimeout(timer);
      this.#calls.delete(id);
    }
  }

  listen(fn: (reply: Reply) => void): void {
    this.#listeners.add(fn);
  }

  #onReply(reply: Reply): void {
    if (reply.id === undefined) {
      for (const fn of this.#listeners) fn(reply);
      return;
    }
    const waiting = this.#calls.get(reply.id);
    if (reply.error === undefined) waiting?.resolve(reply.result);
    else waiting?.reject(new Error(reply.error.message));
  }

  /** A tab of its own, once its document is loaded. */
  async open(url: string): Promise<Tab> {
    const { targetId } = await this.call<{ targetId: string }>("Target.createTarget", { url: "about:blank" });
    const { sessionId } = await this.call<{ sessionId: string }>("Target.attachToTarget", {
      targetId,
      flatten: true,
    });
    const tab = new Tab(this, sessionId);
    for (const what of ["Page", "Runtime", "Log", "Network"])
      await this.call(`${what}.enable`, {}, sessionId);
    await tab.goTo(url);
    return tab;
  }

  /** How many tabs there are. */
  async tabs(): Promise<number> {
    const { targetInfos } = await this.call<{ targetInfos: readonly { type: string }[] }>(
      "Target.getTargets",
    );
    return targetInfos.filter(({ type }) => type === "page").length;
  }
}

export class Tab {
  readonly #browser: Chromium;
  readonly #session: string;
  /** What the browser wrote to its console: refusals by policy among it. */
  readonly said: string[] = [];
  #onLoad: (() => void) | undefined;

  constructor(browser: Chromium, session: string) {
    this.#browser = browser;
    this.#session = session;
    browser.listen(({ method, params, sessionId }) => {
      if (sessionId !== session) return;
      if (method === "Page.loadEventFired") this.#onLoad?.();
      if (method === "Log.entryAdded") this.said.push((params as { entry: { text: string } }).entry.text);
    });
  }

  /** Resolves when the document is loaded. */
  async goTo(url: string): Promise<void> {
    const loaded = new Promise<void>((resolve) => (this.#onLoad = resolve));
    const { errorText } = await this.#browser.call<{ errorText?: string }>(
      "Page.navigate",
      { url },
      this.#session,
    );
    if (errorText !== undefined) throw new Error(`${url}: ${errorText}`);
    await loaded;
  }

  /** The value of an expression there; a promise is waited for. */
  async value<T>(expression: string): Promise<T> {
    const { result, exceptionDetails } = await this.#browser.call<{
      result: { value: T };
      exceptionDetails?: { exception?: { description?: string }; text: string };
    }>(
      "Runtime.evaluate",
      { expression, awaitPromise: true, returnByValue: true, userGesture: true },
      this.#session,
    );
    if (exceptionDetails !== undefined)
      throw new Error(exceptionDetails.exception?.description ?? exceptionDetails.text);
    return result.value;
  }
}

async function debuggingUrl(stderr: ReadableStream<Uint8Array>): Promise<string> {
  let text = "";
  const decoder = new TextDecoder();
  const found = Promise.withResolvers<string>();
  // Read to its end, or the browser would hang on a full pipe.
  void (async () => {
    for await (const bytes of stderr) {
      if (text.length > 65_536) continue;
      text += decoder.decode(bytes, { stream: true });
      const [, url] = /DevTools listening on (ws:\S+)/.exec(text) ?? [];
      if (url !== undefined) found.resolve(url);
    }
    found.reject(new Error(`Chromium did not start:\n${text}`));
  })();
  return await found.promise;
}
