package main

import "context"

// runtimesImage has one of each language runtime that services are written in, and nginx. The programs are the tests' own: they
// mount them. Nothing in it runs as root.
func runtimesImage() image {
	r := recipe{
		Suite:  "trixie",
		Mirror: mirror(),
		Setup: `echo force-unsafe-io > /etc/dpkg/dpkg.cfg.d/fast` + aptInstall("python3 nodejs ruby php-cli openjdk-21-jre-headless erlang-base erlang-crypto luajit lua-socket openssl nginx-light tcc patchelf") + `
useradd --system --uid 1000 --no-create-home app
rm -rf /tmp/*
` + trimImage,
	}
	return image{
		Name:     "runtimes",
		ForTests: true,
		Recipe:   r.keyed(),
		Config: imageConfig{
			Cmd:          []string{"sh"},
			Env:          []string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "LANG=C.UTF-8"},
			User:         "1000:1000",
			WorkingDir:   "/",
			ExposedPorts: map[string]struct{}{"8080/tcp": {}},
		},
		Build: func(ctx context.Context, _ *Lab, dir string) error { return debianImage(ctx, r, dir) },
	}
}
