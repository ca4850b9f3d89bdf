"""absurd: tasks without steps, its own worker, which polls every 50 ms."""

import logging
import os
import subprocess
import sys
import threading
import time

import psycopg
from absurd_sdk import Absurd
from asked import SLOTS, TASKS, URL, drained, say, thousands, woken

logging.disable(logging.CRITICAL)
POLL = 0.05
SPAWN = (
    "select count(*) from generate_series(1, %s) g,"
    " lateral absurd.spawn_task('nothing', 'nothing', jsonb_build_object('id', g), '{}'::jsonb)"
)

absurdctl = os.path.join(os.path.dirname(sys.executable), "absurdctl")
subprocess.run([absurdctl, "init", "-d", URL], check=True, stdout=subprocess.DEVNULL)
app = Absurd(URL, queue_name="nothing")
app.create_queue("nothing")
event, begun, done = threading.Event(), [0.0], [0]


@app.register_task("nothing")
def nothing(params, context):
    if params["id"] < 0:
        begun[0] = time.perf_counter()
        event.set()
    else:
        done[0] += 1
    return {}


with psycopg.connect(URL, autocommit=True) as connection:
    began = time.perf_counter()
    for ids in thousands():
        connection.execute(SPAWN, (len(ids),))
    say("add", TASKS / (time.perf_counter() - began))
    connection.execute("analyze")

began = time.perf_counter()
settings = {"concurrency": SLOTS, "batch_size": SLOTS, "poll_interval": POLL, "claim_timeout": 60}
threading.Thread(target=app.start_worker, kwargs=settings, daemon=True).start()
say("drain", drained(began, lambda: done[0]))
door = Absurd(URL, queue_name="nothing")
say("wake", 0, woken(lambda: door.spawn("nothing", {"id": -1}, max_attempts=1, queue="nothing"), event, begun))
# The worker is a thread that would go on for ever.
os._exit(0)
