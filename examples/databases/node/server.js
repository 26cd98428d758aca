// A small Node.js server. Its hook makes a clone what it would be had it booted in its own allocation.
const crypto = require('node:crypto'), fs = require('node:fs'), http = require('node:http'), os = require('node:os');
const { setTimeout: sleep } = require('node:timers/promises'), { parseEnv } = require('node:util');
const pg = require('pg');

let pool;

// The clone's PostgreSQL is another one than the donor's: it may be starting still, and have no tables.
async function openDatabase() {
  pool?.end();
  pool = new pg.Pool({ connectionString: process.env.DATABASE_URL });
  pool.on('error', () => {}); // an idle connection has ended, those of the donor have in a clone: without this the process would, too
  for (;;) {
    try {
      return await pool.query('create table if not exists visits (at timestamptz default now())');
    } catch {
      await sleep(100);
    }
  }
}

async function visit() {
  await pool.query('insert into visits default values');
  const { rows: [{ count }] } = await pool.query('select count(*) from visits');
  return { hostname: os.hostname(), requests: Number(count), random: crypto.randomBytes(16).toString('hex'), allocation: process.env.NOMAD_ALLOC_ID };
}

async function afterRestore() {
  reseed();
  Object.assign(process.env, parseEnv(fs.readFileSync('/local/criu-docker.env', 'utf8')));
  await openDatabase();
}

function reseed() {
  process.dlopen({ exports: {} }, '/app/reseed.node'); // reseeds OpenSSL
  for (let i = 0; i < 128; i++) crypto.randomUUID(); // throws away those that were made before the freeze
  Math.random = () => crypto.randomInt(2 ** 48 - 1) / (2 ** 48 - 1); // nothing can seed V8's own
}

const server = http.createServer(async (request, response) => {
  try {
    if (request.method === 'POST' && request.url === '/after-restore') {
      await afterRestore();
      response.end();
    } else {
      response.end(JSON.stringify(await visit()));
    }
  } catch (error) {
    response.writeHead(500).end(String(error));
  }
});

openDatabase().then(() => server.listen(8080));
