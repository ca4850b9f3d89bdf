"""What the programs of the Python peers share: what is asked of them, and how they answer."""

import os
import time

URL = os.environ.get("PEERS_URL", "")
FOLDER = os.environ.get("PEERS_DIR", ".")
TASKS = int(os.environ.get("PEERS_TASKS", "1000"))
SLOTS = int(os.environ.get("PEERS_SLOTS", "10"))
WAKES = int(os.environ.get("PEERS_WAKES", "100"))
BATCH = int(os.environ.get("PEERS_BATCH", "50"))

# How long a full queue may take before it counts as one that never ends, in seconds.
DRAIN_MAX = 90
# How long one task may take to begin, in seconds.
WAKE_MAX = 3
# The pause before each task that an idle worker is to hear of, in seconds.
PAUSE = 0.02


def say(what, jobs_per_s, latencies_ms=(), more=""):
    """Prints one line; without latencies they are `nan`."""
    ordered = sorted(latencies_ms)

    def percentile(share):
        return ordered[min(len(ordered) - 1, int(len(ordered) * share))] if ordered else float("nan")

    p50, p99 = percentile(0.5), percentile(0.99)
    print(f"{what} jobs_per_s={jobs_per_s:.0f} p50_ms={p50:.3f} p99_ms={p99:.3f}{more}", flush=True)


def drained(began, done):
    """Waits until `done` says that all tasks are; returns tasks per second."""
    while (count := done()) < TASKS:
        if time.perf_counter() - began > DRAIN_MAX:
            raise SystemExit(f"{TASKS - count} of {TASKS} tasks were left after {DRAIN_MAX} s")
        time.sleep(0.01)
    return TASKS / (time.perf_counter() - began)


def woken(add, event, begun):
    """Adds one task at a time for an idle worker thread; returns milliseconds until its handler began.

    The handler stores the moment in `begun[0]` and sets `event`.
    """
    latencies = []
    for _ in range(WAKES):
        time.sleep(PAUSE)
        event.clear()
        began = time.perf_counter()
        add()
        heard = event.wait(WAKE_MAX)
        latencies.append((begun[0] - began) * 1e3 if heard else WAKE_MAX * 1e3)
    return latencies


def thousands():
    """Returns the ids of all tasks, a thousand at a time."""
    return [range(first, min(first + 1000, TASKS)) for first in range(0, TASKS, 1000)]
