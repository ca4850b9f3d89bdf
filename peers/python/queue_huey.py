"""huey on SQLite with `fsync`, ten worker threads. A task is deleted when it is taken: at most once, no lease."""

import logging
import os
import threading
import time

from asked import FOLDER, SLOTS, TASKS, drained, say, woken
from huey import SqliteHuey
from huey.consumer import Consumer

logging.disable(logging.CRITICAL)
huey = SqliteHuey(filename=f"{FOLDER}/huey.db", fsync=True, results=False, timeout=30)
event, begun, done = threading.Event(), [0.0], []


@huey.task()
def nothing(id):
    if id < 0:
        begun[0] = time.perf_counter()
        event.set()
    else:
        done.append(id)


began = time.perf_counter()
for id in range(TASKS):
    nothing(id)
say("add", TASKS / (time.perf_counter() - began))

consumer = Consumer(
    huey, workers=SLOTS, periodic=False, initial_delay=0.01, max_delay=0.05, backoff=1.15, worker_type="thread"
)
began = time.perf_counter()
consumer.start()
say("drain", drained(began, lambda: len(done)))
say("wake", 0, woken(lambda: nothing(-1), event, begun))
# The consumer's threads would be waited for.
os._exit(0)
