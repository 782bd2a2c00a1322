/** What Godwit expects of every service with pages: answers that it may give, to whatever is asked, and an end of each request. */
import { GodwitError, PAGES_LIMITS } from "../../src/index.ts";
import type { TestHost } from "../context.ts";
import type { TestPage, TestPageRequest } from "../pages.ts";
import {
  type Check,
  CheckFailure,
  demand,
  register,
  type Runner,
  settled,
  type Subject,
  until,
} from "./check.ts";
import { hostOf, lifecycleChecks, onHost, type PluginSetup, start, stepOf } from "./lifecycle.ts";

export interface SamplePage extends Omit<TestPageRequest, "signal" | "body"> {
  readonly path: string;
  readonly body?: string | Uint8Array;
  /** Its body has no end of its own: one piece of it is asked for. */
  readonly isEndless?: boolean;
}

export interface PagesSetup extends PluginSetup {
  /** Requests that it answers with a status below 400. At least one. */
  readonly pages: readonly SamplePage[];
}

/** Paths and queries that nobody thought of, as the node lets them through. */
const ODD: readonly SamplePage[] = [
  { path: "/no/such/page" },
  { path: "/é \u{1F986}" },
  { path: "/%2e%2e" },
  { path: "/__proto__" },
  { path: "/constructor" },
  { path: "/.../~" },
  { path: `/${"a".repeat(PAGES_LIMITS.pathChars - 1)}` },
  { path: "/", query: "%zz&=&a=b=c&&\u0001" },
  { path: "/", query: "q".repeat(PAGES_LIMITS.queryChars) },
];
const METHODS = ["GET", "POST", "PUT", "PATCH", "DELETE"] as const;

const nameOf = ({ method = "GET", path }: SamplePage): string => `${method} ${path.slice(0, 40)}`;

/** The answer, judged as the node judges it. */
async function ask(
  host: TestHost,
  page: SamplePage,
  step: () => void,
  more: TestPageRequest = {},
): Promise<TestPage> {
  const { path, isEndless: _isEndless, ...request } = page;
  const end = await settled(
    host.pages.request(path, { ...request, ...more }),
    `${nameOf(page)} is answered`,
    step,
  );
  demand(end.isFulfilled, `${nameOf(page)} fails: ${end.isFulfilled ? "" : String(end.error)}`);
  return end.value;
}

/** All of its body, or the first piece where it has no end. */
async function read(page: SamplePage, { body }: TestPage, step: () => void): Promise<void> {
  for (let isOver = false; !isOver;) {
    const end = await settled(body.next(), `the body of ${nameOf(page)} goes on`, step);
    demand(
      end.isFulfilled,
      `the body of ${nameOf(page)} breaks off: ${end.isFulfilled ? "" : String(end.error)}`,
    );
    isOver = end.value.done === true;
    demand(!isOver || page.isEndless !== true, `the body of ${nameOf(page)} has no piece`);
    if (page.isEndless === true) return void (await body.return?.());
  }
}

/** Waits for the first piece, and then with its client for the next: what it answers settles when that one does. */
async function midst(
  page: SamplePage,
  body: TestPage["body"],
  step: () => void,
): Promise<Promise<unknown>[]> {
  await settled(body.next(), `the body of ${nameOf(page)} begins`, step);
  return [settled(body.next(), `whoever waits for the body of ${nameOf(page)} is told`, step)];
}

const demandFree = (host: TestHost, when: string, step: () => void): Promise<void> =>
  until(() => host.pages.running === 0, `${when}: each request has come to its end`, step);

const onPages =
  (body: (host: TestHost, setup: PagesSetup, step: () => void) => Promise<void>) =>
  (setup: PagesSetup): Promise<void> =>
    onHost(setup, async (host, step) => {
      demand(host.pages.handler !== undefined, "it has no pages: it never called ctx.http.pages");
      demand(setup.pages.length > 0, "the setup names no page");
      await body(host, setup, step);
      await demandFree(host, "in the end", step);
    });

const checkAnswers = onPages(async (host, { pages }, step) => {
  for (const page of pages) {
    const answer = await ask(host, page, step);
    demand(answer.status < 400, `${nameOf(page)} is answered with ${answer.status}`);
    await read(page, answer, step);
  }
});

const checkOpen = onPages(async (host, _setup, step) => {
  for (const path of host.pages.open.filter((one) => !one.endsWith("/*"))) {
    const page = { path, isAuthorized: false };
    const answer = await ask(host, page, step);
    demand(answer.status < 400, `the open path ${path} is answered with ${answer.status}`);
    await answer.body.return?.();
  }
});

const checkOdd = onPages(async (host, { pages }, step) => {
  for (const page of [...ODD, ...pages.flatMap((one) => METHODS.map((method) => ({ ...one, method })))]) {
    const answer = await ask(host, page, step);
    demand(
      answer.status < 500,
      `${nameOf(page)} is answered with ${answer.status}: nothing is wrong with the plugin`,
    );
    await answer.body.return?.();
  }
});

const checkMany = onPages(async (host, { pages }, step) => {
  const many = Array.from({ length: PAGES_LIMITS.concurrent }, (_, i) => pages[i % pages.length]!);
  const answers = await Promise.all(many.map((page) => ask(host, page, step)));
  await Promise.all(answers.map((answer, i) => read(many[i]!, answer, step)));
});

const checkLeaving = onPages(async (host, { pages }, step) => {
  for (const page of pages) {
    const gone = new AbortController();
    const { path, isEndless: _isEndless, ...request } = page;
    const asking = host.pages.request(path, { ...request, signal: gone.signal });
    gone.abort(new Error("the client is gone"));
    await settled(
      asking.then(({ body }) => body.return?.()),
      `${nameOf(page)} whose client is gone`,
      step,
    );
    await demandFree(host, `after the client of ${nameOf(page)} was gone`, step);
    const { body } = await ask(host, page, step);
    const waiting = await midst(page, body, step);
    await body.return?.();
    await Promise.all(waiting);
    await demandFree(host, `after the client of ${nameOf(page)} left its body`, step);
  }
});

/** What the node does with a client that sends too much, or stops. */
const checkBrokenBody = onPages(async (host, { pages }, step) => {
  for (const page of pages) {
    const error = new GodwitError("GODWIT_TOO_BIG", "the request body is too large", { kind: "protocol" });
    const body = (async function* () {
      yield new Uint8Array(10);
      throw error;
    })();
    const { path, isEndless: _isEndless, ...request } = page;
    const asking = host.pages.request(path, { ...request, method: "POST", body });
    await settled(
      asking.then((answer) => answer.body.return?.()),
      `${nameOf({ ...page, method: "POST" })} whose body breaks off`,
      step,
    );
    await demandFree(host, "after a body that broke off", step);
  }
});

async function checkStop(setup: PagesSetup): Promise<void> {
  for (const page of setup.pages) {
    const host = hostOf(setup);
    const step = stepOf(host, setup);
    try {
      await start(host, setup.config, step);
      const { body } = await ask(host, page, step);
      const waiting = await midst(page, body, step);
      await settled(host.stop(), "stop comes to an end", step);
      await Promise.all(waiting);
      await body.return?.();
      await until(() => host.pages.running === 0, "a request ends with the plugin", step);
    } catch (error) {
      throw error instanceof CheckFailure
        ? new CheckFailure(`stopped while ${nameOf(page)} was open: ${error.message}`)
        : error;
    } finally {
      await host.stop().catch(() => {});
    }
  }
}

export const pagesChecks: readonly Check<PagesSetup>[] = [
  { name: "its pages are there, with what a page may have", run: checkAnswers },
  { name: "its open paths are there without a token", run: checkOpen },
  { name: "paths, queries and methods of every kind are answered", run: checkOdd },
  { name: "32 requests at once", run: checkMany },
  { name: "a client that leaves, before the answer and in the midst of it", run: checkLeaving },
  { name: "a request whose body breaks off", run: checkBrokenBody },
  { name: "stop in the midst of an answer", run: checkStop },
  ...lifecycleChecks,
];

/** Registers the suite with bun:test, or with the runner given. */
export const pagesConformance = (subject: Subject<PagesSetup>, runner?: Runner): void =>
  register("pages conformance", pagesChecks, subject, runner);
