"""pgmq, the SQL of its Python package: bare loops of read and delete in threads. It has no worker that could wake."""

import threading
import time
from importlib.resources import files

import psycopg
from asked import BATCH, SLOTS, TASKS, URL, say, thousands

READ = "select msg_id from pgmq.read('nothing', 30, %s)"
DELETE = "select pgmq.delete('nothing', %s::bigint[])"
SEND = "select pgmq.send_batch('nothing', array(select jsonb_build_object('id', g) from generate_series(1, %s) g))"


def slot(counts, place, latencies):
    with psycopg.connect(URL, autocommit=True) as connection:
        while True:
            began = time.perf_counter()
            ids = [row[0] for row in connection.execute(READ, (BATCH,), prepare=True)]
            if not ids:
                return
            connection.execute(DELETE, (ids,), prepare=True)
            latencies.append((time.perf_counter() - began) * 1e3)
            counts[place] += len(ids)


def main():
    with psycopg.connect(URL, autocommit=True) as connection:
        connection.execute("create schema pgmq")
        connection.execute(files("pgmq").joinpath("sql/pgmq.sql").read_text())
        connection.execute("select pgmq.create('nothing')")
        began = time.perf_counter()
        for ids in thousands():
            connection.execute(SEND, (len(ids),))
        say("add", TASKS / (time.perf_counter() - began))
        connection.execute("analyze")

    counts, latencies = [0] * SLOTS, []
    slots = [threading.Thread(target=slot, args=(counts, place, latencies)) for place in range(SLOTS)]
    began = time.perf_counter()
    for each in slots:
        each.start()
    for each in slots:
        each.join()
    if sum(counts) != TASKS:
        raise SystemExit(f"{sum(counts)} of {TASKS} messages were deleted")
    say("drain", TASKS / (time.perf_counter() - began), latencies)


main()
