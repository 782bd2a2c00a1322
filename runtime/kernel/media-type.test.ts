import { expect, test } from "bun:test";
import fc from "fast-check";
import { attachment, fileNameOf, withFileName } from "./media-type.ts";

test("a name that is sent is the name that is read, where there is room for it", () => {
  expect(withFileName("image/png", "map of it.png")).toBe('image/png; name="map of it.png"');
  expect(withFileName("image/png", 'a"b.png')).toBe("image/png; name*=UTF-8''a%22b.png");
  expect(withFileName("image/png", "Müller.png")).toBe("image/png; name*=UTF-8''M%C3%BCller.png");
  expect(withFileName("image/png", "x".repeat(200))).toBe("image/png");
  const name = fc.string({ unit: "grapheme", minLength: 1, maxLength: 12 });
  fc.assert(
    fc.property(name, (text) => {
      const type = withFileName("image/png", text);
      // What the API takes for a media type.
      expect(type).toMatch(/^[\w.+-]+\/[\w.+-]+(;[\t\x20-\x7e]*)?$/);
      if (type !== "image/png" && /^[\p{L}\p{N} -]+$/u.test(text))
        expect(fileNameOf(type) ?? "").toBe(text.trim());
    }),
  );
});

test.each([
  ['x/y; name="../../etc/passwd"', "passwd"],
  ["x/y; name=a.txt", "a.txt"],
  ['x/y; charset=utf-8; name="a.txt"', "a.txt"],
  ['x/y; name="C:\\\\Windows"', undefined],
  ["x/y; name*=UTF-8''..%2F..%2F.bashrc", "bashrc"],
  ["x/y; name*=UTF-8''a%1b%5b2J%E2%80%AEb", "a_[2J_b"],
  ["x/y; name*=UTF-8''%ff", undefined],
  ['x/y; name=".."', undefined],
  ['x/y; name="/"', undefined],
  ["x/y; filename=a", undefined],
  ["x/y", undefined],
])("%s names %p", (type, name) => {
  expect(fileNameOf(type)).toBe(name);
});

test("a disposition holds ASCII alone", () => {
  expect(attachment("x/y")).toBe("attachment");
  expect(attachment("x/y; name*=UTF-8''M%C3%BC.png")).toBe("attachment; filename*=UTF-8''M%C3%BC.png");
});
