package hooks

// runtime is a language runtime or a server, with what it offers an app that wants something random.
type runtime struct {
	name    string
	command []string
	// hook tells a clone what it is, in the command line's spelling.
	hook       string
	source     string // the file with the hook
	tls        bool   // on port 8443
	generators []generator
	openssl    []string // those that need no hook if OpenSSL has the provider; none: not tried
	note       string
}

// generator is one source of random values. Its name is a key of what the service answers.
type generator struct {
	name   string
	shared bool   // two clones without a hook go on with the same values
	cure   string // what the hook does; "" if nothing does
}

const (
	afterRestore = "http://:8080/after-restore"
	kernel       = "asks the kernel each time"
)

var runtimes = []runtime{
	{
		name: "Python", source: "python/server.py", hook: afterRestore, command: []string{"python3", "-u", "/hooks/python/server.py"},
		generators: []generator{
			{"random.random", true, "`random.seed(bytes)`; so for each `Random()` and NumPy generator of the app's own"},
			{"ssl.RAND_bytes", true, "`ssl.RAND_add(bytes, len(bytes))`"},
			{"tempfile", true, "`tempfile._name_sequence = None`; not needed, since a name that is taken is not used"},
			{"uuid.uuid4", false, kernel},
			{"hash of a string", true, ""},
			{"secrets.token_hex", false, kernel + ", as `os.urandom` and `random.SystemRandom` do"},
		},
	},
	{
		name: "Node.js", source: "node/server.js", hook: afterRestore,
		command: []string{"sh", "-ec", `tcc -shared -nostdlib -o /tmp/reseed.node /hooks/node/reseed.c
patchelf --clear-execstack /tmp/reseed.node
exec env UV_THREADPOOL_SIZE=1 node /hooks/node/server.js`},
		openssl: []string{"crypto.randomBytes", "crypto.randomBytes, asynchronous", "crypto.getRandomValues"},
		generators: []generator{
			{"crypto.randomBytes", true, "`RAND_poll` by an addon of four lines, `node/reseed.c`: no function of Node reseeds OpenSSL"},
			{"crypto.randomBytes, asynchronous", true, "the same"},
			{"crypto.getRandomValues", true, "the same"},
			{"crypto.randomUUID", true, "the same, then throw away 128: so many are made in advance"},
			{"Math.random", true, "replace it: V8's can't be seeded"},
		},
		note: "`reseed.c` is compiled with `cc -shared -fPIC -o reseed.node reseed.c`, and was tried with Debian's Node, which shares OpenSSL's library with " +
			"it. Each worker thread has its own `crypto.randomUUID` and `Math.random`.",
	},
	{
		name: "Ruby", source: "ruby/server.rb", hook: afterRestore, command: []string{"ruby", "/hooks/ruby/server.rb"},
		generators: []generator{
			{"rand", true, "`srand(number)`; also for `shuffle` and `sample`"},
			{"Random.bytes", true, "the same"},
			{"OpenSSL::Random.random_bytes", true, "`OpenSSL::Random.random_add(bytes, bytes.bytesize)`"},
			{"SecureRandom.uuid", false, kernel},
			{"SecureRandom.hex", false, kernel},
		},
	},
	{
		name: "PHP", source: "php/server.php", hook: afterRestore, command: []string{"php", "/hooks/php/server.php"},
		generators: []generator{
			{"mt_rand", true, "`mt_srand(number)`; also for `rand`, `shuffle`, `array_rand` and `str_shuffle`"},
			{"openssl_random_pseudo_bytes", true, "OpenSSL's `RAND_add` by FFI"},
			{"lcg_value", true, ""},
			{"random_bytes", false, kernel + ", as `random_int` does"},
			{"Random\\Randomizer", false, kernel + ", with its default engine"},
		},
		note: "This is PHP that serves many requests in one run. The built-in web server (`php -S`) starts each " +
			"request anew and seeds `mt_rand` and `lcg_value` then. OpenSSL's generator goes on, and is shared there as well.",
	},
	{
		name: "Java", source: "java/Server.java", hook: afterRestore,
		command: []string{
			"java", "-Xmx64m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "--add-opens=java.base/java.lang=ALL-UNNAMED",
			"--add-opens=java.base/java.util.concurrent=ALL-UNNAMED", "/hooks/java/Server.java",
		},
		generators: []generator{
			{"Math.random", true, "`setSeed` of the `Random` behind it, by reflection"},
			{"ThreadLocalRandom", true, "a new seed for each thread, by reflection"},
			{"Random", true, "`setSeed(number)`"},
			{"SplittableRandom", true, "make a new one"},
			{"SecureRandom DRBG", true, "`setSeed(bytes)`"},
			{"SecureRandom SHA1PRNG", true, "`setSeed(bytes)`"},
			{"SecureRandom", false, "the default on Linux, `NativePRNG`, asks the kernel for what is older than 100 ms"},
			{"UUID.randomUUID", false, "takes the default `SecureRandom`"},
		},
		note: "For reflection, Java needs `--add-opens=java.base/java.lang=ALL-UNNAMED` and `--add-opens=java.base/java.util.concurrent=ALL-UNNAMED`. " +
			"An app that makes nothing secret or unique with `Math.random` and `ThreadLocalRandom` needs neither.",
	},
	{
		name: "Erlang", source: "erlang/server.escript", hook: afterRestore, command: []string{"escript", "/hooks/erlang/server.escript"},
		generators: []generator{
			{"rand:uniform", true, "`rand:seed(exsss, number)`, in each process that has used it"},
			{"crypto:strong_rand_bytes", true, "`crypto:rand_seed(bytes)`"},
		},
		note: "References and `erlang:unique_integer` are counters. Clones count on from the same numbers, so give each node a name of its own " +
			"before it joins a cluster.",
	},
	{
		name: "LuaJIT", source: "lua/server.lua", hook: afterRestore, command: []string{"luajit", "/hooks/lua/server.lua"},
		generators: []generator{
			{"math.random", true, "`math.randomseed(number)`"},
			{"RAND_bytes", true, "OpenSSL's `RAND_add`, by FFI as `RAND_bytes` itself"},
		},
	},
	{
		name: "nginx", source: "nginx/after-restore.sh", hook: "exec:sh /hooks/nginx/after-restore.sh", tls: true,
		openssl: []string{"request_id", serverRandom},
		command: []string{"sh", "/hooks/nginx/start.sh"},
		generators: []generator{
			{"request_id", true, "`nginx -s reload`: a new worker seeds itself, since its process id is another one"},
			{serverRandom, true, "the same"},
			{ticketKey, true, "before it, write a new file for `ssl_session_ticket_key`: else the master makes a key, from a generator that all clones share"},
		},
	},
}

// withProvider is the runtime with OpenSSL's generators in the kernel.
func (r runtime) withProvider() runtime {
	r.command = append([]string{"sh", "-ec", `tcc -shared -nostdlib -o /tmp/kernel.so /hooks/openssl/kernel.c
patchelf --clear-execstack /tmp/kernel.so
export OPENSSL_CONF=/hooks/openssl/openssl.cnf
exec "$@"`, "sh"}, r.command...)
	return r
}

// What a TLS client sees.
const (
	serverRandom = "server random of TLS"
	ticketKey    = "key of session tickets"
)
