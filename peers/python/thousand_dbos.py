"""DBOS: one durable workflow for each task, on a queue, without steps."""

import logging
import os
import time

from asked import FOLDER, SLOTS, TASKS, URL, say
from dbos import DBOS, DBOSConfig

logging.disable(logging.CRITICAL)
# How often the queue is looked at, in seconds; a workflow waits for half of it on average.
POLL = 0.1

url = URL.replace("postgres://", "postgresql://", 1) if URL else f"sqlite:///{FOLDER}/dbos.sqlite"
DBOS(config=DBOSConfig(name="peers", system_database_url=url, run_admin_server=False, log_level="CRITICAL"))


@DBOS.workflow()
def nothing(id: int) -> int:
    return id


DBOS.launch()
DBOS.register_queue("nothing", worker_concurrency=SLOTS, polling_interval_sec=POLL)
# The queue's own thread has to see it.
time.sleep(1)
began = time.perf_counter()
handles = [DBOS.enqueue_workflow("nothing", nothing, id) for id in range(TASKS)]
answers = [handle.get_result() for handle in handles]
wall = time.perf_counter() - began
if answers != list(range(TASKS)):
    raise SystemExit("not every workflow answered")
say("thousand", TASKS / wall, more=f" wall_s={wall:.3f}")
# The queue's threads would be waited for.
os._exit(0)
