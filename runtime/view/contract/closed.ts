/** What the API may see and do of a closed mesh: revocations, network secrets, proofs of names. docs/protocol/http.md */
import type { NodeId } from "../../kernel/ids.ts";

export interface RevocationView {
  id: NodeId;
  /** Who signed it: the node itself or the network's authority. */
  by: NodeId;
  by_authority: boolean;
  reason: string | null;
}

export interface SecretEpochView {
  /** 8 hex digits that name the secret and give nothing of it away. */
  epoch: string;
  state: "current" | "old";
  source: "configured" | "mesh";
  generation: number;
  /** Live links whose handshake used it. */
  links: number;
  /** Running time until it opens no link any more; null while nothing replaced it. */
  retires_in_seconds: number | null;
}

export interface SecretsView {
  /** Whose word replaces the secret over the mesh. */
  rotate: "authority" | "members" | "nobody";
  authority: NodeId | null;
  network: string;
  generation: number;
  /** The current one first; empty in an open mesh. */
  epochs: SecretEpochView[];
}

export interface RotateRequest {
  generation: number;
  secret: Uint8Array;
  signature: Uint8Array | undefined;
  /** To every node heard of, and not only to those that the authority or the operator vouches for. */
  everyone: boolean;
}

export interface RotationView {
  epoch: string;
  generation: number;
  sent: NodeId[];
  left_out: { id: NodeId; reason: string }[];
}

export interface ClosedView {
  revocations(): RevocationView[];
  /** `text` as `godwit revoke self` and `godwit authority revoke` print it. Resolves when durable. Throws GODWIT_PROOF_INVALID. */
  publishRevocation(text: string): Promise<RevocationView>;
  secrets(): SecretsView;
  /** Resolves when the secret is durable here and on its way to the others. Throws GODWIT_ROTATION_REFUSED. */
  rotateSecret(request: RotateRequest): Promise<RotationView>;
  /** Only the current secret stays; links under others are closed. Answers the epochs that went. */
  retireSecrets(): string[];
  /** This node's own name, proven by the authority. Throws GODWIT_PROOF_INVALID. */
  adoptName(proof: string): Promise<{ name: string; serial: number }>;
  /** Drops a pinned name. */
  forgetName(name: string): Promise<void>;
}
