/** Questions to somebody at a terminal. What is asked goes to standard error, so that standard output stays the answer of the command. */
import type { CliIo } from "./io.ts";

const LINE_CHARS_MAX = 1_024;

export class Questions {
  readonly #io: CliIo;
  #input: AsyncIterator<Uint8Array> | undefined;
  #text = "";

  constructor(io: CliIo) {
    this.#io = io;
  }

  /** Without blanks around it; empty where input has ended. */
  async ask(question: string): Promise<string> {
    this.#io.stderr(question);
    this.#input ??= this.#io.stdin()[Symbol.asyncIterator]();
    while (!this.#text.includes("\n") && this.#text.length < LINE_CHARS_MAX) {
      const { value, done } = await this.#input.next();
      this.#io.signal.throwIfAborted();
      if (done === true) break;
      this.#text += new TextDecoder().decode(value);
    }
    const [line = "", ...rest] = this.#text.split("\n");
    this.#text = rest.join("\n");
    return line.trim();
  }

  /** Only the whole word is a yes. */
  async isYes(question: string): Promise<boolean> {
    return (await this.ask(`${question} Type yes: `)).toLowerCase() === "yes";
  }
}
