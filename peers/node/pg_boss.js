// pg-boss: bare loops of fetch and complete for the full queue, its own worker (which polls) for the wake-up.
"use strict";

const PgBoss = require("pg-boss");
const { main, now, number, say, slots, tasks, thousands, url, wakes, woken } = require("./asked");

main(async () => {
  const boss = new PgBoss({ connectionString: url, max: slots + 4 });
  boss.on("error", console.error);
  await boss.start();
  await boss.createQueue("nothing");

  let began = now();
  for (const ids of thousands(tasks)) await boss.insert(ids.map((id) => ({ name: "nothing", data: { id } })));
  say("add", (tasks / (now() - began)) * 1000);

  await boss.getDb().executeSql("analyze");
  const batchSize = number("PEERS_BATCH", 100);
  let done = 0;
  const slot = async () => {
    for (;;) {
      const jobs = await boss.fetch("nothing", { batchSize });
      if (!jobs.length) return;
      await boss.complete("nothing", jobs.map((job) => job.id));
      done += jobs.length;
    }
  };
  began = now();
  await Promise.all(Array.from({ length: slots }, slot));
  if (done !== tasks) throw new Error(`${done} of ${tasks} tasks were done`);
  say("drain", (tasks / (now() - began)) * 1000);

  let heard = () => {};
  await boss.work("nothing", { pollingIntervalSeconds: 0.5 }, async () => heard());
  const latencies = await woken(wakes, (tell) => (heard = tell), () => boss.send("nothing", { id: -1 }));
  say("wake", 0, latencies);
});
