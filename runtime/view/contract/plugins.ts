/** What the API knows of plugins: who runs, and what engines and heal actions they offer. */
import type { PluginHealth } from "@godwit/sdk";

export interface PluginRow {
  namespace: "transport" | "discovery" | "service" | "engine" | "heal-action";
  /** Of its table. */
  name: string;
  type: string;
  state: PluginHealth["state"];
  reason: string | null;
  /** Of an engine that has registered. */
  guarantee: "eventual" | "quorum" | "strong" | null;
  actions: { name: string; summary: string }[];
}

export interface EngineEntryView {
  key: string;
  value_base64: string;
  revision: string;
}

export interface PluginDesk {
  list(): PluginRow[];
  /** Throws GODWIT_NOT_FOUND for an engine or a key that is not there, GODWIT_REQUEST_INVALID, GODWIT_TIMEOUT. */
  read(engine: string, key: string): Promise<EngineEntryView>;
  /** With `expected` only over that revision, null: only where nothing is. Throws GODWIT_ENGINE_UNABLE, GODWIT_ENGINE_CONFLICT too. */
  write(
    engine: string,
    key: string,
    value: Uint8Array,
    expected: string | null | undefined,
  ): Promise<EngineEntryView>;
  /** Sentences of what it would do. */
  plan(action: string): Promise<readonly string[]>;
  /** Sentences of what it did. Throws GODWIT_HEAL_BUDGET. */
  heal(action: string, steps: number, withinMs: number): Promise<readonly string[]>;
}
