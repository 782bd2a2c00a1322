/**
 * Regular expressions that strangers send, in time that grows with expression times text and no more: a set of states walks over the text, nothing
 * goes back. Knows literals, `.`, classes, `\d \w \s`, groups, `|`, `* + ?` (greedy or not is the same here), `^` and `$`. Anything else is no
 * pattern, and matches nothing.
 */
const PATTERN_CHARS_MAX = 256;
const GROUPS_MAX = 16;

type Test = (char: string) => boolean;
type State =
  | { readonly kind: "test"; readonly test: Test; next: number }
  | { readonly kind: "split"; next: number; other: number }
  | { readonly kind: "start" | "end"; next: number }
  | { readonly kind: "match" };

/** A piece of the machine: where it begins, and what still leads nowhere. */
interface Piece {
  readonly begin: number;
  readonly open: ((to: number) => void)[];
}

const classes: Readonly<Record<string, Test>> = {
  d: (char) => /^[0-9]$/.test(char),
  w: (char) => /^[0-9A-Za-z_]$/.test(char),
  s: (char) => /^[\t\n\f\r ]$/.test(char),
};

class Fault extends Error {}

class Compiler {
  readonly states: State[] = [];
  readonly #chars: readonly string[];
  #at = 0;
  #depth = 0;

  constructor(pattern: string) {
    this.#chars = Array.from(pattern);
  }

  compile(): number {
    const piece = this.#alternatives();
    if (this.#at < this.#chars.length) throw new Fault("a group that was not opened");
    const end = this.#add({ kind: "match" });
    for (const open of piece.open) open(end);
    return piece.begin;
  }

  #add(state: State): number {
    return this.states.push(state) - 1;
  }

  #one(state: Exclude<State, { kind: "match" | "split" }>): Piece {
    const begin = this.#add(state);
    return { begin, open: [(to) => (state.next = to)] };
  }

  /** Groups in groups are at most GROUPS_MAX, so recursion is safe here. */
  #alternatives(): Piece {
    let all = this.#sequence();
    while (this.#chars[this.#at] === "|") {
      this.#at++;
      const other = this.#sequence();
      const begin = this.#add({ kind: "split", next: all.begin, other: other.begin });
      all = { begin, open: [...all.open, ...other.open] };
    }
    return all;
  }

  #sequence(): Piece {
    let all: Piece | undefined;
    for (let char = this.#chars[this.#at]; char !== undefined; char = this.#chars[this.#at]) {
      if (char === "|" || char === ")") break;
      const piece = this.#repeated();
      for (const open of all?.open ?? []) open(piece.begin);
      all = { begin: all?.begin ?? piece.begin, open: piece.open };
    }
    if (all !== undefined) return all;
    const empty: State = { kind: "split", next: -1, other: -1 };
    const begin = this.#add(empty);
    return { begin, open: [(to) => (empty.next = empty.other = to)] };
  }

  #repeated(): Piece {
    const piece = this.#atom();
    const char = this.#chars[this.#at];
    if (char !== "*" && char !== "+" && char !== "?") return piece;
    this.#at++;
    const split: State = { kind: "split", next: piece.begin, other: -1 };
    const at = this.#add(split);
    const out = (to: number) => (split.other = to);
    if (char !== "?") for (const open of piece.open) open(at);
    // `*?` and the like match the same texts; one repetition of another is none.
    if (this.#chars[this.#at] === "?") this.#at++;
    if ("*+?".includes(this.#chars[this.#at] ?? " ")) throw new Fault("a repetition of a repetition");
    return {
      begin: char === "+" ? piece.begin : at,
      open: char === "?" ? [...piece.open, out] : [out],
    };
  }

  #atom(): Piece {
    const char = this.#chars[this.#at++]!;
    switch (char) {
      case "(":
        return this.#group();
      case "[":
        return this.#one({ kind: "test", test: this.#class(), next: -1 });
      case ".":
        return this.#one({ kind: "test", test: (one) => one !== "\n", next: -1 });
      case "^":
        return this.#one({ kind: "start", next: -1 });
      case "$":
        return this.#one({ kind: "end", next: -1 });
      case "\\":
        return this.#one({ kind: "test", test: this.#escape(), next: -1 });
      case "*":
      case "+":
      case "?":
      case "{":
        throw new Fault("a repetition of nothing, or a counted one");
      default:
        return this.#one({ kind: "test", test: (one) => one === char, next: -1 });
    }
  }

  #group(): Piece {
    if (++this.#depth > GROUPS_MAX) throw new Fault("groups too deep in each other");
    if (this.#chars[this.#at] === "?") {
      if (this.#chars[this.#at + 1] !== ":") throw new Fault("a group of an unknown kind");
      this.#at += 2;
    }
    const piece = this.#alternatives();
    if (this.#chars[this.#at++] !== ")") throw new Fault("a group that does not end");
    this.#depth--;
    return piece;
  }

  #escape(): Test {
    const char = this.#chars[this.#at++];
    if (char === undefined) throw new Fault("an escape of nothing");
    const known = classes[char.toLowerCase()];
    if (known !== undefined) return char === char.toLowerCase() ? known : (one) => !known(one);
    if (/[A-Za-z0-9]/.test(char)) throw new Fault("an unknown escape");
    return (one) => one === char;
  }

  #class(): Test {
    const isNegated = this.#chars[this.#at] === "^";
    if (isNegated) this.#at++;
    const tests: Test[] = [];
    for (let isFirst = true; ; isFirst = false) {
      const char = this.#chars[this.#at++];
      if (char === undefined || char === "\n") throw new Fault("a class that does not end");
      if (char === "]" && !isFirst) break;
      if (char === "\\") tests.push(this.#escape());
      else if (this.#chars[this.#at] === "-" && (this.#chars[this.#at + 1] ?? "]") !== "]") {
        const to = this.#chars[this.#at + 1]!;
        this.#at += 2;
        tests.push((one) => one >= char && one <= to);
      } else tests.push((one) => one === char);
    }
    return (one) => tests.some((test) => test(one)) !== isNegated;
  }
}

/** Whether the expression is found somewhere in the text. Never throws; what is no pattern here is undefined. */
export function findsPattern(pattern: string, text: string): boolean | undefined {
  if (pattern.length > PATTERN_CHARS_MAX) return undefined;
  let compiler: Compiler;
  let begin: number;
  try {
    compiler = new Compiler(pattern);
    begin = compiler.compile();
  } catch (error) {
    if (error instanceof Fault) return undefined;
    throw error;
  }
  const { states } = compiler;
  const chars = Array.from(text);
  let live = new Set<number>();
  for (let at = 0; at <= chars.length; at++) {
    const reached = new Set<number>();
    const stack = [begin, ...live];
    for (let index = stack.pop(); index !== undefined; index = stack.pop()) {
      if (reached.has(index)) continue;
      reached.add(index);
      const state = states[index]!;
      if (state.kind === "match") return true;
      if (state.kind === "split") stack.push(state.next, state.other);
      if ((state.kind === "start" && at === 0) || (state.kind === "end" && at === chars.length))
        stack.push(state.next);
    }
    live = new Set();
    const char = chars[at];
    if (char === undefined) break;
    for (const index of reached) {
      const state = states[index]!;
      if (state.kind === "test" && state.test(char)) live.add(state.next);
    }
  }
  return false;
}
