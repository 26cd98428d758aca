package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
)

// aptInstall is the shell script that installs Debian packages in an image, without starting their daemons.
func aptInstall(packages string) string {
	return `
printf '#!/bin/sh\nexit 101\n' > /usr/sbin/policy-rc.d
chmod +x /usr/sbin/policy-rc.d
printf 'path-exclude=/usr/share/%s/*\n' doc man info locale > /etc/dpkg/dpkg.cfg.d/lab
apt-get install -y -q --no-install-recommends ` + packages + `
rm /usr/sbin/policy-rc.d
`
}

// trimImage deletes what only a system that is administered by hand needs.
const trimImage = `
apt-get clean
rm -rf /var/lib/apt/lists/* /usr/share/doc/* /usr/share/man/* /usr/share/info/* /usr/share/locale/* /var/log/*.log /var/cache/debconf/*-old
`

// redmineImage is a Rails application of an honest size, as Debian packages it, on SQLite, with its database migrated.
func redmineImage() image {
	r := recipe{
		Suite:  "bookworm",
		Mirror: mirror(),
		Setup: `
debconf-set-selections <<EOF
redmine redmine/instances/default/dbconfig-install boolean true
redmine redmine/instances/default/database-type select sqlite3
EOF
` + aptInstall("redmine redmine-sqlite sqlite3 puma ca-certificates") + `
database=/var/lib/dbconfig-common/sqlite3/redmine/instances/default/redmine_default
test "$(sqlite3 $database 'select count(*) > 50 from schema_migrations')" = 1
` + trimImage,
	}
	return image{
		Name:   "redmine",
		Recipe: r.keyed(),
		Config: imageConfig{
			Cmd: []string{"puma", "-e", "production", "-b", "tcp://0.0.0.0:3000", "config.ru"},
			Env: []string{
				"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "LANG=C.UTF-8",
				"X_DEBIAN_SITEID=default", "RAILS_ENV=production", "RAILS_LOG_TO_STDOUT=1",
			},
			WorkingDir:   "/usr/share/redmine",
			ExposedPorts: map[string]struct{}{"3000/tcp": {}},
		},
		Build: func(ctx context.Context, _ *Lab, dir string) error { return debianImage(ctx, r, dir) },
	}
}

// debianImage fills dir with a Debian system made by the recipe.
func debianImage(ctx context.Context, r recipe, dir string) error {
	// debootstrap wants to make the directory itself, on a file system that allows devices.
	if err := os.Remove(dir); err != nil {
		return fmt.Errorf("image root: %w", err)
	}
	if err := debootstrap(ctx, r, dir); err != nil {
		return err
	}
	for _, empty := range []string{"proc", "sys", "dev", "run", "tmp"} {
		if err := os.MkdirAll(filepath.Join(dir, empty), 0o755); err != nil {
			return fmt.Errorf("image root: %w", err)
		}
	}
	return nil
}
