package main

import "github.com/docker/docker/api/types/container"

// app is a row that is asked for / by HTTP.
func app(name, image string, command []string, change ...func(*row)) row {
	r := row{Name: name, Image: image, Command: command, Path: "/"}
	for _, c := range change {
		c(&r)
	}
	return r
}

// server is a row that a command in the container asks.
func server(name, image string, command, check []string, change ...func(*row)) row {
	r := row{Name: name, Image: image, Command: command, Exec: check}
	for _, c := range change {
		c(&r)
	}
	return r
}

// random is for what returns something random, and a hook that makes it another one in each clone, or "" where none is needed.
func random(ask, hook string) func(*row) {
	return func(r *row) { r.Random, r.Hook = ask, hook }
}

func env(variables ...string) func(*row) { return func(r *row) { r.Env = variables } }

func command(args ...string) []string { return args }

// sh is a script of apps/.
func sh(script string, args ...string) []string {
	return append([]string{"sh", "/compat/apps/" + script}, args...)
}

// withInit is for what ends by a signal's default only, which a container's first process doesn't.
var withInit = host(func(h *container.HostConfig) { h.Init = new(true) })

// redmine is the demo's image.
const redmine = "redmine:lab"

const afterRestore = "http://:8080/after-restore"

// newWorkers is a hook for a server whose first process replaces its workers when it gets the signal.
func newWorkers(signal string) string { return "exec:sh /compat/apps/new-workers.sh " + signal }

// appRows are apps as people run them: small ones of our own on frameworks and servers of Debian's.
var appRows = []row{
	app("Java, G1", apps, command("java", "-XX:+UseG1GC", "/compat/apps/java/Server.java"), random("/", afterRestore)),
	app("Java, ZGC", apps, command("java", "-XX:+UseZGC", "-Xmx1g", "/compat/apps/java/Server.java"), random("/", afterRestore),
		note("ZGC reserves 16 times the largest heap that it may have. Limit that by `-Xmx`, or else lazy starts need `vm.overcommit_memory = 1`.")),
	app("Java, 500 threads", apps, command("java", "/compat/apps/java/Threads.java")),
	app("Tomcat", servers, sh("tomcat/start.sh"), random("/", ""),
		note("Session ids come from `SHA1PRNG`, whose state clones share; set `<Manager secureRandomAlgorithm=\"NativePRNG\"/>` in `context.xml`.")),

	app("Python, gunicorn with workers", apps,
		command("gunicorn", "--chdir", "/compat/apps/gunicorn", "--bind", "0.0.0.0:8080", "--workers", "4", "app:app"),
		random("/", newWorkers("HUP"))),
	app("Python, uvicorn", apps,
		command("uvicorn", "--app-dir", "/compat/apps/uvicorn", "--host", "0.0.0.0", "--port", "8080", "--lifespan", "off", "app:app"),
		random("/", afterRestore)),
	app("Python, Django", apps,
		command("gunicorn", "--chdir", "/compat/apps/django", "--bind", "0.0.0.0:8080", "--threads", "4", "app:app"),
		random("/", afterRestore)),
	app("Python, multiprocessing", apps, command("python3", "/compat/apps/multiprocessing/server.py"), withInit),
	app("PyPy", apps, command("pypy3", "/compat/apps/pypy/server.py"), withInit, random("/", afterRestore)),

	app("Node.js, worker threads", apps, command("node", "/compat/apps/node/threads.js"), withInit),
	app("Node.js, fs.watch", apps, command("node", "/compat/apps/node/watch.js"), withInit),
	app("Node.js, io_uring", apps, command("node", "/compat/apps/node/files.js"), env("UV_USE_IO_URING=1"), unconfined,
		limit("io_uring", "Only if asked for, and never with Docker's default seccomp filter, which has Node.js use threads instead.")),

	app("PHP-FPM with nginx", servers, sh("php-fpm/start.sh"),
		random("/", newWorkers("HUP $(cat /tmp/nginx.pid)")), note("Set `opcache.jit_buffer_size = 0`, also where the JIT is off, as it is by default.")),
	app("Apache, prefork with CGI", servers, command("apache2", "-d", "/tmp", "-f", "/compat/apps/apache/httpd.conf", "-D", "FOREGROUND"),
		note("`UNIQUE_ID` of mod_unique_id is the same in two clones that make it within a second.")),

	app("Ruby, Puma with workers", apps,
		command("puma", "--dir", "/compat/apps/puma", "--bind", "tcp://0.0.0.0:8080", "--config", "/compat/apps/puma/workers.rb", "--environment", "production"),
		random("/", "exec:sh /compat/apps/puma/new-workers.sh"),
		note("Puma kills workers that have not reported for `worker_timeout` (60 s of the wall clock), and those of a snapshot have not: let a hook replace them before clients come.")),
	app("Ruby, Puma with YJIT", redmine, // Debian 12, the last one whose Ruby has YJIT
		command("ruby", "--yjit", "-S", "puma", "--dir", "/compat/apps/puma", "--bind", "tcp://0.0.0.0:8080", "--environment", "production"),
		func(r *row) { r.User = "1000:1000" }, random("/", afterRestore)),
	app("Ruby, Rails", apps,
		command("puma", "--dir", "/compat/apps/rails", "--bind", "tcp://0.0.0.0:8080", "--environment", "production"),
		random("/", afterRestore)),

	app("Go", apps, command("/compat/compat", "serve"), env("GODEBUG=multipathtcp=0"),
		note("Go listens by MPTCP: set `GODEBUG=multipathtcp=0`. Clones return the same from `math/rand`, and nothing reseeds it; `crypto/rand` asks the kernel.")),
	app("LuaJIT", servers, command("luajit", "/compat/apps/luajit/server.lua"), withInit, random("/", afterRestore)),

	server("PostgreSQL", apps, sh("postgresql/start.sh"), sh("postgresql/check.sh"),
		random("psql -qAt -h /tmp postgres -c 'select random(), gen_random_uuid()'", "")),
	server("PostgreSQL, io_uring", apps, sh("postgresql/start.sh", "-c", "io_method=io_uring"), sh("postgresql/check.sh"), unconfined,
		limit("io_uring", "Leave `io_method` at its default, `worker`.")),
	server("MariaDB", apps, sh("mariadb/start.sh"), sh("mariadb/check.sh"),
		note("MariaDB reserves 8 TiB for a larger buffer pool. Set `innodb_buffer_pool_size_max`, or else lazy starts need `vm.overcommit_memory = 1`. `RANDOM_BYTES()` returns the same in clones, unless OpenSSL has the provider of [randomness.md](randomness.md).")),
	server("Redis, with a client", apps, sh("redis/start.sh"), sh("redis/check.sh")),
	server("memcached", apps, command("memcached"), command("bash", "/compat/apps/memcached/check.sh")),
	server("RabbitMQ", servers, sh("rabbitmq/start.sh"), command("python3", "/compat/apps/rabbitmq/check.py")),

	app("supervisord", apps, command("supervisord", "-c", "/compat/apps/services/supervisord.conf")),
	app("runit, runsvdir", apps, sh("services/runit/start.sh", "runsvdir", "/var/lib/app/services"),
		limit("connection (refused|reset)|EOF", "runsvdir knows its directories by device and inode, which are others in a clone: it starts all services anew, which takes seconds.")),
	app("runit, runsv", apps, sh("services/runit/start.sh", "sh", "-c", "runsv /var/lib/app/services/worker & exec runsv /var/lib/app/services/web")),
	server("Chromium, headless", apps,
		command("chromium-headless-shell", "--no-sandbox", "--remote-debugging-port=9222", "data:text/html,<title>tab</title>"),
		command("node", "/compat/apps/chromium/check.js"),
		limit("1311 GiB of address space", "It starts eagerly by default (`memory = auto`), unless `vm.overcommit_memory` is 1.")),
}
