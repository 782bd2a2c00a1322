/** Serial ports of this machine, as /sys and /dev tell of them. Opens none. */
import { readdir, readFile, readlink, realpath } from "node:fs/promises";
import { basename, dirname, join } from "node:path";

export interface SerialPortInfo {
  /** `/dev/ttyUSB0`: may be another one after the next plug. */
  readonly path: string;
  /** `/dev/serial/by-id/...`: the same for the same device; undefined where the system gives none. */
  readonly stablePath: string | undefined;
  /** Four hex digits, lower case. */
  readonly vendorId: string | undefined;
  readonly productId: string | undefined;
  readonly manufacturer: string | undefined;
  readonly product: string | undefined;
  readonly serialNumber: string | undefined;
  /** Of the kernel, `cp210x`. */
  readonly driver: string | undefined;
}

export interface SerialFolders {
  readonly sys: string;
  readonly dev: string;
}

/** Ports of a board that no chip is behind. */
const ABSENT_DRIVERS: readonly string[] = ["serial8250", "port"];
/** From a port up to the device on the bus. */
const PARENTS_MAX = 6;

/** Sorted by path. Empty where there is no /sys. Never rejects. */
export async function listSerialPorts({ sys = "/sys", dev = "/dev" }: Partial<SerialFolders> = {}): Promise<
  SerialPortInfo[]
> {
  const stable = await stablePaths(dev);
  const names = await readdir(join(sys, "class/tty")).catch(() => []);
  const found = await Promise.all(names.map((name) => portOf(sys, dev, name, stable)));
  return found.filter((port) => port !== undefined).sort((a, b) => (a.path < b.path ? -1 : 1));
}

async function portOf(
  sys: string,
  dev: string,
  name: string,
  stable: ReadonlyMap<string, string>,
): Promise<SerialPortInfo | undefined> {
  const device = await realpath(join(sys, "class/tty", name, "device")).catch(() => undefined);
  // Consoles and pseudo-terminals have none.
  if (device === undefined) return undefined;
  const driver = await readlink(join(device, "driver")).then(basename, () => undefined);
  if (driver !== undefined && ABSENT_DRIVERS.includes(driver)) return undefined;
  const path = join(dev, name);
  const usb = await usbOf(device);
  const word = (file: string) => (usb === undefined ? Promise.resolve(undefined) : wordOf(join(usb, file)));
  return {
    path,
    stablePath: stable.get(path),
    vendorId: (await word("idVendor"))?.toLowerCase(),
    productId: (await word("idProduct"))?.toLowerCase(),
    manufacturer: await word("manufacturer"),
    product: await word("product"),
    serialNumber: await word("serial"),
    driver,
  };
}

async function usbOf(device: string): Promise<string | undefined> {
  let at = device;
  for (let i = 0; i < PARENTS_MAX && at !== "/"; i++, at = dirname(at))
    if ((await wordOf(join(at, "idVendor"))) !== undefined) return at;
  return undefined;
}

async function wordOf(file: string): Promise<string | undefined> {
  const text = await readFile(file, "utf8").catch(() => "");
  return text.trim().slice(0, 200) || undefined;
}

/** By the path that they stand for. */
async function stablePaths(dev: string): Promise<Map<string, string>> {
  const folder = join(dev, "serial/by-id");
  const names = await readdir(folder).catch(() => []);
  const paths = await Promise.all(
    names.map(async (name) => {
      const target = await realpath(join(folder, name)).catch(() => undefined);
      return target === undefined ? undefined : ([target, join(folder, name)] as const);
    }),
  );
  return new Map(paths.filter((pair) => pair !== undefined));
}
