"""LangGraph: one graph that fans out to all tasks (`Send`), without a model; every step is stored before the next."""

import operator
import os
import sqlite3
import time
from contextlib import contextmanager
from typing import Annotated, TypedDict

from asked import FOLDER, SLOTS, TASKS, URL, say
from langgraph.checkpoint.postgres import PostgresSaver
from langgraph.checkpoint.sqlite import SqliteSaver
from langgraph.graph import END, START, StateGraph
from langgraph.types import Send


class State(TypedDict):
    items: list
    results: Annotated[list, operator.add]


@contextmanager
def saver():
    """The checkpointer; both databases are asked for durable commits."""
    if URL:
        with PostgresSaver.from_conn_string(URL) as postgres:
            postgres.setup()
            yield postgres
    else:
        connection = sqlite3.connect(f"{FOLDER}/langgraph.db", check_same_thread=False)
        sqlite = SqliteSaver(connection)
        sqlite.setup()
        connection.execute("pragma synchronous = full")
        yield sqlite


def graph(checkpointer):
    builder = StateGraph(State)
    builder.add_node("plan", lambda state: {"items": list(range(TASKS))})
    builder.add_node("nothing", lambda state: {"results": [state["id"]]})
    builder.add_edge(START, "plan")
    builder.add_conditional_edges(
        "plan", lambda state: [Send("nothing", {"id": id}) for id in state["items"]], ["nothing"]
    )
    builder.add_edge("nothing", END)
    return builder.compile(checkpointer=checkpointer)


with saver() as checkpointer:
    app = graph(checkpointer)
    config = {"configurable": {"thread_id": "1"}, "max_concurrency": SLOTS, "recursion_limit": 5000}
    began = time.perf_counter()
    answer = app.invoke({"items": [], "results": []}, config, durability="sync")
    wall = time.perf_counter() - began
    if len(answer["results"]) != TASKS:
        raise SystemExit(f"{len(answer['results'])} of {TASKS} tasks were done")
    say("thousand", TASKS / wall, more=f" wall_s={wall:.3f}")
os._exit(0)
