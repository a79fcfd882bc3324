"""Runs in the paper exchange's pod: POST argv[2] to /control/argv[1], or GET it, and print the answer."""

import sys
import urllib.request

body = sys.argv[2].encode() if len(sys.argv) > 2 else None
request = urllib.request.Request(
    f"http://127.0.0.1:3001/control/{sys.argv[1]}", data=body, headers={"Content-Type": "application/json"}
)
with urllib.request.urlopen(request, timeout=10) as answer:
    print(answer.read().decode())
