/** A real node whose plugin, at one level of trust, echoes a serial port that is plugged in and out. */
import { existsSync } from "node:fs";
import { mkdtemp, readdir, readlink, realpath, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, expect } from "bun:test";
import { openSerial } from "@godwit/sdk/serial";
import { systemClock } from "../../runtime/kernel/clock.ts";
import { buildGodwit } from "../../scripts/build.ts";
import { binaryPath, Lab, type LabNode } from "../../scripts/lab.ts";
import { runDelayMs, runDelayOfAllMs } from "../../scripts/run-delay.ts";
import { Cable, socat } from "../../sdk/src/serial/testing.ts";
import { askPlugin, bundle, install, untilRunning } from "./lab.ts";

export const why = socat === null ? " [skipped: socat is not installed]" : "";
/** From when a device is there again until its port is open, but for what busy processors kept the node and this test waiting, ms. */
const REPLUG_MS_MAX = 1_000;
/** The runtime lets go of the last a little later. */
export const LATE_DESCRIPTORS = 4;

/** The nodes and the folder of one file of tests; there once its tests run. */
export function serialPlace(): { readonly lab: Lab; readonly dir: string } {
  const place: { lab?: Lab; dir?: string } = {};
  beforeAll(async () => {
    if (!existsSync(binaryPath)) await buildGodwit(undefined, binaryPath);
    place.dir = await realpath(await mkdtemp(join(tmpdir(), "godwit-serial-")));
    place.lab = await Lab.create();
  }, 120_000);
  afterAll(async () => {
    await place.lab?.close();
    if (place.dir !== undefined) await rm(place.dir, { recursive: true, force: true });
  });
  return {
    get lab() {
      return place.lab!;
    },
    get dir() {
      return place.dir!;
    },
  };
}

export const levels = ["trusted", "contained", "untrusted"] as const;
export type Level = (typeof levels)[number];

export interface Seen {
  readonly opened: number;
  readonly gone: number;
  readonly bytes: number;
  readonly isOpen: boolean;
  readonly refused: string;
}

export class SerialNode {
  readonly node: LabNode;
  readonly cable: Cable;
  /** The longest that a port took to be open again, ms. */
  slowestMs = 0;

  private constructor(node: LabNode, cable: Cable) {
    this.node = node;
    this.cable = cable;
  }

  static async start(lab: Lab, level: Level, dir: string, isGranted = true): Promise<SerialNode> {
    const cable = await new Cable(dir, `${level}-${isGranted}`).plug();
    const grant = level === "trusted" || !isGranted ? [] : [`serial:${dir}/*-near`];
    const node = await lab.add({
      callsign: `SER-${levels.indexOf(level)}${isGranted ? "A" : "B"}`,
      extra: `[discovery.serial]\ntype = "serial"\ntrust = "${level}"\ngrant = ${JSON.stringify(grant)}\nport = "${cable.near}"`,
    });
    await install(node.stateDir, {
      id: "serial",
      namespace: "discovery",
      permissions: ["serial:*"],
      code: await bundle("serial"),
    });
    try {
      await node.start(60_000);
      await untilRunning(node, ["discovery.serial"]);
    } catch (error) {
      await cable.unplug();
      throw error;
    }
    return new SerialNode(node, cable);
  }

  seen(): Promise<Seen> {
    return askPlugin<Seen>(this.node, "serial", "seen");
  }

  async until(what: string, holds: (seen: Seen) => boolean): Promise<void> {
    await this.node.until(what, async () => holds(await this.seen()), 30_000);
  }

  /** What comes back of `sent`. */
  async echoOf(sent: Buffer): Promise<Buffer> {
    const port = await openSerial({ path: this.cable.far, baudRate: 115_200, clock: systemClock });
    const parts: Buffer[] = [];
    let count = 0;
    const all = new Promise<void>((resolve) => {
      port.on("data", (part: Buffer) => {
        parts.push(part);
        count += part.length;
        if (count >= sent.length) resolve();
      });
    });
    port.write(sent);
    await all;
    await new Promise((resolve) => port.close(resolve));
    return Buffer.concat(parts);
  }

  /** A frame is cut in two, and the device is away. */
  async cycle(round: number): Promise<void> {
    const port = await openSerial({ path: this.cable.far, baudRate: 115_200, clock: systemClock });
    port.on("error", () => {});
    port.write(new Uint8Array(300));
    await this.cable.unplug();
    port.destroy();
    await this.cable.plug();
    const waitedMs = () => runDelayMs(process.pid) + runDelayOfAllMs(this.node.pid!);
    const [fromMs, waitedBeforeMs] = [performance.now(), waitedMs()];
    await this.until(`the port after plug ${round}`, ({ gone, isOpen }) => gone >= round && isOpen);
    const tookMs = performance.now() - fromMs - (waitedMs() - waitedBeforeMs);
    this.slowestMs = Math.max(this.slowestMs, tookMs);
    expect(tookMs).toBeLessThan(REPLUG_MS_MAX);
  }

  async descriptors(): Promise<number> {
    const folder = `/proc/${this.node.pid}/fd`;
    const held = await Promise.all(
      (await readdir(folder)).map((fd) => readlink(join(folder, fd)).catch(() => "")),
    );
    // Sockets of the API come and go with whoever asks.
    return held.filter((path) => path !== "" && !path.startsWith("socket:")).length;
  }
}

export async function expectEcho(serial: SerialNode, bytes: number): Promise<void> {
  const sent = Buffer.from(Uint8Array.from({ length: bytes }, (_, i) => (i * 31 + (i >> 8) * 7) & 0xff));
  expect((await serial.echoOf(sent)).equals(sent)).toBe(true);
}
