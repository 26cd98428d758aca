// Writes and reads a file at each request: by io_uring with UV_USE_IO_URING=1, by threads otherwise.
const fs = require('node:fs/promises'), http = require('node:http');

http.createServer(async (request, response) => {
  await fs.writeFile('/tmp/file', 'ok\n');
  response.end(await fs.readFile('/tmp/file'));
}).listen(8080);
