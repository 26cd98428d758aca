// What Node offers an app that wants something random, and the hook that reseeds it.
const crypto = require('node:crypto'), http = require('node:http'), { promisify } = require('node:util');

const values = async () => ({
  'Math.random': Math.random(),
  'crypto.randomUUID': crypto.randomUUID(),
  'crypto.randomBytes': crypto.randomBytes(16).toString('hex'),
  'crypto.randomBytes, asynchronous': (await promisify(crypto.randomBytes)(16)).toString('hex'), // in another thread
  'crypto.getRandomValues': Buffer.from(crypto.getRandomValues(new Uint8Array(16))).toString('hex'),
});

function afterRestore(random) {
  process.dlopen({ exports: {} }, '/tmp/reseed.node'); // reseeds OpenSSL, which no function of Node does
  for (let i = 0; i < 128; i++) crypto.randomUUID(); // throws away those that were made before the freeze
  const state = new Uint32Array(random.buffer.slice(random.byteOffset, random.byteOffset + 16));
  Math.random = () => { // xoshiro128+: nothing can seed V8's own
    const sum = (state[0] + state[3]) >>> 0, t = state[1] << 9;
    state[2] ^= state[0]; state[3] ^= state[1]; state[1] ^= state[2]; state[0] ^= state[3];
    state[2] ^= t; state[3] = (state[3] << 11) | (state[3] >>> 21);
    return sum / 2 ** 32;
  };
}

http.createServer(async (request, response) => {
  if (request.method === 'POST') {
    const identity = JSON.parse(Buffer.concat(await request.toArray()));
    afterRestore(Buffer.from(identity.random, 'hex'));
  }
  response.end(request.url === '/random' ? JSON.stringify(await values()) : '');
}).listen(8080);
