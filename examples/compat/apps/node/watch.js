// Watches a directory in the container's layer, as development servers and readers of configuration do.
const fs = require('node:fs'), http = require('node:http');

const directory = '/var/lib/app/watched';
fs.mkdirSync(directory, { recursive: true });

let seen = () => {};
fs.watch(directory, () => seen());

let writes = 0;
http.createServer((request, response) => {
  seen = () => response.end('ok\n');
  fs.writeFileSync(`${directory}/file`, `${++writes}`);
}).listen(8080);
