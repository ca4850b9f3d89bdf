// What the programs of the Node peers share: what is asked of them, and how they answer.
"use strict";

const number = (name, otherwise) => Number(process.env[name] ?? otherwise);

exports.url = process.env.PEERS_URL;
exports.tasks = number("PEERS_TASKS", 1000);
exports.slots = number("PEERS_SLOTS", 10);
exports.wakes = number("PEERS_WAKES", 100);
exports.number = number;

exports.pause = (ms) => new Promise((done) => setTimeout(done, ms));

const now = () => Number(process.hrtime.bigint()) / 1e6;
exports.now = now;

// The ids of all tasks, a thousand at a time.
exports.thousands = function* (tasks) {
  for (let first = 0; first < tasks; first += 1000) {
    yield Array.from({ length: Math.min(1000, tasks - first) }, (_, k) => first + k);
  }
};

exports.say = (what, jobsPerSecond, latencies = []) => {
  const sorted = [...latencies].sort((a, b) => a - b);
  const percentile = (share) => {
    const place = Math.min(Math.floor(sorted.length * share), sorted.length - 1);
    return sorted.length ? sorted[place].toFixed(3) : "nan";
  };
  console.log(`${what} jobs_per_s=${jobsPerSecond.toFixed(0)} p50_ms=${percentile(0.5)} p99_ms=${percentile(0.99)}`);
};

// Adds one task at a time for an idle worker; milliseconds from the call until its handler began.
exports.woken = async (wakes, whenHeard, add) => {
  const latencies = [];
  for (let i = 0; i < wakes; i++) {
    await exports.pause(20);
    const began = now();
    const heard = new Promise((done) => whenHeard(() => done(now())));
    await add();
    latencies.push((await heard) - began);
  }
  return latencies;
};

exports.main = (program) =>
  program().then(
    () => process.exit(0),
    (error) => {
      console.error(error);
      process.exit(1);
    },
  );
