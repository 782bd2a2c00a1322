/** What the conversion of a store imports of node:fs, with those calls counted that change names (steps-preload.ts). */
import * as fs from "node:fs";

let left = Number(process.env["KILL_AT"] ?? 0);

function counted<Args extends unknown[], Result>(call: (...args: Args) => Result): (...args: Args) => Result {
  return (...args) => {
    if (--left === 0) process.kill(process.pid, "SIGKILL");
    return call(...args);
  };
}

export const { closeSync, existsSync, fsyncSync, readdirSync, statSync } = fs;
export const copyFileSync = counted(fs.copyFileSync);
export const linkSync = counted(fs.linkSync);
export const mkdirSync = counted(fs.mkdirSync);
export const openSync = counted(fs.openSync);
export const renameSync = counted(fs.renameSync);
export const rmSync = counted(fs.rmSync);
