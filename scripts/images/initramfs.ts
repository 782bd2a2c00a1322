/**
 * `./scripts/image initramfs`: a kernel and a first root that hold nothing but Godwit. Debian's kernel, its modules that are
 * wanted, glibc's five libraries, the binary and stage 0, which starts it. Needs apt and dpkg-deb; no root, no loop device.
 */
import { cpSync, lstatSync, readdirSync, readFileSync, readlinkSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { buildVersion } from "../build.ts";
import { type CpioEntry, writeCpio } from "./cpio.ts";
import { glibcFiles, PROGRAM_LIBRARIES } from "./glibc.ts";
import { formatModulesDep, type KernelModule, ModuleTree } from "./modules.ts";
import { PackageRoot } from "./packages.ts";
import { programEntries, withLibraries } from "./programs.ts";
import { emitStage0, GODWIT_PATH } from "./stage0.ts";
import { imageBinary, type ImageArch, type ImageOptions, type ImageTarget, type SizeRow } from "./target.ts";

/** Kernels for virtual machines: small and quick to start. Boards and PCs: `--kernel linux-image-arm64`, `linux-image-amd64`. */
const DEFAULT_KERNEL: Readonly<Record<ImageArch, string>> = {
  x64: "linux-image-cloud-amd64",
  arm64: "linux-image-cloud-arm64",
};

/**
 * Loaded by PID 1 in this order, each after what it needs; those that a kernel has not, or has built in, are left out.
 * Reviewed against Debian 12's cloud and generic kernels for both machines.
 */
const MODULES = [
  // Watchdogs first: from then on a boot that hangs ends in another. The one in software (softdog) is for machines without.
  ...["i6300esb", "iTCO_wdt", "sp5100_tco", "bcm2835_wdt", "softdog"],
  // Virtual machines.
  ...["virtio_pci", "virtio_mmio", "virtio_net", "virtio_blk", "virtio_scsi", "virtio_rng"],
  ...["hv_vmbus", "hv_netvsc", "hv_storvsc", "vmxnet3", "vmw_pvscsi", "ena", "xen_netfront", "xen_blkfront"],
  // PCs.
  ...[
    "e1000",
    "e1000e",
    "igb",
    "igc",
    "ixgbe",
    "r8169",
    "tg3",
    "ahci",
    "nvme",
    "sd_mod",
    "xhci_pci",
    "ehci_pci",
  ],
  ...["usb_storage", "uas", "usbhid"],
  // Boards: SD cards, and the network of the Raspberry Pi 3 (behind USB) and 4.
  ...["bcm2835", "sdhci_iproc", "sdhci_pci", "mmc_block", "dwc2", "smsc95xx", "lan78xx", "genet"],
  // Ethernet by USB: adapters, phones, and the emulated one of boards.
  ...["cdc_ether", "rndis_host", "r8152", "asix", "ax88179_178a"],
  // The button of ACPI or GPIO, as an event.
  ...["button", "gpio_keys", "evdev"],
  // For the state's disk, and for tunnels.
  ...["ext4", "tun", "wireguard"],
] as const;

/** zstd from 1 to 22; 10 takes 4 s for what 19 takes 90 s and saves a tenth more. */
const COMPRESSION_DEFAULT = 10;
/** The kernel unpacks windows of up to 2^27 bytes; every level of ours stays below. */
const COMPRESSION_MAX = 19;

export const initramfs: ImageTarget = {
  summary: "vmlinuz, initrd.zst and cmdline: a kernel whose only program is Godwit as PID 1",
  options: {
    kernel: {
      type: "string",
      help: "PACKAGE  Debian's kernel package, instead of the one for virtual machines",
    },
    module: { type: "string", multiple: true, help: "NAME  one more kernel module to load" },
    package: {
      type: "string",
      multiple: true,
      help: "NAME  a Debian package whose programs go in, with their libraries: tor, yggdrasil, wireguard-go",
    },
    overlay: {
      type: "string",
      multiple: true,
      help: "DIR  files to lay over the image: etc/godwit/godwit.toml, keys, programs; may be given more than once",
    },
    level: {
      type: "string",
      help: `N  zstd level, 1 to ${COMPRESSION_MAX}; ${COMPRESSION_DEFAULT} by default`,
    },
  },
  build,
};

/**
 * What a boot loader should say to the kernel; the machine's console and `godwit.` words come behind. ramfs: a tmpfs root may
 * fill half of the memory only, which a machine of 320 MB does not have (docs/boot.md).
 */
const KERNEL_WORDS = ["quiet", "panic=10", "rootfstype=ramfs"] as const;

/** What PID 1 reads from /etc/godwit/image.json (runtime/init/facts.ts). */
interface Manifest {
  readonly format: 1;
  readonly version: string;
  readonly built_at: number;
  readonly kernel: string;
  readonly modules: readonly string[];
  /** Name, version and SHA-256: what the image was made from. */
  readonly packages: readonly string[];
}

async function build(options: ImageOptions): Promise<readonly SizeRow[]> {
  const { arch, out, epochS, values, steps } = options;
  const level = Number(values["level"] ?? COMPRESSION_DEFAULT);
  if (!Number.isInteger(level) || level < 1 || level > COMPRESSION_MAX)
    throw new Error(`--level is a whole number from 1 to ${COMPRESSION_MAX}`);
  const packages = new PackageRoot(arch, steps);
  const wantedKernel = String(values["kernel"] ?? DEFAULT_KERNEL[arch]);
  const kernelName = /^linux-image-\d/.test(wantedKernel)
    ? wantedKernel
    : await packages.dependency(wantedKernel, "linux-image-");
  const kernel = await packages.get(kernelName);
  const libc = await packages.get("libc6");
  const programs = await withLibraries(packages, [values["package"] ?? []].flat().map(String));
  steps.begin("building the binary");
  const binary = new Uint8Array(readFileSync(await imageBinary(arch)));

  const kernelVersion = kernelName.replace(/^linux-image-/, "").replace(/-unsigned$/, "");
  const tree = new ModuleTree(join(kernel.folder, "lib/modules", kernelVersion));
  const named = [values["module"] ?? []].flat().map((name) => String(name).replaceAll("-", "_"));
  const { modules, missing } = tree.closure([...MODULES, ...named]);
  const unknown = named.filter((name) => missing.includes(name));
  if (unknown.length > 0) throw new Error(`${kernelName} has no module ${unknown.join(", ")}`);

  const manifest: Manifest = {
    format: 1,
    version: await buildVersion(),
    built_at: epochS,
    kernel: kernelVersion,
    modules: modules.map(({ name }) => name),
    packages: [kernel, libc, ...programs].map(({ name, version, sha256 }) => `${name} ${version} ${sha256}`),
  };
  const libs = glibcFiles(libc.folder, arch, programs.length === 0 ? [] : PROGRAM_LIBRARIES).map(
    (file): CpioEntry => ({ ...file, kind: "file", mode: 0o755 }),
  );
  const overlays = [values["overlay"] ?? []].flat().flatMap((folder) => overlayEntries(String(folder)));
  const base: CpioEntry[] = [
    ...skeleton(manifest),
    ...libs,
    ...programEntries(programs, arch),
    ...moduleEntries(modules, kernelVersion),
    { path: "init", kind: "file", bytes: emitStage0(arch).bytes, mode: 0o755 },
    { path: GODWIT_PATH.slice(1), kind: "file", bytes: binary, mode: 0o755 },
  ];
  // What is laid over last is on top.
  const byPath = new Map([...base, ...overlays].map((entry) => [entry.path, entry]));
  const archive = writeCpio([...byPath.values()], epochS);
  steps.begin(`packing with zstd -${level}`);
  const packed = Bun.zstdCompressSync(archive, { level });
  writeFileSync(join(out, "initrd.zst"), packed);
  writeFileSync(join(out, "cmdline"), `${KERNEL_WORDS.join(" ")}\n`);
  const vmlinuz = join(kernel.folder, "boot", `vmlinuz-${kernelVersion}`);
  cpSync(vmlinuz, join(out, "vmlinuz"));

  const sum = (entries: readonly CpioEntry[]) =>
    entries.reduce((total, entry) => total + (entry.kind === "file" ? entry.bytes.length : 0), 0);
  return [
    { what: "the binary", bytes: binary.length, isFile: false },
    { what: "glibc", bytes: sum(libs), isFile: false },
    {
      what: `${modules.length} kernel modules`,
      bytes: modules.reduce((total, module) => total + module.bytes.length, 0),
      isFile: false,
    },
    { what: "stage 0", bytes: emitStage0(arch).bytes.length, isFile: false },
    ...programs.map((one) => ({
      what: `package ${one.name} ${one.version}`,
      bytes: sum(programEntries([one], arch)),
      isFile: false,
    })),
    ...(overlays.length === 0 ? [] : [{ what: "laid over", bytes: sum(overlays), isFile: false }]),
    { what: "the tree in memory", bytes: archive.length, isFile: false },
    { what: "initrd.zst", bytes: packed.length, isFile: true },
    { what: `vmlinuz (${kernelVersion})`, bytes: lstatSync(join(out, "vmlinuz")).size, isFile: true },
  ];
}

const utf8 = new TextEncoder();

/** Folders to mount on, a console for stage 0, and the few files that glibc and people look for. */
function skeleton(manifest: Manifest): CpioEntry[] {
  const file = (path: string, content: string, mode = 0o644): CpioEntry => ({
    path,
    kind: "file",
    bytes: utf8.encode(content),
    mode,
  });
  return [
    ...["proc", "sys", "dev", "run", "mnt", "var/lib/godwit", "etc/godwit"].map((path): CpioEntry => ({
      path,
      kind: "directory",
    })),
    { path: "tmp", kind: "directory", mode: 0o1777 },
    { path: "root", kind: "directory", mode: 0o700 },
    { path: "dev/console", kind: "character device", major: 5, minor: 1 },
    file("etc/godwit/image.json", `${JSON.stringify(manifest, null, 2)}\n`),
    file("etc/hosts", "127.0.0.1 localhost\n::1 localhost\n"),
    file("etc/nsswitch.conf", "hosts: files dns\n"),
    file("etc/passwd", "root:x:0:0:root:/root:/godwit\n"),
    file("etc/group", "root:x:0:\n"),
    // Written by PID 1 when it learns of name servers.
    { path: "etc/resolv.conf", kind: "link", target: "/run/resolv.conf" },
  ];
}

function moduleEntries(modules: readonly KernelModule[], version: string): CpioEntry[] {
  const folder = `lib/modules/${version}`;
  return [
    ...modules.map(({ path, bytes }): CpioEntry => ({ path: `${folder}/${path}`, kind: "file", bytes })),
    { path: `${folder}/modules.dep`, kind: "file", bytes: utf8.encode(formatModulesDep(modules)) },
  ];
}

/** Files, folders and links below a folder; permissions are kept, owners are root. */
function overlayEntries(folder: string): CpioEntry[] {
  return readdirSync(folder, { recursive: true })
    .map(String)
    .sort()
    .map((path): CpioEntry => {
      const at = join(folder, path);
      const stat = lstatSync(at);
      const mode = stat.mode & 0o7777;
      if (stat.isSymbolicLink()) return { path, kind: "link", target: readlinkSync(at) };
      if (stat.isDirectory()) return { path, kind: "directory", mode };
      if (!stat.isFile()) throw new Error(`${at} is neither file, folder nor link`);
      return { path, kind: "file", bytes: new Uint8Array(readFileSync(at)), mode };
    });
}
