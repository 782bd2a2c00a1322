/** Cables that tests plug in and out: pseudo-terminals of socat. */
import { rm } from "node:fs/promises";
import { join } from "node:path";

/** Null: not installed. */
export const socat = Bun.which("socat");

/** Two ends of a cable, each a terminal. */
export class Cable implements AsyncDisposable {
  readonly near: string;
  readonly far: string;
  #child: ReturnType<typeof Bun.spawn> | undefined;

  constructor(dir: string, name: string) {
    this.near = join(dir, `${name}-near`);
    this.far = join(dir, `${name}-far`);
  }

  async plug(): Promise<this> {
    const end = (path: string) => `pty,rawer,link=${path}`;
    this.#child = Bun.spawn([socat!, end(this.near), end(this.far)], { stdout: "ignore", stderr: "ignore" });
    const isThere = async () =>
      (
        await Promise.all(
          [this.near, this.far].map((path) =>
            Bun.file(path)
              .stat()
              .then(
                () => true,
                () => false,
              ),
          ),
        )
      ).every(Boolean);
    while (!(await isThere())) await Bun.sleep(2);
    return this;
  }

  async unplug(): Promise<void> {
    this.#child?.kill("SIGKILL");
    await this.#child?.exited;
    await Promise.all([this.near, this.far].map((path) => rm(path, { force: true })));
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.unplug();
  }
}
