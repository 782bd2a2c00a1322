/** Serial ports over pseudo-terminals of socat: the kernel's own line discipline, and its hang-up. What has modem lines was not tried. */
import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { mkdir, mkdtemp, readdir, readlink, realpath, rm, symlink, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { systemClock } from "../../../runtime/kernel/clock.ts";
import { listSerialPorts, openSerial, type SerialPort } from "./index.ts";
import { Cable, socat } from "./testing.ts";

const why = socat === null ? " [skipped: socat is not installed]" : "";

let dir: string;
beforeAll(async () => {
  dir = await mkdtemp(join(tmpdir(), "godwit-serial-"));
});
afterAll(() => rm(dir, { recursive: true, force: true }));

let cables = 0;
const cable = (): Promise<Cable> => new Cable(dir, String(cables++)).plug();
const open = (path: string, baudRate = 115_200): Promise<SerialPort> =>
  openSerial({ path, baudRate, clock: systemClock });
const closed = (port: SerialPort): Promise<Error | null> =>
  new Promise((resolve) => port.once("close", resolve as () => void));
const end = (port: SerialPort): Promise<unknown> =>
  port.isOpen ? new Promise((resolve) => port.close(resolve)) : Promise.resolve(null);

/** All that comes, until there is so much. */
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

const pattern = (bytes: number, seed: number): Buffer =>
  Buffer.from(Uint8Array.from({ length: bytes }, (_, i) => (i * 31 + (i >> 8) * seed) & 0xff));

describe.skipIf(socat === null)(`a serial port${why}`, () => {
  test("carries every byte both ways at once, whatever it is", async () => {
    await using line = await cable();
    const [a, b] = [await open(line.near), await open(line.far, 921_600)];
    const [there, back] = [pattern(500_000, 7), pattern(500_000, 13)];
    const arriving = [collect(b, there.length), collect(a, back.length)] as const;
    a.write(there);
    b.write(back);
    const [atB, atA] = await Promise.all(arriving);
    expect([atB.equals(there), atA.equals(back)]).toEqual([true, true]);
    await Promise.all([end(a), end(b)]);
  });

  test("has any speed, and the driver says which", async () => {
    await using line = await cable();
    const port = await open(line.near, 123_457);
    const binding = (port as unknown as { port: { getBaudRate(): Promise<{ baudRate: number }> } }).port;
    expect(await binding.getBaudRate()).toEqual({ baudRate: 123_457 });
    await new Promise((resolve) => port.update({ baudRate: 250_000 }, resolve));
    expect(await binding.getBaudRate()).toEqual({ baudRate: 250_000 });
    await end(port);
  });

  test("that was unplugged closes at once, and is there again when it is plugged in", async () => {
    const line = await cable();
    await using _ = line;
    for (let round = 0; round < 20; round++) {
      const [a, b] = [await open(line.near), await open(line.far)];
      const arriving = collect(b, 5);
      a.write("hello");
      expect((await arriving).toString()).toBe("hello");
      a.resume();
      const gone = [closed(a), closed(b)];
      a.write(new Uint8Array(300)); // in the middle of a frame
      await line.unplug();
      for (const error of await Promise.all(gone)) expect(error).toMatchObject({ disconnected: true });
      await line.plug();
    }
  });

  test("leaves no descriptor behind", async () => {
    await using line = await cable();
    const count = async () => {
      const held = await Promise.all(
        (await readdir("/proc/self/fd")).map((fd) => readlink(`/proc/self/fd/${fd}`).catch(() => "")),
      );
      const terminal = await realpath(line.near);
      return held.filter((path) => path === terminal).length;
    };
    const turn = async () => {
      const port = await open(line.near);
      port.resume();
      await end(port);
    };
    for (let i = 0; i < 50; i++) await turn();
    // The runtime lets go of the last a little later.
    for (let i = 0; i < 200 && (await count()) > 0; i++) await Bun.sleep(10);
    expect(await count()).toBe(0);
  });

  test("is for one at a time, until that one closes it", async () => {
    await using line = await cable();
    const first = await open(line.near);
    expect(open(line.near)).rejects.toThrow(/another program has it/);
    await end(first);
    const second = await open(line.near);
    await end(second);
  });

  test("has lines that are set where there are some, and says nothing where there are none", async () => {
    await using line = await cable();
    const port = await open(line.near);
    expect(await new Promise((resolve) => port.set({ dtr: true, rts: false }, resolve))).toBeNull();
    const status = await new Promise((resolve) => port.get((_, found) => resolve(found)));
    expect(status).toEqual({ cts: false, dsr: false, dcd: false });
    expect(await new Promise((resolve) => port.flush(resolve))).toBeNull();
    expect(await new Promise((resolve) => port.drain(resolve))).toBeNull();
    await end(port);
  });

  test("that nobody reads stops whoever writes, and loses nothing", async () => {
    await using line = await cable();
    const [a, b] = [await open(line.near), await open(line.far)];
    const sent = pattern(300_000, 3);
    let isWritten = false;
    a.write(sent, () => void (isWritten = true));
    await Bun.sleep(50);
    expect(isWritten).toBe(false);
    expect((await collect(b, sent.length)).equals(sent)).toBe(true);
    await Promise.all([end(a), end(b)]);
  });
});

describe("an opening that is refused", () => {
  test.each([
    ["dev/ttyUSB0", 9_600, /no absolute path/],
    ["/dev/ttyUSB77", 9_600, /no such port: is it plugged in/],
    ["/dev/null", 9_600, /no serial port/],
    ["/dev/null", 0, /no baud rate/],
    ["/dev/null", 1.5, /no baud rate/],
  ])("of %s at %d says what to do", async (path, baudRate, words) => {
    expect(open(path, baudRate)).rejects.toThrow(words);
  });

  test("by its signal", async () => {
    const signal = AbortSignal.abort(new Error("enough"));
    expect(openSerial({ path: "/dev/null", baudRate: 9_600, clock: systemClock }, signal)).rejects.toThrow(
      "enough",
    );
  });
});

test("ports are listed with what they are and by what path they stay, and those without a device are not", async () => {
  const [sys, dev] = [join(dir, "sys"), join(dir, "dev")];
  const usb = join(sys, "devices/usb1/1-1");
  const port = join(usb, "1-1:1.0/ttyUSB0");
  await mkdir(port, { recursive: true });
  for (const [file, text] of [
    ["idVendor", "10C4\n"],
    ["idProduct", "ea60\n"],
    ["product", "CP2102 USB to UART\n"],
    ["serial", "0001\n"],
  ])
    await writeFile(join(usb, file!), text!);
  await mkdir(join(sys, "bus/cp210x"), { recursive: true });
  await symlink(join(sys, "bus/cp210x"), join(port, "driver"));
  const old = join(sys, "devices/platform/serial8250");
  await mkdir(old, { recursive: true });
  await mkdir(join(sys, "bus/serial8250"));
  await symlink(join(sys, "bus/serial8250"), join(old, "driver"));
  for (const [name, device] of [
    ["ttyUSB0", port],
    ["ttyS0", old],
    ["tty1", undefined],
  ] as const) {
    await mkdir(join(sys, "class/tty", name), { recursive: true });
    if (device !== undefined) await symlink(device, join(sys, "class/tty", name, "device"));
  }
  await mkdir(join(dev, "serial/by-id"), { recursive: true });
  await writeFile(join(dev, "ttyUSB0"), "");
  await symlink("../../ttyUSB0", join(dev, "serial/by-id/usb-CP2102-0001"));
  expect(await listSerialPorts({ sys, dev })).toEqual([
    {
      path: join(dev, "ttyUSB0"),
      stablePath: join(dev, "serial/by-id/usb-CP2102-0001"),
      vendorId: "10c4",
      productId: "ea60",
      manufacturer: undefined,
      product: "CP2102 USB to UART",
      serialNumber: "0001",
      driver: "cp210x",
    },
  ]);
  expect(await listSerialPorts({ sys: join(dir, "none"), dev })).toEqual([]);
});
