import { expect, test } from "bun:test";
import { Hub } from "./hub.ts";

interface Told {
  up: string;
  down: { readonly id: string };
}

const open = () => {
  const failed: unknown[] = [];
  const heard: string[] = [];
  return { hub: new Hub<Told>((kind, error) => failed.push([kind, error])), failed, heard };
};

test("everybody who listens hears, in the order in which they came, before emit returns", () => {
  const { hub, heard } = open();
  hub.on("up", (id) => heard.push(`first ${id}`));
  hub.on("up", (id) => heard.push(`second ${id}`));
  hub.on("down", ({ id }) => heard.push(`down ${id}`));
  hub.emit("up", "a");
  hub.emit("down", { id: "b" });
  expect(heard).toEqual(["first a", "second a", "down b"]);
});

test("a listener that throws costs neither the teller nor the others anything, and is named", () => {
  const { hub, heard, failed } = open();
  const error = new Error("bug");
  hub.on("up", () => {
    throw error;
  });
  hub.on("up", (id) => heard.push(id));
  hub.emit("up", "a");
  expect([heard, failed]).toEqual([["a"], [["up", error]]]);
});

test("a function that listens twice is two listeners, and each end ends its own, however often", () => {
  const { hub, heard } = open();
  const listen = (id: string) => void heard.push(id);
  const end = hub.on("up", listen);
  hub.on("up", listen);
  hub.emit("up", "a");
  end();
  end();
  hub.emit("up", "b");
  expect(heard).toEqual(["a", "a", "b"]);
});

test("who comes or goes while an event is told does not disturb it", () => {
  const { hub, heard } = open();
  const end = hub.on("up", () => {
    end();
    hub.on("up", () => heard.push("late"));
  });
  hub.on("up", () => heard.push("there"));
  hub.emit("up", "a");
  expect(heard).toEqual(["there"]);
  hub.emit("up", "b");
  expect(heard).toEqual(["there", "there", "late"]);
});
