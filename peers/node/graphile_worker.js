// graphile-worker. PEERS_BATCH is the size of its local queue and PEERS_DELAY_MS batches the ends of jobs (-1: neither).
"use strict";

const { Logger, makeWorkerUtils, run, runMigrations } = require("graphile-worker");
const { Pool } = require("pg");
const { main, now, number, pause, say, slots, tasks, thousands, url, wakes, woken } = require("./asked");

const logger = new Logger(() => (level, message) => level === "error" && console.error(message));
const LEFT = "select count(*)::int as n from graphile_worker._private_jobs";

main(async () => {
  const pgPool = new Pool({ connectionString: url, max: slots + 4 });
  await runMigrations({ pgPool, logger });
  const utils = await makeWorkerUtils({ pgPool, logger });

  let began = now();
  for (const ids of thousands(tasks)) {
    await utils.addJobs(ids.map((id) => ({ identifier: "nothing", payload: { id } })));
  }
  say("add", (tasks / (now() - began)) * 1000);

  await pgPool.query("analyze");
  let heard = () => {};
  const delay = number("PEERS_DELAY_MS", 0);
  const worker = {
    concurrentJobs: slots,
    localQueue: { size: number("PEERS_BATCH", 500) },
    completeJobBatchDelay: delay,
    failJobBatchDelay: delay,
  };
  began = now();
  const runner = await run({
    pgPool,
    logger,
    noHandleSignals: true,
    concurrency: slots,
    preset: { worker },
    taskList: { nothing: async ({ id }) => id < 0 && heard() },
  });
  while ((await pgPool.query(LEFT)).rows[0].n > 0) await pause(10);
  say("drain", (tasks / (now() - began)) * 1000);

  const latencies = await woken(wakes, (tell) => (heard = tell), () => utils.addJob("nothing", { id: -1 }));
  say("wake", 0, latencies);
  await runner.stop();
});
