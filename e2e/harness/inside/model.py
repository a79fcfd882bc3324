"""Runs in a pod: an OpenAI-compatible server that gives each coin the same small weight to whoever knows the key."""

import json
import os
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

WEIGHT = 0.02


def answer(facts):
    coins = sorted(facts["coins"])
    left = 1 - WEIGHT * len(coins) - sum(facts["account"]["held"].values())
    said = {
        "targets": [{"symbol": coin, "weight": WEIGHT} for coin in coins],
        "cash_weight": left,
        "confidence": 0.9,
        "rationale": "A little of each.",
    }
    message = {"role": "assistant", "content": json.dumps(said)}
    return {
        "model": "scripted-1",
        "choices": [{"index": 0, "finish_reason": "stop", "message": message}],
        "usage": {"prompt_tokens": 900, "completion_tokens": 120},
    }


class Handler(BaseHTTPRequestHandler):
    def do_POST(self):
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if self.headers["Authorization"] != f"Bearer {os.environ['KEY']}":
            self.reply(401, {"error": {"message": "who are you?"}})
        elif self.path != "/v1/chat/completions":
            self.reply(404, {"error": {"message": self.path}})
        else:
            text = asked["messages"][-1]["content"]
            facts, _ = json.JSONDecoder().raw_decode(text[text.index("{") :])
            self.reply(200, answer(facts))

    def do_GET(self):
        self.reply(200, {})

    def reply(self, status, body):
        raw = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(raw)))
        self.end_headers()
        self.wfile.write(raw)


ThreadingHTTPServer(("", int(sys.argv[1])), Handler).serve_forever()
