#!/usr/bin/env python3
"""A flag service that Rearguard can roll back on, in its smallest form: one flag in memory, the four requests of the contract.

    WEBHOOK_SECRET=... python3 webhook-platform.py 8090
"""
import hashlib
import hmac
import json
import os
import sys
import time
from datetime import datetime, timezone
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Lock

SECRET = os.environ["WEBHOOK_SECRET"].encode()
LOCK = Lock()
FLAGS = {
    "support-prompt": {
        "version": 1,
        "variants": ["v17", "v18"],
        "serving": ["v17", "v18"],
        "pinned": None,
        "moves": None,
        "locked": None,
        "changed": {"by": "ann", "at": "2026-11-01T09:00:00Z"},
    }
}


def is_signed(method, path, headers, body):
    stamp = headers.get("X-Rearguard-Timestamp", "")
    if not stamp.isdigit() or abs(time.time() - int(stamp)) > 300:
        return False
    signed = f"{stamp}.{method} {path}\n".encode() + body
    right = "v1=" + hmac.new(SECRET, signed, hashlib.sha256).hexdigest()
    return hmac.compare_digest(right, headers.get("X-Rearguard-Signature", ""))


def write(flag, action, wanted):
    if flag["locked"]:
        return 423, {"error": flag["locked"]}
    if wanted.get("version") != flag["version"]:
        return 409, {"error": f"the flag has version {flag['version']}"}
    if action == "pin":
        if wanted.get("control") not in flag["variants"]:
            return 422, {"error": "no such variant"}
        flag["pinned"] = wanted["control"]
        flag["serving"] = [wanted["control"]]  # targets and rules included: for everybody
    elif action == "hold":
        flag["moves"] = None
    else:
        return 404, {"error": "pin or hold"}
    flag["version"] += 1
    now = datetime.now(timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")
    flag["changed"] = {"by": wanted.get("by"), "at": now}
    return 200, flag


class Handler(BaseHTTPRequestHandler):
    def handle_one(self):
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if not is_signed(self.command, self.path, self.headers, body):
            return self.answer(401, {"error": "the signature is not right"})
        parts = self.path.strip("/").split("/")
        if len(parts) not in (2, 3) or parts[0] != "flags" or parts[1] not in FLAGS:
            return self.answer(404, {"error": "no such flag"})
        action = parts[2] if len(parts) == 3 else ""
        with LOCK:
            flag = FLAGS[parts[1]]
            if self.command == "POST":
                return self.answer(*write(flag, action, json.loads(body)))
            if action == "serving":
                return self.answer(200, {"serving": flag["serving"], "revision": str(flag["version"])})
            return self.answer(200, flag)

    do_GET = do_POST = handle_one

    def answer(self, status, value):
        text = json.dumps(value).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    def log_message(self, *_):
        pass


server = ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Handler)
print(f"http://127.0.0.1:{server.server_port}", flush=True)
server.serve_forever()
