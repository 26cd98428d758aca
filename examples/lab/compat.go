package main

import "context"

// The images of the compatibility suite (examples/compat) have what its apps, and those of examples/databases, run on, none of the apps.
// They come from Debian's testing release where the C library is to be a new one, and from the stable one otherwise.
const (
	compatApps      = "python3 python3-django python3-psycopg2 gunicorn uvicorn nodejs node-pg puma ruby-rails ruby-pg postgresql-18 mariadb-server redis-server memcached supervisor runit chromium-headless-shell pypy3 openjdk-25-jre-headless"
	compatServers   = "tomcat11 openjdk-21-jre-headless php-fpm nginx-light apache2 rabbitmq-server luajit lua-socket"
	compatResources = "python3"
)

func compatImages() []image {
	return []image{
		compatImage("compat-apps", "forky", compatApps),
		compatImage("compat-servers", "trixie", compatServers),
		compatImage("compat-resources", "forky", compatResources),
	}
}

// compatImage runs as a user of its own, who has a directory to write to.
func compatImage(name, suite, packages string) image {
	r := recipe{
		Suite:  suite,
		Mirror: mirror(),
		Setup: `echo force-unsafe-io > /etc/dpkg/dpkg.cfg.d/fast` + aptInstall(packages) + `
useradd --system --uid 1000 --home-dir /var/lib/app --create-home --shell /bin/sh app
rm -rf /tmp/* /var/lib/mysql /var/lib/postgresql
` + trimImage,
	}
	return image{
		Name:     name,
		ForTests: true,
		Recipe:   r.keyed(),
		Config: imageConfig{
			Cmd:          []string{"sh"},
			Env:          []string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "LANG=C.UTF-8", "HOME=/var/lib/app"},
			User:         "1000:1000",
			WorkingDir:   "/var/lib/app",
			ExposedPorts: map[string]struct{}{"8080/tcp": {}},
		},
		Build: func(ctx context.Context, _ *Lab, dir string) error { return debianImage(ctx, r, dir) },
	}
}
