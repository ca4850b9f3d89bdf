"""honker: one thread that claims and acknowledges, its own waiting for the wake-up.

Its writing connection has `synchronous = normal`, which no call can change: the last commits may be lost when the
power fails. So it does less than the others here.
"""

import asyncio
import os
import time

import honker
from asked import BATCH, FOLDER, PAUSE, TASKS, WAKE_MAX, WAKES, say, thousands

database = honker.open(f"{FOLDER}/honker.db")
queue = database.queue("nothing")

began = time.perf_counter()
for ids in thousands():
    with database.transaction() as transaction:
        for id in ids:
            queue.enqueue({"id": id}, tx=transaction)
say("add", TASKS / (time.perf_counter() - began))

latencies, done = [], 0
began = time.perf_counter()
while done < TASKS:
    at = time.perf_counter()
    jobs = queue.claim_batch("worker", BATCH)
    if not jobs:
        raise SystemExit(f"{done} of {TASKS} tasks were done")
    queue.ack_batch([job.id for job in jobs], "worker")
    done += len(jobs)
    latencies.append((time.perf_counter() - at) * 1e3)
say("drain", TASKS / (time.perf_counter() - began), latencies)


async def woken():
    latencies, heard = [], asyncio.Queue()

    async def worker():
        async for job in queue.claim("waiting"):
            heard.put_nowait(time.perf_counter())
            job.ack()

    waiting = asyncio.create_task(worker())
    await asyncio.sleep(0.5)
    for _ in range(WAKES):
        await asyncio.sleep(PAUSE)
        at = time.perf_counter()
        await asyncio.to_thread(queue.enqueue, {"id": -1})
        latencies.append((await asyncio.wait_for(heard.get(), WAKE_MAX) - at) * 1e3)
    waiting.cancel()
    return latencies


say("wake", 0, asyncio.run(woken()))
# Its watching threads would be waited for.
os._exit(0)
