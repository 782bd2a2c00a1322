/**
 * Whether a network secret looks like one that a person made up. Whoever records one handshake of a closed mesh can try secrets
 * against it without asking anybody, as fast as machines count: only a secret that nobody would think of holds. Judges
 * what can be seen: random bytes, as text or as they are, never look like this; a clever invention may pass.
 */

/** Random text of the shortest secret that is taken, 16 bytes of base64, has more than this; words repeat letters. */
const DISTINCT_MIN = 9;
/** Of all steps from one character to the next: `abcd`, `4321`, `aaaa`. Random hexadecimal digits have a fifth. */
const EVEN_STEPS_MAX = 0.5;
/** Changes between upper case, lower case, digits and signs. Random base64 has two thirds, names written together below a third. */
const CHANGES_MIN = 0.35;
/** With words in it, random-looking text has less than this; with more, no pair of letters makes a word of it. */
const CHANGES_OF_WORDS_MAX = 0.5;
/** Pairs of letters that European languages use most: what random letters have of them, and how far above that words are, in deviations. */
const COMMON_PAIRS_SHARE = 0.145;
const DEVIATIONS_MAX = 4;
/** What can be tried in a year by somebody who means it, and some more. */
const BITS_MIN = 80;
const COMMON_PAIRS: ReadonlySet<string> = new Set(
  (
    "th he in er an re on at en nd ti es or te of ed is it al ar st to nt ng se ha as ou io le ve co me de hi ri ro ic ne ea ra ce " +
    "li ch ll be ma si om ur ge ei ie da da du sc un ck et ta el la tr ss wo wor rd pa ww ord sw"
  ).split(" "),
);
const HEX = /^(?:[0-9a-f]+|[0-9A-F]+)$/;
/** Sizes of the alphabets that text may be of, smallest first. */
const ALPHABETS: readonly (readonly [RegExp, number])[] = [
  [/^[0-9]+$/, 10],
  [HEX, 16],
  [/^(?:[a-z]+|[A-Z]+)$/, 26],
  [/^(?:[a-z0-9]+|[A-Z0-9]+)$/, 36],
];
const PRINTABLE = /^[\x20-\x7e]*$/;

/** In words that complete "it": why a person seems to have made it up; undefined: it looks random. */
export function whyMadeUp(secret: Uint8Array): string | undefined {
  if (new Set(secret).size < DISTINCT_MIN) return "repeats few characters";
  const text = Buffer.from(secret).toString("latin1");
  if (isRepeated(text)) return "says the same again";
  if (shareOfSteps(secret) > EVEN_STEPS_MAX) return "counts up or down";
  // Bytes that no keyboard has are random, or a picture.
  if (!PRINTABLE.test(text)) return isUtf8Words(secret) ? "is made of words" : undefined;
  if (/\s/.test(text)) return "is made of words";
  const alphabet = ALPHABETS.find(([pattern]) => pattern.test(text))?.[1];
  if (alphabet !== undefined && text.length * Math.log2(alphabet) < BITS_MIN)
    return "is too short for the few characters that it is made of";
  if (HEX.test(text)) return undefined;
  const changes = shareOfChanges(text);
  const isOneCase = alphabet !== undefined;
  if ((isOneCase || changes < CHANGES_OF_WORDS_MAX) && hasWords(text)) return "is made of words";
  return !isOneCase && changes < CHANGES_MIN ? "is made of words" : undefined;
}

/** A shorter text, again and again. */
const isRepeated = (text: string): boolean => (text + text).indexOf(text, 1) < text.length;

function shareOfSteps(bytes: Uint8Array): number {
  let even = 0;
  for (let i = 1; i < bytes.length; i++) if (Math.abs(bytes[i]! - bytes[i - 1]!) <= 1) even++;
  return even / Math.max(1, bytes.length - 1);
}

function hasWords(text: string): boolean {
  const letters = text.toLowerCase();
  let pairs = 0;
  let common = 0;
  for (let i = 1; i < letters.length; i++) {
    const pair = letters.slice(i - 1, i + 1);
    if (!/^[a-z]{2}$/.test(pair)) continue;
    pairs++;
    if (COMMON_PAIRS.has(pair)) common++;
  }
  const deviation = Math.sqrt(pairs * COMMON_PAIRS_SHARE * (1 - COMMON_PAIRS_SHARE));
  return common - pairs * COMMON_PAIRS_SHARE > DEVIATIONS_MAX * deviation;
}

function shareOfChanges(text: string): number {
  const kindOf = (char: string) =>
    /[a-z]/.test(char) ? 0 : /[A-Z]/.test(char) ? 1 : /[0-9]/.test(char) ? 2 : 3;
  let changes = 0;
  for (let i = 1; i < text.length; i++) if (kindOf(text[i]!) !== kindOf(text[i - 1]!)) changes++;
  return changes / Math.max(1, text.length - 1);
}

/** Text in another script than Latin: random bytes are hardly ever UTF-8. */
function isUtf8Words(bytes: Uint8Array): boolean {
  try {
    // oxlint-disable-next-line no-control-regex
    return !/[\x00-\x1f]/.test(new TextDecoder("utf-8", { fatal: true }).decode(bytes));
  } catch {
    return false;
  }
}
