/**
 * Programs of classic BPF for seccomp, made of rules, and the interpreter that its tests run them with. Pure: rules in, bytes
 * out. Source: Documentation/userspace-api/seccomp_filter.rst, <linux/filter.h>, <linux/seccomp.h>.
 *
 *   instruction: | code 2 | jt 1 | jf 1 | k 4 |               little-endian; jumps count instructions, forward only
 *   what it reads: | number 4 | arch 4 | instruction pointer 8 | argument 8, six times |
 */
import { type Arch, AUDIT_ARCH, X32_BIT } from "./numbers.ts";

/** SECCOMP_RET_ of <linux/seccomp.h>. */
export const Action = {
  killProcess: 0x8000_0000,
  allow: 0x7fff_0000,
  errno: 0x0005_0000,
} as const;

export const deny = (errno: number): number => (Action.errno | errno) >>> 0;

/** The low 32 bits of an argument, `and` a mask if there is one, are `is`: what the kernel reads of an int. */
export interface Condition {
  readonly arg: 0 | 1 | 2 | 3 | 4 | 5;
  readonly mask?: number;
  readonly is: number;
}

/** One system call: allowed when all conditions of one alternative hold, else `otherwise`. Without alternatives: `otherwise`. */
export interface Rule {
  readonly number: number;
  readonly alternatives: readonly (readonly Condition[])[];
  readonly otherwise: number;
}

interface Instruction {
  readonly code: number;
  readonly jt: number;
  readonly jf: number;
  readonly k: number;
}

const LOAD = 0x20;
const AND = 0x54;
const JEQ = 0x15;
const JGE = 0x35;
const RETURN = 0x06;
const ARCH_AT = 4;
/** Low half of an argument: both architectures are little-endian. */
const argAt = (arg: number): number => 16 + arg * 8;

/** At most so many instructions, BPF_MAXINSNS. */
const INSTRUCTIONS_MAX = 4_096;

export interface Filter {
  readonly arch: Arch;
  /** Calls that are allowed whatever their arguments are. */
  readonly allowed: readonly number[];
  readonly rules: readonly Rule[];
  readonly otherwise: number;
}

/** Another architecture and x32 end the process: their numbers mean other calls. */
export function compileFilter({ arch, allowed, rules, otherwise }: Filter): Uint8Array {
  const program: Instruction[] = [
    op(LOAD, ARCH_AT),
    jump(JEQ, AUDIT_ARCH[arch], 1, 0),
    op(RETURN, Action.killProcess),
    op(LOAD, 0),
  ];
  if (arch === "x64") program.push(jump(JGE, X32_BIT, 0, 1), op(RETURN, Action.killProcess));
  for (const rule of rules) program.push(...compileRule(rule));
  for (const number of allowed) program.push(jump(JEQ, number, 0, 1), op(RETURN, Action.allow));
  program.push(op(RETURN, otherwise));
  if (program.length > INSTRUCTIONS_MAX) throw new RangeError("the filter is too long for the kernel");
  return encode(program);
}

function compileRule({ number, alternatives, otherwise }: Rule): Instruction[] {
  const body: Instruction[] = [];
  for (const conditions of alternatives) {
    const tests = conditions.map(({ arg, mask, is }) => [
      op(LOAD, argAt(arg)),
      ...(mask === undefined ? [] : [op(AND, mask)]),
      jump(JEQ, is, 0, 0),
    ]);
    // Behind the last test of an alternative stands its "allow"; a test that fails goes past it.
    let left = tests.reduce((sum, test) => sum + test.length, 0) + 1;
    for (const test of tests) {
      left -= test.length;
      body.push(...test.slice(0, -1), { ...test.at(-1)!, jf: left });
    }
    body.push(op(RETURN, Action.allow));
  }
  body.push(op(RETURN, otherwise));
  if (body.length > 255) throw new RangeError("the rule is too long for a jump");
  return [jump(JEQ, number, 0, body.length), ...body];
}

const op = (code: number, k: number): Instruction => ({ code, jt: 0, jf: 0, k });
const jump = (code: number, k: number, jt: number, jf: number): Instruction => ({ code, jt, jf, k });

function encode(program: readonly Instruction[]): Uint8Array {
  const bytes = new Uint8Array(program.length * 8);
  const view = new DataView(bytes.buffer);
  program.forEach(({ code, jt, jf, k }, index) => {
    view.setUint16(index * 8, code, true);
    view.setUint8(index * 8 + 2, jt);
    view.setUint8(index * 8 + 3, jf);
    view.setUint32(index * 8 + 4, k >>> 0, true);
  });
  return bytes;
}

export interface Call {
  readonly arch: number;
  readonly number: number;
  readonly args: readonly number[];
}

/** What the kernel would decide. Throws on whatever the kernel would refuse to load. */
export function interpretFilter(bytes: Uint8Array, call: Call): number {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const count = bytes.length / 8;
  const word = (at: number): number => {
    if (at === 0) return call.number >>> 0;
    if (at === ARCH_AT) return call.arch >>> 0;
    if (at >= 16 && at < 64 && at % 8 === 0) return (call.args[(at - 16) / 8] ?? 0) >>> 0;
    throw new RangeError(`reads at ${at}`);
  };
  let accumulator = 0;
  for (let at = 0; at < count; at++) {
    const code = view.getUint16(at * 8, true);
    const jt = view.getUint8(at * 8 + 2);
    const jf = view.getUint8(at * 8 + 3);
    const k = view.getUint32(at * 8 + 4, true);
    switch (code) {
      case LOAD:
        accumulator = word(k);
        break;
      case AND:
        accumulator = (accumulator & k) >>> 0;
        break;
      case JEQ:
        at += accumulator === k ? jt : jf;
        break;
      case JGE:
        at += accumulator >= k ? jt : jf;
        break;
      case RETURN:
        return k;
      default:
        throw new RangeError(`unknown instruction ${code}`);
    }
  }
  throw new RangeError("the filter runs off its end");
}
