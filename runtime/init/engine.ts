/**
 * How the JavaScript engine of a node is set, which it reads from its environment as the process begins: a node that was started without that
 * becomes one that has it, as the same process. Owns the settings; must never keep a node from starting, nor do it twice.
 */
import { isCompiled } from "../kernel/compiled.ts";

/**
 * Code is compiled by the slowest compiler after ten times as many runs as usual. By itself the engine compiles a few thousand functions of a busy node so in its
 * first minute, one after the other and many of them anew, which took a third of all processor time of the first ten thousand messages. What carries
 * packets is there within a second all the same.
 */
const SETTING = "BUN_JSC_thresholdForFTLOptimizeAfterWarmUp";
const VALUE = "1000000";

/** To be called before anything else. Returns in the process that goes on. What it starts does not inherit the setting. */
export function setEngine(args: readonly string[]): void {
  if (process.env[SETTING] !== undefined) {
    delete process.env[SETTING];
    return;
  }
  // From source it is the engine's own program that runs; and what a service manager passed does not outlive the change.
  if (!isCompiled || process.env["LISTEN_FDS"] !== undefined) return;
  try {
    process.execve?.(process.execPath, [process.execPath, ...args], { ...process.env, [SETTING]: VALUE });
  } catch {
    // The binary was replaced meanwhile, or the kernel refuses: a node that compiles more is a node.
  }
}
