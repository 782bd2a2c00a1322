/**
 * Stage 0: the few hundred bytes that the kernel starts before Godwit. A program linked to glibc reads /proc before its
 * own first line and aborts without, and an abort of the first program is a kernel panic; so this one, which is linked to
 * nothing, makes and mounts /proc, /sys and /dev, makes sure that there is a console, and becomes Godwit.
 *
 * It is emitted here, instruction by instruction, so that an image needs no C toolchain. What it does:
 *
 *     for each of (/proc, proc) (/sys, sysfs) (/dev, devtmpfs): mkdir, mount      errors are fine: it may be there already
 *     while descriptors 0, 1 or 2 are missing: open /dev/console                  an image without that node has none
 *     on x64, if the processor lacks SSE4.2: say so and rest for ever             the runtime needs it
 *     execve("/godwit", ["/godwit", "pid1", words of the kernel ...], environment below)
 *     write why not, exit with the error's number                                 the kernel panics and shows it
 *
 * The kernel's stack holds argc, argv[0], argv[1] ..., 0. Writing "/godwit" over argc and "pid1" over argv[0] makes the new
 * argument list in place. The environment is fixed: words of the kernel's command line must not steer the runtime.
 *
 * Layout: ELF header 64, one program header 56, code, then data. One segment, readable and executable, never writable.
 */

export type Stage0Arch = "x64" | "arm64";

/** Where the file is mapped. Below 2^31, so that addresses fit the short forms of x86. */
const BASE = 0x40_0000;
const ELF_HEADER_BYTES = 64;
const PROGRAM_HEADER_BYTES = 56;
const ENTRY_OFFSET = ELF_HEADER_BYTES + PROGRAM_HEADER_BYTES;
const MACHINE: Readonly<Record<Stage0Arch, number>> = { x64: 62, arm64: 183 };

/** The program that it becomes, and the word that tells it so (runtime/main.ts). */
export const GODWIT_PATH = "/godwit";
export const PID1_WORD = "pid1";

/**
 * NO_COLOR: /dev/console counts as a terminal. Nothing is ever uploaded. The engine stops its threads with SIGUSR2, so that SIGPWR is
 * free to mean what it means (runtime/init/sys.ts).
 */
const ENVIRONMENT = [
  "HOME=/root",
  "PATH=/bin:/sbin:/usr/bin:/usr/sbin",
  "NO_COLOR=1",
  "BUN_ENABLE_CRASH_REPORTING=0",
  "JSC_SIGNAL_FOR_GC=12",
] as const;

const MOUNTS = [
  ["/proc", "proc"],
  ["/sys", "sysfs"],
  ["/dev", "devtmpfs"],
] as const;

const FAILED = "godwit: stage 0 cannot start /godwit; is it there, and its libraries?\n";

/** x64 only: the runtime would die of an instruction that the processor does not know, and with it the kernel (docs/boot.md). */
const LACKS = "godwit: this processor lacks SSE4.2\n";

/** One instruction, or one piece of data: its bytes and what they do. Addresses are filled in by `fix`. */
interface Piece {
  /** Other pieces refer to it by this. */
  readonly label?: string;
  readonly bytes: readonly number[];
  readonly does: string;
  /** Rewrites `bytes` once every address is known; `at` is the piece's own. */
  readonly fix?: (bytes: number[], at: number, addressOf: (label: string) => number) => void;
}

const u16 = (value: number) => [value & 255, (value >> 8) & 255];
const u32 = (value: number) => [...u16(value & 0xffff), ...u16((value >>> 16) & 0xffff)];
const u64 = (value: number) => [...u32(value), ...u32(0)];
const zeros = (count: number) => Array.from({ length: count }, () => 0);
const text = (value: string) => [...new TextEncoder().encode(value), 0];

/** Data: strings, the table of mounts (pairs of 32-bit addresses, a zero ends it), the environment (64-bit addresses, likewise). */
function data(arch: Stage0Arch): Piece[] {
  const pointers = (width: 4 | 8, labels: readonly (string | undefined)[], label: string): Piece => ({
    label,
    bytes: zeros(width * labels.length),
    does: `addresses of ${labels.filter((one) => one !== undefined).join(", ")}, then 0`,
    fix: (bytes, _at, addressOf) =>
      labels.forEach((one, index) =>
        bytes.splice(width * index, 4, ...u32(one === undefined ? 0 : addressOf(one))),
      ),
  });
  const string = (label: string, value: string): Piece => ({
    label,
    bytes: text(value),
    does: JSON.stringify(value),
  });
  return [
    pointers(8, [...ENVIRONMENT.map((_, index) => `environment ${index}`), undefined], "environment"),
    pointers(4, [...MOUNTS.flatMap(([path, type]) => [path, type]), undefined], "mounts"),
    ...MOUNTS.flatMap(([path, type]) => [string(path, path), string(type, type)]),
    string("console", "/dev/console"),
    string("program", GODWIT_PATH),
    string("word", PID1_WORD),
    ...ENVIRONMENT.map((value, index) => string(`environment ${index}`, value)),
    { label: "failed", bytes: [...new TextEncoder().encode(FAILED)], does: JSON.stringify(FAILED) },
    ...(arch === "x64"
      ? [{ label: "lacks", bytes: [...new TextEncoder().encode(LACKS)], does: JSON.stringify(LACKS) }]
      : []),
  ];
}

// --- x86-64: number of the call in eax, arguments in rdi rsi rdx r10 r8; `syscall` answers in rax and spoils rcx, r11.

/** The last four bytes become the address of `label`. */
const absolute = (label: string): Pick<Piece, "fix"> => ({
  fix: (bytes, _at, addressOf) => void bytes.splice(-4, 4, ...u32(addressOf(label))),
});
/** The last byte becomes the distance to `label` from the end of the instruction, -128 to 127. */
const short = (label: string): Pick<Piece, "fix"> => ({
  fix: (bytes, at, addressOf) => {
    const distance = addressOf(label) - (at + bytes.length);
    if (distance < -128 || distance > 127) throw new Error(`${label} is ${distance} bytes away`);
    bytes[bytes.length - 1] = distance & 255;
  },
});

/** A small number into a register, in three bytes instead of five. */
const small = (register: keyof typeof POP, value: number) => [0x6a, value, POP[register]];
const POP = { rax: 0x58, rdx: 0x5a, rsi: 0x5e, rdi: 0x5f } as const;
const SYSCALL = [0x0f, 0x05] as const;

const codeX64: readonly Piece[] = [
  { label: "start", bytes: [0x58], does: "pop rax                      ; argc: the program comes there" },
  { bytes: [0x58], does: "pop rax                      ; argv[0]: the word comes there" },
  { bytes: [0x68, ...u32(0)], does: "push word                    ; argv[1]", ...absolute("word") },
  {
    bytes: [0x68, ...u32(0)],
    does: "push program                 ; the new argv[0]",
    ...absolute("program"),
  },
  { bytes: [0xbb, ...u32(0)], does: "mov ebx, mounts", ...absolute("mounts") },
  { label: "next mount", bytes: [0x8b, 0x3b], does: "mov edi, [rbx]               ; where" },
  { bytes: [0x85, 0xff], does: "test edi, edi" },
  { bytes: [0x74, 0], does: "jz consoles                  ; the end of the table", ...short("consoles") },
  { bytes: [0xbe, ...u32(0o755)], does: "mov esi, 0755" },
  { bytes: small("rax", 83), does: "push 83; pop rax             ; mkdir" },
  { bytes: SYSCALL, does: "syscall                      ; EEXIST is fine" },
  { bytes: [0x89, 0xfe], does: "mov esi, edi                 ; where" },
  { bytes: [0x8b, 0x7b, 0x04], does: "mov edi, [rbx+4]             ; source: the type's name" },
  { bytes: [0x89, 0xfa], does: "mov edx, edi                 ; type" },
  { bytes: [0x45, 0x31, 0xd2], does: "xor r10d, r10d               ; no flags" },
  { bytes: [0x45, 0x31, 0xc0], does: "xor r8d, r8d                 ; no data" },
  { bytes: [0xb8, ...u32(165)], does: "mov eax, 165                 ; mount" },
  { bytes: SYSCALL, does: "syscall                      ; EBUSY is fine" },
  { bytes: [0x83, 0xc3, 0x08], does: "add ebx, 8" },
  { bytes: [0xeb, 0], does: "jmp next mount", ...short("next mount") },
  { label: "consoles", bytes: [0xbf, ...u32(0)], does: "mov edi, console", ...absolute("console") },
  { bytes: small("rsi", 2), does: "push 2; pop rsi              ; O_RDWR" },
  { bytes: [0x89, 0xf0], does: "mov eax, esi                 ; open is 2 as well" },
  { bytes: SYSCALL, does: "syscall                      ; the lowest free descriptor" },
  { bytes: [0x85, 0xc0], does: "test eax, eax" },
  {
    bytes: [0x78, 0],
    does: "js processor                 ; a machine without console",
    ...short("processor"),
  },
  { bytes: [0x83, 0xf8, 0x02], does: "cmp eax, 2" },
  {
    bytes: [0x7c, 0],
    does: "jl consoles                  ; 0 or 1: the next is missing too",
    ...short("consoles"),
  },
  {
    bytes: [0x74, 0],
    does: "je processor                 ; 2: the last that was missing",
    ...short("processor"),
  },
  { bytes: [0x89, 0xc7], does: "mov edi, eax                 ; all were there: this one is too many" },
  { bytes: small("rax", 3), does: "push 3; pop rax              ; close" },
  { bytes: SYSCALL, does: "syscall" },
  { label: "processor", bytes: small("rax", 1), does: "push 1; pop rax              ; what it can do" },
  { bytes: [0x0f, 0xa2], does: "cpuid" },
  { bytes: [0x0f, 0xba, 0xe1, 20], does: "bt ecx, 20                   ; SSE4.2" },
  { bytes: [0x73, 0], does: "jnc poor", ...short("poor") },
  { bytes: [0xbf, ...u32(0)], does: "mov edi, program", ...absolute("program") },
  { bytes: [0x48, 0x89, 0xe6], does: "mov rsi, rsp                 ; the argument list made above" },
  { bytes: [0xba, ...u32(0)], does: "mov edx, environment", ...absolute("environment") },
  { bytes: small("rax", 59), does: "push 59; pop rax             ; execve" },
  { bytes: SYSCALL, does: "syscall                      ; comes back only if it failed" },
  { bytes: [0x89, 0xc3], does: "mov ebx, eax                 ; minus the error's number" },
  { bytes: [0xbe, ...u32(0)], does: "mov esi, failed", ...absolute("failed") },
  { bytes: small("rdx", FAILED.length), does: "push its length; pop rdx" },
  { bytes: small("rdi", 2), does: "push 2; pop rdi" },
  { bytes: small("rax", 1), does: "push 1; pop rax              ; write" },
  { bytes: SYSCALL, does: "syscall" },
  { bytes: [0x89, 0xdf], does: "mov edi, ebx" },
  { bytes: [0xf7, 0xdf], does: "neg edi" },
  { bytes: small("rax", 60), does: "push 60; pop rax             ; exit" },
  { bytes: SYSCALL, does: "syscall" },
  { label: "poor", bytes: [0xbe, ...u32(0)], does: "mov esi, lacks", ...absolute("lacks") },
  { bytes: small("rdx", LACKS.length), does: "push its length; pop rdx" },
  { bytes: small("rdi", 2), does: "push 2; pop rdi" },
  { bytes: small("rax", 1), does: "push 1; pop rax              ; write" },
  { bytes: SYSCALL, does: "syscall" },
  { label: "rest", bytes: small("rax", 34), does: "push 34; pop rax             ; pause" },
  { bytes: SYSCALL, does: "syscall                      ; comes back at a signal" },
  { bytes: [0xeb, 0], does: "jmp rest", ...short("rest") },
];

// --- arm64: number of the call in x8, arguments in x0 to x4; `svc #0` answers in x0 and spoils nothing else.

const movz = (register: number, value: number) => u32(0xd280_0000 + value * 0x20 + register);
const movn = (register: number, value: number) => u32(0x9280_0000 + value * 0x20 + register);
const mov = (to: number, from: number) => u32(0xaa00_03e0 + from * 0x1_0000 + to);
const SVC = u32(0xd400_0001);
const X = { x0: 0, x1: 1, x2: 2, x3: 3, x4: 4, x8: 8, x19: 19, sp: 31 } as const;
const CONDITION = { eq: 0, mi: 4, lt: 11 } as const;

const word = (bytes: number[], value: number) => void bytes.splice(0, 4, ...u32(value));
/** adr: 21 bits of distance in bytes, the low two apart from the rest. */
const adr = (register: number, label: string): Pick<Piece, "bytes" | "fix"> => ({
  bytes: u32(0),
  fix: (bytes, at, addressOf) => {
    const distance = (addressOf(label) - at) & 0x1f_ffff;
    word(bytes, 0x1000_0000 + (distance & 3) * 0x2000_0000 + (distance >> 2) * 0x20 + register);
  },
});
/** A branch with 19 bits of distance in words: `opcode` says when, `low` holds its register or condition. */
const branch19 = (opcode: number, low: number, label: string): Pick<Piece, "bytes" | "fix"> => ({
  bytes: u32(0),
  fix: (bytes, at, addressOf) =>
    word(bytes, opcode + (((addressOf(label) - at) >> 2) & 0x7_ffff) * 0x20 + low),
});
const branchIf = (condition: keyof typeof CONDITION, label: string) =>
  branch19(0x5400_0000, CONDITION[condition], label);
const cbz = (register: number, label: string) => branch19(0x3400_0000, register, label);
const branch = (label: string): Pick<Piece, "bytes" | "fix"> => ({
  bytes: u32(0),
  fix: (bytes, at, addressOf) => word(bytes, 0x1400_0000 + (((addressOf(label) - at) >> 2) & 0x3ff_ffff)),
});
/** ldr of 32 bits from [from + offset]; the upper half becomes zero. */
const ldr = (to: number, from: number, offset: number) =>
  u32(0xb940_0000 + (offset / 4) * 0x400 + from * 0x20 + to);
const strSp = (register: number, offset: number) =>
  u32(0xf900_0000 + (offset / 8) * 0x400 + X.sp * 0x20 + register);

const codeArm64: readonly Piece[] = [
  { label: "start", ...adr(X.x0, "program"), does: "adr x0, program" },
  { bytes: strSp(X.x0, 0), does: "str x0, [sp]                 ; over argc: the new argv[0]" },
  { ...adr(X.x0, "word"), does: "adr x0, word" },
  { bytes: strSp(X.x0, 8), does: "str x0, [sp, #8]             ; over argv[0]: argv[1]" },
  { ...adr(X.x19, "mounts"), does: "adr x19, mounts" },
  { label: "next mount", bytes: ldr(X.x1, X.x19, 0), does: "ldr w1, [x19]                ; where" },
  { ...cbz(X.x1, "consoles"), does: "cbz w1, consoles             ; the end of the table" },
  { bytes: movn(X.x0, 99), does: "mov x0, #-100                ; AT_FDCWD" },
  { bytes: movz(X.x2, 0o755), does: "mov x2, #0755" },
  { bytes: movz(X.x8, 34), does: "mov x8, #34                  ; mkdirat" },
  { bytes: SVC, does: "svc #0                       ; EEXIST is fine" },
  { bytes: ldr(X.x0, X.x19, 4), does: "ldr w0, [x19, #4]            ; source: the type's name" },
  { bytes: ldr(X.x1, X.x19, 0), does: "ldr w1, [x19]                ; where" },
  { bytes: ldr(X.x2, X.x19, 4), does: "ldr w2, [x19, #4]            ; type" },
  { bytes: movz(X.x3, 0), does: "mov x3, #0                   ; no flags" },
  { bytes: movz(X.x4, 0), does: "mov x4, #0                   ; no data" },
  { bytes: movz(X.x8, 40), does: "mov x8, #40                  ; mount" },
  { bytes: SVC, does: "svc #0                       ; EBUSY is fine" },
  { bytes: u32(0x9100_0000 + 8 * 0x400 + X.x19 * 0x20 + X.x19), does: "add x19, x19, #8" },
  { ...branch("next mount"), does: "b next mount" },
  { label: "consoles", bytes: movn(X.x0, 99), does: "mov x0, #-100                ; AT_FDCWD" },
  { ...adr(X.x1, "console"), does: "adr x1, console" },
  { bytes: movz(X.x2, 2), does: "mov x2, #2                   ; O_RDWR" },
  { bytes: movz(X.x8, 56), does: "mov x8, #56                  ; openat" },
  { bytes: SVC, does: "svc #0                       ; the lowest free descriptor" },
  { bytes: u32(0x7100_001f + 2 * 0x400 + X.x0 * 0x20), does: "cmp w0, #2" },
  { ...branchIf("eq", "become"), does: "b.eq become                  ; 2: the last that was missing" },
  { bytes: u32(0x7100_001f + X.x0 * 0x20), does: "cmp w0, #0" },
  { ...branchIf("mi", "become"), does: "b.mi become                  ; a machine without console" },
  { bytes: u32(0x7100_001f + 2 * 0x400 + X.x0 * 0x20), does: "cmp w0, #2" },
  { ...branchIf("lt", "consoles"), does: "b.lt consoles                ; 0 or 1: the next is missing too" },
  {
    bytes: movz(X.x8, 57),
    does: "mov x8, #57                  ; close: all were there, this one is too many",
  },
  { bytes: SVC, does: "svc #0" },
  { label: "become", ...adr(X.x0, "program"), does: "adr x0, program" },
  {
    bytes: u32(0x9100_0000 + X.sp * 0x20 + X.x1),
    does: "mov x1, sp                   ; the argument list made above",
  },
  { ...adr(X.x2, "environment"), does: "adr x2, environment" },
  { bytes: movz(X.x8, 221), does: "mov x8, #221                 ; execve" },
  { bytes: SVC, does: "svc #0                       ; comes back only if it failed" },
  { bytes: mov(X.x19, X.x0), does: "mov x19, x0                  ; minus the error's number" },
  { bytes: movz(X.x0, 2), does: "mov x0, #2" },
  { ...adr(X.x1, "failed"), does: "adr x1, failed" },
  { bytes: movz(X.x2, FAILED.length), does: "mov x2, its length" },
  { bytes: movz(X.x8, 64), does: "mov x8, #64                  ; write" },
  { bytes: SVC, does: "svc #0" },
  { bytes: u32(0xcb00_03e0 + X.x19 * 0x1_0000 + X.x0), does: "neg x0, x19" },
  { bytes: movz(X.x8, 94), does: "mov x8, #94                  ; exit_group" },
  { bytes: SVC, does: "svc #0" },
];

const code: Readonly<Record<Stage0Arch, readonly Piece[]>> = { x64: codeX64, arm64: codeArm64 };

/** Rows of a listing: offset in the file, bytes, what they do. */
export interface ListingRow {
  readonly offset: number;
  readonly bytes: readonly number[];
  readonly does: string;
}

export interface Stage0 {
  /** The whole file, to be installed as /init with mode 0755. Owned by the caller. */
  readonly bytes: Uint8Array;
  readonly listing: readonly ListingRow[];
}

/** elf(5). Both headers, field by field. */
function headers(arch: Stage0Arch, fileBytes: number): Piece[] {
  const field = (does: string, bytes: readonly number[]): Piece => ({ bytes, does });
  return [
    field("magic", [0x7f, 0x45, 0x4c, 0x46]),
    field("64 bit, little-endian, version 1, System V, padding", [2, 1, 1, 0, ...zeros(8)]),
    field("type: executable at fixed addresses", u16(2)),
    field("machine", u16(MACHINE[arch])),
    field("version", u32(1)),
    field("entry", u64(BASE + ENTRY_OFFSET)),
    field("program headers: right behind", u64(ELF_HEADER_BYTES)),
    field("section headers: none", u64(0)),
    field("flags", u32(0)),
    field("bytes of this header", u16(ELF_HEADER_BYTES)),
    field("bytes of a program header, how many", [...u16(PROGRAM_HEADER_BYTES), ...u16(1)]),
    field("bytes of a section header, how many, index of names", [...u16(0), ...u16(0), ...u16(0)]),
    field("segment: to be loaded", u32(1)),
    field("readable and executable", u32(5)),
    field("from offset 0 of the file", u64(0)),
    field("to this address", u64(BASE)),
    field("physical address: the same", u64(BASE)),
    field("bytes in the file", u64(fileBytes)),
    field("bytes in memory", u64(fileBytes)),
    field("alignment: 64 KiB, the largest page of arm64", u64(0x1_0000)),
  ];
}

/** The file for one machine. The same bytes at every call. */
export function emitStage0(arch: Stage0Arch): Stage0 {
  const machineCode = code[arch];
  const codeBytes = machineCode.reduce((sum, { bytes }) => sum + bytes.length, 0);
  const padding = (8 - ((ENTRY_OFFSET + codeBytes) % 8)) % 8;
  const body: readonly Piece[] = [
    ...machineCode,
    ...(padding === 0 ? [] : [{ bytes: zeros(padding), does: "padding" }]),
    ...data(arch),
  ];
  const fileBytes = ENTRY_OFFSET + body.reduce((sum, { bytes }) => sum + bytes.length, 0);
  const pieces = [...headers(arch, fileBytes), ...body];
  const addresses = new Map<string, number>();
  let at = BASE;
  for (const { label, bytes } of pieces) {
    if (label !== undefined) addresses.set(label, at);
    at += bytes.length;
  }
  const addressOf = (label: string) => {
    const address = addresses.get(label);
    if (address === undefined) throw new Error(`stage 0 has nothing called ${label}`);
    return address;
  };
  const out = new Uint8Array(fileBytes);
  const listing: ListingRow[] = [];
  let offset = 0;
  for (const { bytes, does, fix } of pieces) {
    const fixed = [...bytes];
    fix?.(fixed, BASE + offset, addressOf);
    if (fixed.length !== bytes.length) throw new Error(`${does} changed its length`);
    out.set(fixed, offset);
    listing.push({ offset, bytes: fixed, does });
    offset += fixed.length;
  }
  return { bytes: out, listing };
}

/** The listing as text: `0078  48 c7 04 24 ..   what it does`. */
export const formatListing = (listing: readonly ListingRow[]): string =>
  listing
    .map(({ offset, bytes, does }) => {
      const hex = bytes.map((byte) => byte.toString(16).padStart(2, "0")).join(" ");
      return `${offset.toString(16).padStart(4, "0")}  ${hex.padEnd(27)}  ${does}\n`;
    })
    .join("");

if (import.meta.main) {
  const arch = process.argv[2] === "arm64" ? "arm64" : "x64";
  process.stdout.write(formatListing(emitStage0(arch).listing));
}
