export { pause, Pauses } from "@godwit/sdk/process";

export const reasonOf = (error: unknown): string => (error instanceof Error ? error.message : String(error));
