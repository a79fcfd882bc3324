"""Runs in a pod: in which files, and in whose environment or arguments, is the text on stdin to be found?"""

import base64
import json
import os
import sys
from pathlib import Path

SKIPPED = ("/proc", "/sys", "/usr", "/lib", "/lib64", "/bin", "/sbin", "/opt", "/app", "/dev")
LARGEST = 64 * 1024 * 1024

secret = sys.stdin.read().strip().encode()
needles = {secret, secret.upper(), base64.b64encode(secret), base64.b64encode(b"0x" + secret)}


def holds(path):
    try:
        content = path.read_bytes()
    except OSError:
        return False
    return any(needle in content for needle in needles)


def files():
    for folder, names, found in os.walk("/"):
        names[:] = [name for name in names if str(Path(folder, name)) not in SKIPPED]
        paths = [Path(folder, name) for name in found]
        yield from (path for path in paths if path.is_file() and path.stat().st_size <= LARGEST)


def processes():
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            yield from (folder / "environ", folder / "cmdline")


hits = {os.path.realpath(path) for path in files() if holds(path)}
hits |= {str(path) for path in processes() if holds(path)}
print(json.dumps(sorted(hits)))
