"""litequeue with `synchronous = full`: one thread that pops and says done. It has no worker that could wake."""

import time

from asked import FOLDER, TASKS, say
from litequeue import LiteQueue

queue = LiteQueue(f"{FOLDER}/litequeue.db")
queue.conn.execute("pragma synchronous = full")

began = time.perf_counter()
for _ in range(TASKS):
    queue.put("nothing")
say("add", TASKS / (time.perf_counter() - began))

latencies = []
began = time.perf_counter()
for _ in range(TASKS):
    at = time.perf_counter()
    queue.done(queue.pop().message_id)
    latencies.append((time.perf_counter() - at) * 1e3)
say("drain", TASKS / (time.perf_counter() - began), latencies)
