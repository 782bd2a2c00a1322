/**
 * Whether this is the compiled binary or runs from source. Inside the binary modules lie in chunks whose names say nothing of
 * their sources, so a file that is loaded by its URL has the one that `scripts/build.ts` gives it. Never a relative string:
 * that one is looked up in the working directory first.
 */
export const isCompiled: boolean = import.meta.url.startsWith("file:///$bunfs/");
