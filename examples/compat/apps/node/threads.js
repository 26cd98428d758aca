// Asks four worker threads at each request, and counts their answers in memory that all share.
const http = require('node:http'), { Worker, isMainThread, parentPort, workerData } = require('node:worker_threads');

const fibonacci = (n) => (n < 2 ? n : fibonacci(n - 1) + fibonacci(n - 2));

if (!isMainThread) {
  parentPort.on('message', (n) => {
    Atomics.add(workerData, 0, 1);
    parentPort.postMessage(fibonacci(n));
  });
} else {
  const answers = new Int32Array(new SharedArrayBuffer(4));
  const workers = Array.from({ length: 4 }, () => new Worker(__filename, { workerData: answers }));
  const ask = (worker, n) => new Promise((resolve) => {
    worker.once('message', resolve);
    worker.postMessage(n);
  });
  let queue = Promise.resolve(); // one request after the other, so that answers don't get mixed up
  http.createServer((request, response) => {
    queue = queue.then(async () => {
      const before = answers[0];
      const results = await Promise.all(workers.map((worker) => ask(worker, 15)));
      const right = results.every((result) => result === 610) && answers[0] - before === workers.length;
      response.writeHead(right ? 200 : 500).end();
    });
  }).listen(8080);
}
