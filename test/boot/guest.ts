/**
 * A machine in QEMU that boots an image: its console to read and type on, its monitor, and ports that lead into it. Emulated,
 * not virtualised, so that it runs anywhere; a boot takes 6 to 20 s, and everything waits for what it wants to see.
 */
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { join } from "node:path";
import { tmpdir } from "node:os";
import { freePort } from "../../scripts/lab.ts";

/** For anything that a boot does; machines of CI are slow, and other work may go on beside. */
export const BOOT_MS = 180_000;
/** What is kept of the console. */
const CONSOLE_CHARS_MAX = 1 << 20;
const LOOK_MS = 20;

export interface GuestOptions {
  /** Folder with vmlinuz, initrd.zst and cmdline. */
  readonly image: string;
  readonly machine?: Machine;
  /** Words for the kernel beside those of the image. */
  readonly words?: readonly string[];
  readonly memoryMiB?: number;
  /** Ports of the machine that shall be reachable here, over its first interface, which has DHCP. None: no such interface. */
  readonly ports?: readonly number[];
  /** More of QEMU's arguments. */
  readonly more?: readonly string[];
  /** Words before QEMU's, such as those that run it in a network namespace. */
  readonly inside?: readonly string[];
  /** End instead of a restart. */
  readonly endsOnReset?: boolean;
}

export type Machine = "x64" | "arm64" | "raspi3b";

const machines: Readonly<Record<Machine, readonly string[]>> = {
  x64: ["qemu-system-x86_64", "-M", "q35", "-cpu", "max", "-smp", "1"],
  arm64: ["qemu-system-aarch64", "-M", "virt", "-cpu", "max,pauth-impdef=on", "-smp", "1"],
  // Its memory and processors are those of the board.
  raspi3b: ["qemu-system-aarch64", "-M", "raspi3b"],
};
const consoles: Readonly<Record<Machine, string>> = { x64: "ttyS0", arm64: "ttyAMA0", raspi3b: "ttyAMA0" };
const interfaces: Readonly<Record<Machine, string>> = {
  x64: "virtio-net-pci",
  arm64: "virtio-net-pci",
  raspi3b: "usb-net",
};

/** Why no machine can be booted here, as a part of a test's name; empty: it can. In CI it has to. */
export const whyNot = (machine: Machine): string => {
  if (process.env["CI"] === "true") return "";
  const missing = [machines[machine][0]!, "apt-get", "dpkg-deb"].filter(
    (program) => Bun.which(program) === null,
  );
  return missing.length === 0 ? "" : ` [skipped: ${missing.join(" and ")} not here]`;
};

export class Guest {
  readonly #process: Bun.Subprocess<"pipe", "pipe", "pipe">;
  readonly #folder: string;
  readonly #ports: ReadonlyMap<number, number>;
  readonly startedAtMs = performance.now();
  #text = "";
  #at = 0;
  #errors = "";

  private constructor(
    child: Bun.Subprocess<"pipe", "pipe", "pipe">,
    folder: string,
    ports: ReadonlyMap<number, number>,
  ) {
    this.#process = child;
    this.#folder = folder;
    this.#ports = ports;
    void this.#collect();
    void new Response(child.stderr).text().then((text) => (this.#errors = text));
  }

  static async start(options: GuestOptions): Promise<Guest> {
    const { image, machine = "x64", words = [], ports, more = [] } = options;
    const { memoryMiB = machine === "raspi3b" ? 1_024 : 320 } = options;
    const folder = mkdtempSync(join(tmpdir(), "godwit-boot-"));
    const forwards = new Map<number, number>();
    for (const port of ports ?? []) forwards.set(port, freePort());
    const rules = [...forwards].map(([inside, here]) => `,hostfwd=tcp:127.0.0.1:${here}-:${inside}`);
    const append = [
      readFileSync(join(image, "cmdline"), "utf8").trim(),
      `console=${consoles[machine]}`,
      ...words,
    ].join(" ");
    const child = Bun.spawn(
      [
        ...(options.inside ?? []),
        ...machines[machine],
        ...["-m", String(memoryMiB), "-nodefaults", "-display", "none", "-serial", "stdio"],
        ...["-qmp", `unix:${join(folder, "qmp")},server=on,wait=off`],
        ...["-kernel", join(image, "vmlinuz"), "-initrd", join(image, "initrd.zst"), "-append", append],
        ...(ports === undefined
          ? []
          : ["-netdev", `user,id=lan${rules.join("")}`, "-device", `${interfaces[machine]},netdev=lan`]),
        ...(options.endsOnReset === true ? ["-no-reboot"] : []),
        ...more,
      ],
      { stdin: "pipe", stdout: "pipe", stderr: "pipe" },
    );
    return new Guest(child, folder, forwards);
  }

  get pid(): number {
    return this.#process.pid;
  }

  /** All that the console said. */
  get text(): string {
    return this.#text;
  }

  /** The port here that leads to one inside. */
  port(inside: number): number {
    return this.#ports.get(inside)!;
  }

  /** What the console says from here on, up to and with `pattern`. Throws with the console when it does not come. */
  async hear(pattern: RegExp, withinMs = BOOT_MS): Promise<RegExpExecArray> {
    for (const untilMs = performance.now() + withinMs; ;) {
      const match = pattern.exec(this.#text.slice(this.#at));
      if (match !== null) {
        this.#at += match.index + match[0].length;
        return match;
      }
      if (this.#process.exitCode !== null || performance.now() > untilMs)
        throw new Error(
          `the console did not say ${pattern}${this.#process.exitCode === null ? "" : `; QEMU ended with ${this.#process.exitCode} ${this.#errors}`}\n${this.#text.slice(-6_000)}`,
        );
      await Bun.sleep(LOOK_MS);
    }
  }

  /** What the console says at any time of this boot or an earlier one: for what comes in no certain order. */
  async said(pattern: RegExp, withinMs = BOOT_MS): Promise<void> {
    const at = this.#at;
    if (pattern.test(this.#text)) return;
    await this.hear(pattern, withinMs);
    this.#at = at;
  }

  /** Types a line at the console. */
  say(line: string): void {
    void this.#process.stdin.write(`${line}\n`);
    void this.#process.stdin.flush();
  }

  /** Keys pressed at once, by QEMU's names. */
  press(...keys: readonly string[]): Promise<void> {
    return this.monitor("send-key", { keys: keys.map((data) => ({ type: "qcode", data })) });
  }

  /** A command of QEMU's monitor, such as `system_powerdown`. */
  async monitor(command: string, values: Readonly<Record<string, unknown>> = {}): Promise<void> {
    const done = Promise.withResolvers<void>();
    let received = "";
    const socket = await Bun.connect({
      unix: join(this.#folder, "qmp"),
      socket: {
        data(_socket, bytes) {
          received += bytes.toString();
          if (/"return": \{\}[\s\S]*"return": \{\}/.test(received)) done.resolve();
        },
        error: (_socket, error) => done.reject(error),
        close: () => done.reject(new Error(`the monitor hung up: ${received}`)),
      },
    });
    const spoken = { execute: command, arguments: values };
    socket.write(`{"execute":"qmp_capabilities"}\n${JSON.stringify(spoken)}\n`);
    await done.promise;
    socket.end();
  }

  /** Resolves with QEMU's exit code once the machine is off. */
  async off(withinMs = BOOT_MS): Promise<number> {
    const timer = Promise.withResolvers<never>();
    const handle = setTimeout(
      () => timer.reject(new Error(`the machine is still on\n${this.#text.slice(-4_000)}`)),
      withinMs,
    );
    try {
      return await Promise.race([this.#process.exited, timer.promise]);
    } finally {
      clearTimeout(handle);
    }
  }

  /** The power goes, without a word. */
  cut(): void {
    this.#process.kill("SIGKILL");
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.cut();
    await this.#process.exited;
    rmSync(this.#folder, { recursive: true, force: true });
  }

  async #collect(): Promise<void> {
    const decoder = new TextDecoder();
    for await (const chunk of this.#process.stdout) {
      this.#text += decoder.decode(chunk, { stream: true });
      const surplus = this.#text.length - CONSOLE_CHARS_MAX;
      if (surplus <= 0) continue;
      this.#text = this.#text.slice(surplus);
      this.#at = Math.max(this.#at - surplus, 0);
    }
  }
}

/** `pattern` of a line `... seconds=12.3`: the seconds since the kernel started. */
export const secondsOf = (match: RegExpExecArray): number => Number(match[1]);
