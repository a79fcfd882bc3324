"""Runs in a pod: which of the addresses on stdin (JSON list of [host, port]) take a TCP connection from here?"""

import json
import socket
import sys
from concurrent.futures import ThreadPoolExecutor

WAIT_S = 3.0


def reached(address):
    try:
        socket.create_connection(tuple(address), timeout=WAIT_S).close()
    except OSError:
        return False
    return True


addresses = json.load(sys.stdin)
with ThreadPoolExecutor(max_workers=64) as pool:
    print(json.dumps(list(pool.map(reached, addresses))))
