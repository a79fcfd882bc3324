"""Runs in a service's pod, as its own Redis user: what may it do? Nothing that is tried here changes anything.

The server looks at a user's rights before it looks at a command, so a command that must fail tells by its error whether
it was allowed: an XADD under the id 0-0, a read of a group that does not exist, options that exclude each other.
"""

import json
import os
import sys

import redis

wanted = json.load(sys.stdin)
bus = redis.Redis.from_url(os.environ["REDIS_URL"], decode_responses=True)


def allowed(*words):
    try:
        bus.execute_command(*words)
    except redis.exceptions.NoPermissionError:
        return False
    except redis.exceptions.ResponseError as error:
        return "NOPERM" not in str(error)
    return True


def reads(stream):
    return allowed("XREADGROUP", "GROUP", "no-such-group", "nobody", "COUNT", "1", "STREAMS", stream, ">")


print(
    json.dumps(
        {
            "user": bus.connection_pool.connection_kwargs["username"],
            "writes": [each for each in wanted["streams"] if allowed("XADD", each, "NOMKSTREAM", "0-0", "p", "x")],
            "takes": [each for each in wanted["streams"] if reads(each)],
            "commands": [each for each in wanted["commands"] if allowed(*each)],
        }
    )
)
