"""Runs in the paper exchange's pod: print the control log's lines after argv[1] and the time as JSON, and follow it
on request."""

import json
import sys
import time
import urllib.request

after = int(sys.argv[1])
follow = sys.argv[2:] == ["follow"]
while True:
    with urllib.request.urlopen(f"http://127.0.0.1:3001/control/log?after={after}", timeout=10) as answer:
        lines = json.load(answer)
    for line in lines:
        after = line["id"]
        print(json.dumps(line))
    print(json.dumps({"now_ms": time.time_ns() // 1_000_000}), flush=True)
    if not follow:
        break
    time.sleep(0.2)
