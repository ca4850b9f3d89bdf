"""procrastinate: its asynchronous worker, which listens."""

import asyncio
import logging
import time

import procrastinate
from asked import DRAIN_MAX, PAUSE, SLOTS, TASKS, URL, WAKE_MAX, WAKES, say, thousands

logging.disable(logging.CRITICAL)
connector = procrastinate.PsycopgConnector(conninfo=URL, min_size=2, max_size=SLOTS + 4)
app = procrastinate.App(connector=connector)
done = 0
heard = None


@app.task(queue="nothing", name="nothing")
async def nothing(id):
    global done
    if id < 0:
        heard.set_result(time.perf_counter())
    else:
        done += 1


async def woken():
    global heard
    latencies = []
    for _ in range(WAKES):
        await asyncio.sleep(PAUSE)
        heard = asyncio.get_running_loop().create_future()
        began = time.perf_counter()
        await nothing.defer_async(id=-1)
        latencies.append((await asyncio.wait_for(heard, WAKE_MAX) - began) * 1e3)
    return latencies


async def main():
    async with app.open_async():
        await app.schema_manager.apply_schema_async()
        began = time.perf_counter()
        for ids in thousands():
            await nothing.batch_defer_async(*[{"id": id} for id in ids])
        say("add", TASKS / (time.perf_counter() - began))

        began = time.perf_counter()
        worker = asyncio.create_task(
            app.run_worker_async(concurrency=SLOTS, install_signal_handlers=False, listen_notify=True)
        )
        while done < TASKS:
            if time.perf_counter() - began > DRAIN_MAX:
                raise SystemExit(f"{TASKS - done} of {TASKS} tasks were left after {DRAIN_MAX} s")
            await asyncio.sleep(0.01)
        say("drain", TASKS / (time.perf_counter() - began))
        say("wake", 0, await woken())
        worker.cancel()
        await asyncio.gather(worker, return_exceptions=True)


asyncio.run(main())
