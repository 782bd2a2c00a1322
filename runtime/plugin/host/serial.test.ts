/** `ctx.serial` over pseudo-terminals of socat, in the node's thread and over the frames of a plugin that is elsewhere. */
import { afterAll, afterEach, beforeAll, describe, expect, test } from "bun:test";
import { mkdtemp, readdir, readlink, realpath, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { PluginSerial, SerialLine } from "@godwit/sdk";
import { openSerial, type SerialPort } from "@godwit/sdk/serial";
import { Cable, socat } from "../../../sdk/src/serial/testing.ts";
import { systemClock } from "../../kernel/clock.ts";
import { Scope } from "../../kernel/scope.ts";
import { FrameBed } from "../frames/testing.ts";
import { createSerial } from "../guest/serial.ts";
import { serialPolicyOf } from "../permissions.ts";
import type { RemoteContext } from "../remote/parts.ts";
import { addSerialCalls } from "../remote/serial.ts";
import { openPluginSerial } from "./serial.ts";

const why = socat === null ? " [skipped: socat is not installed]" : "";
/** More than the credit of a flow and the marks of every buffer on the way. */
const MUCH_BYTES = 2_000_000;

let dir: string;
beforeAll(async () => {
  dir = await realpath(await mkdtemp(join(tmpdir(), "godwit-serial-")));
});
afterAll(() => rm(dir, { recursive: true, force: true }));

const scopes: Scope[] = [];
afterEach(async () => {
  for (const scope of scopes.splice(0)) await scope.close();
});

let cables = 0;
const cable = (): Promise<Cable> => new Cable(dir, String(cables++)).plug();

function rig(place: "trusted" | "remote") {
  const scope = new Scope("plugin");
  scopes.push(scope);
  const policy = serialPolicyOf(["serial:*"], [`serial:${dir}/*-near`]);
  const door = openPluginSerial(scope, policy, systemClock);
  if (place === "trusted") return { scope, serial: door };
  const bed = new FrameBed(true);
  addSerialCalls({ ...bed.node, ctx: { serial: door } as unknown as RemoteContext });
  const guest = new Scope("guest");
  scopes.push(guest);
  return { scope, serial: createSerial(bed.plugin.calls, bed.plugin.flows, guest) };
}

const baudRate = 115_200;
const open = (serial: PluginSerial, line: Cable) => serial.open({ path: line.near, baudRate });
const far = (line: Cable): Promise<SerialPort> =>
  openSerial({ path: line.far, baudRate, clock: systemClock });

const pattern = (bytes: number, seed: number): Buffer =>
  Buffer.from(Uint8Array.from({ length: bytes }, (_, i) => (i * 31 + (i >> 8) * seed) & 0xff));

function listen(line: SerialLine, bytes = Number.POSITIVE_INFINITY) {
  const [all, closed] = [Promise.withResolvers<Buffer>(), Promise.withResolvers<Error | undefined>()];
  const parts: Buffer[] = [];
  let count = 0;
  let drained = () => {};
  line.open({
    data(part) {
      parts.push(Buffer.from(part));
      count += part.length;
      if (count >= bytes) all.resolve(Buffer.concat(parts));
    },
    drain: () => drained(),
    closed: closed.resolve,
  });
  let stops = 0;
  const send = async (whole: Uint8Array) => {
    for (let at = 0; at < whole.length; at += 5_000) {
      if (line.write(whole.subarray(at, at + 5_000))) continue;
      stops++;
      await new Promise<void>((resolve) => void (drained = resolve));
    }
    return stops;
  };
  return { all: all.promise, closed: closed.promise, send, count: () => count };
}

function collect(port: SerialPort, bytes: number): Promise<Buffer> {
  const parts: Buffer[] = [];
  let count = 0;
  return new Promise((resolve) => {
    port.on("data", (part: Buffer) => {
      parts.push(part);
      count += part.length;
      if (count >= bytes) resolve(Buffer.concat(parts));
    });
  });
}

const end = (port: SerialPort): Promise<unknown> =>
  port.isOpen ? new Promise((resolve) => port.close(resolve)) : Promise.resolve();

async function held(line: Cable): Promise<number> {
  const terminal = await realpath(line.near);
  const paths = await Promise.all(
    (await readdir("/proc/self/fd")).map((fd) => readlink(`/proc/self/fd/${fd}`).catch(() => "")),
  );
  return paths.filter((path) => path === terminal).length;
}

describe.skipIf(socat === null).each(["trusted", "remote"] as const)(
  `a port of a %s plugin${why}`,
  (place) => {
    test("carries two megabytes both ways at once, and says when to wait", async () => {
      await using line = await cable();
      const near = await open(rig(place).serial, line);
      const [there, back] = [pattern(MUCH_BYTES, 7), pattern(MUCH_BYTES, 13)];
      const at = listen(near, back.length);
      const other = await far(line);
      const arriving = collect(other, there.length);
      other.write(back);
      expect(await at.send(there)).toBeGreaterThan(0);
      expect([(await arriving).equals(there), (await at.all).equals(back)]).toEqual([true, true]);
      near.close();
      expect(await at.closed).toBeUndefined();
      await end(other);
    });

    test("that is paused lets the far end wait", async () => {
      await using line = await cable();
      const near = await open(rig(place).serial, line);
      const at = listen(near, MUCH_BYTES);
      near.pause(true);
      const other = await far(line);
      let isWritten = false;
      other.write(pattern(MUCH_BYTES, 3), () => void (isWritten = true));
      await Bun.sleep(500);
      expect([isWritten, at.count()]).toEqual([false, 0]);
      near.pause(false);
      expect((await at.all).equals(pattern(MUCH_BYTES, 3))).toBe(true);
      await end(other);
    });

    test("that is unplugged says so, and opens again once it is plugged in", async () => {
      await using line = await cable();
      const { serial } = rig(place);
      for (let round = 0; round < 10; round++) {
        const near = await open(serial, line);
        const at = listen(near);
        near.write(new Uint8Array(300));
        await line.unplug();
        expect(await at.closed).toMatchObject({ code: "GODWIT_SERIAL_FAILED" });
        expect(open(serial, line)).rejects.toMatchObject({ code: "GODWIT_SERIAL_FAILED" });
        await line.plug();
      }
    });

    test("has lines that are set where there are some", async () => {
      await using line = await cable();
      const near = await open(rig(place).serial, line);
      const at = listen(near);
      await near.set({ dtr: true, rts: false });
      near.close();
      await at.closed;
      expect(near.set({ dtr: true })).rejects.toThrow();
    });

    test("ends with the plugin, and nothing is left of it", async () => {
      await using line = await cable();
      const { serial, scope } = rig(place);
      const at = listen(await open(serial, line));
      await scope.close();
      await at.closed;
      for (let i = 0; i < 200 && (await held(line)) > 0; i++) await Bun.sleep(10);
      expect(await held(line)).toBe(0);
      expect(open(serial, line)).rejects.toMatchObject({ code: "GODWIT_STOPPED" });
    });

    test("is one that was granted", async () => {
      const { serial } = rig(place);
      for (const path of ["/dev/ttyUSB0", `${dir}/0-far`, `${dir}/../0-near`, `${dir}/x/0-near`])
        expect(serial.open({ path, baudRate })).rejects.toMatchObject({ code: "GODWIT_FORBIDDEN" });
      expect(serial.open({ path: `${dir}/none-near`, baudRate })).rejects.toThrow(/is it plugged in/);
      expect(await serial.list()).toEqual([]);
    });

    test("is one of sixteen", async () => {
      const lines = await Promise.all(Array.from({ length: 17 }, cable));
      const { serial } = rig(place);
      const opened = await Promise.allSettled(lines.map((line) => open(serial, line)));
      expect(opened.filter(({ status }) => status === "fulfilled").length).toBe(16);
      expect(opened.at(-1)).toMatchObject({ reason: { code: "GODWIT_QUEUE_FULL" } });
      await Promise.all(lines.map((line) => line.unplug()));
    });
  },
);
