#!/usr/bin/python3
"""Discovery from a list on a web server, one endpoint a line. A whole plugin in Python's standard library: frames over fd 3,
and a connection that the node opens, because this process has no sockets. docs/protocol/plugin-frames.md is the contract."""

import json
import select
import socket
import struct
import sys
import time

HELLO, CONFIGURE, STARTED, FAILED, STOP, STOPPED, PING, PONG, HEALTH = range(1, 10)
CALL, ANSWER, EVENT = 0x0C, 0x0D, 0x0E
DATA, CREDIT, CLOSE, CLOSED, END = 0x11, 0x12, 0x14, 0x15, 0x16
DATA_COST = 64
LIST_BYTES_MAX = 65_536

node = socket.socket(fileno=3)
node.setblocking(True)
received = b""


def send(kind, number=0, body=b""):
    node.sendall(struct.pack(">IBI", len(body) + 5, kind, number) + body)


def parts(value, tail=b""):
    text = json.dumps(value).encode()
    return struct.pack(">I", len(text)) + text + tail


def read_json(body):
    (length,) = struct.unpack(">I", body[:4])
    return json.loads(body[4 : 4 + length])


def frames(seconds):
    """All that has arrived; waits at most so long for the first of it."""
    global received
    if not select.select([node], [], [], max(0, seconds))[0]:
        return
    chunk = node.recv(65_536)
    if not chunk:
        sys.exit(0)  # the node is gone
    received += chunk
    while len(received) >= 9:
        length, kind, number = struct.unpack(">IBI", received[:9])
        if len(received) < length + 4:
            return
        body, received = received[9 : length + 4], received[length + 4 :]
        yield kind, number, body


class Plugin:
    def __init__(self):
        self.table = None
        self.calls = 0
        self.flow = None
        self.answer = b""
        self.known = set()
        self.next = 0.0

    def run(self):
        send(HELLO, 0, parts({"protocol": 1, "name": "http-list"}))
        while True:
            for kind, number, body in frames(self.next - time.monotonic() if self.table else 60):
                self.handle(kind, number, body)
            if self.table and time.monotonic() >= self.next:
                self.fetch()

    def handle(self, kind, number, body):
        if kind == CONFIGURE:
            self.table = read_json(body)["table"]
            send(STARTED)
        elif kind == PING:
            send(PONG, number)
        elif kind == STOP:
            send(STOPPED)
            sys.exit(0)
        elif kind == ANSWER:
            self.connected(read_json(body))
        elif kind == DATA and number == self.flow:
            self.answer += body
            # Give the room back, or the node stops sending after half a megabyte.
            send(CREDIT, number, struct.pack(">I", len(body) + DATA_COST))
            if len(self.answer) > LIST_BYTES_MAX:
                send(CLOSE, number, b"\x01")
                self.flow = None
                self.health("the list is too long")
        elif kind == END and number == self.flow:
            send(CLOSE, number)
            self.done()

    def fetch(self):
        self.next = time.monotonic() + self.table.get("seconds", 60)
        self.calls += 1
        where = {"host": self.table["host"], "port": self.table["port"]}
        send(CALL, self.calls, parts({"method": "net.connect", **where}))

    def connected(self, answer):
        if "error" in answer:
            return self.health(answer["error"]["message"])
        self.flow, self.answer = answer["value"]["flow"], b""
        request = f"GET {self.table.get('path', '/')} HTTP/1.0\r\nHost: {self.table['host']}\r\n\r\n"
        send(DATA, self.flow, request.encode())

    def done(self):
        self.flow = None
        head, _, text = self.answer.partition(b"\r\n\r\n")
        if b" 200 " not in head.split(b"\r\n")[0] + b" ":
            return self.health("the server has no list")
        found = {line.strip() for line in text.decode("ascii", "ignore").splitlines() if "://" in line}
        for endpoint in self.known - found:
            send(EVENT, 0, parts({"event": "withdraw", "endpoint": endpoint}))
        for endpoint in found:
            send(EVENT, 0, parts({"event": "hint", "endpoint": endpoint}))
        self.known = found
        self.health(None)

    def health(self, reason):
        degraded = {"state": "degraded", "reason": reason}
        send(HEALTH, 0, parts(degraded if reason else {"state": "running"}))


Plugin().run()
