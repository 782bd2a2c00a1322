/** From zod's issues to the fields of a problem document. */
import type { z } from "zod";
import { inWords, valueAt } from "../kernel/schema-words.ts";
import { requestInvalid } from "./problem.ts";

/** Issues told at once; a request with more wrong has been told enough. */
const ISSUES_MAX = 10;

/** Throws GODWIT_REQUEST_INVALID with a path for each field that does not fit. */
export function validate<T>(schema: z.ZodType<T>, value: unknown): T {
  const result = schema.safeParse(value);
  if (result.success) return result.data;
  throw requestInvalid(
    result.error.issues.slice(0, ISSUES_MAX).map((issue) => ({
      path: issue.path.map(String).join(".").slice(0, 200),
      message: inWords(issue, valueAt(value, issue.path)).slice(0, 300),
    })),
  );
}
