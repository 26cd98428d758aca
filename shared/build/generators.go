package build

import (
	"bufio"
	"fmt"
	"os"
	"path"
	"regexp"
	"slices"
	"strings"
)

// generators are programs and libraries that have random generators of their own in memory, by the names of their files.
var generators = []struct {
	name  string
	files *regexp.Regexp
}{
	{".NET", regexp.MustCompile(`^libcoreclr\.so$`)},
	{"Erlang", regexp.MustCompile(`^beam\.smp$`)},
	{"Java", regexp.MustCompile(`^libjvm\.so$`)},
	{"Lua", regexp.MustCompile(`^(luajit[-.\w]*|lua5?[.\d]*|liblua(jit)?[-.\d]*\.so[.\d]*)$`)},
	{"nginx", regexp.MustCompile(`^nginx$`)},
	{"Node.js", regexp.MustCompile(`^(node(js)?|libnode\.so[.\d]*)$`)},
	{"OpenSSL", regexp.MustCompile(`^libcrypto\.so[.\d]*$`)},
	{"PHP", regexp.MustCompile(`^(php[.\d]*|php-fpm[.\d]*|php-cgi[.\d]*|libphp[.\d]*\.so)$`)},
	{"Python", regexp.MustCompile(`^(python[.\d]*|libpython[.\d]*\.so[.\d]*|pypy[.\d]*(-c)?|libpypy[.\d]*-c\.so)$`)},
	{"Ruby", regexp.MustCompile(`^(ruby[.\d]*|libruby[-.\w]*\.so[.\d]*)$`)},
}

// generatorsOf returns which of them some processes have mapped, sorted. A process that has ended has none.
func generatorsOf(pids []int) []string {
	var found []string
	for _, pid := range pids {
		f, err := os.Open(fmt.Sprintf("/proc/%d/maps", pid))
		if err != nil {
			continue
		}
		files := map[string]bool{}
		for lines := bufio.NewScanner(f); lines.Scan(); {
			const columns = 6 // range, permissions, offset, device, inode, path
			if fields := strings.Fields(lines.Text()); len(fields) >= columns {
				files[path.Base(fields[columns-1])] = true
			}
		}
		f.Close()
		for _, g := range generators {
			for file := range files {
				if g.files.MatchString(file) && !slices.Contains(found, g.name) {
					found = append(found, g.name)
				}
			}
		}
	}
	slices.Sort(found)
	return found
}

// sharedRandomness warns of generators that nothing seeds anew.
func sharedRandomness(generators []string, hooks int) []string {
	if len(generators) == 0 || hooks > 0 {
		return nil
	}
	return []string{fmt.Sprintf("%s: all clones give out the same random values, keys and ids, until the app seeds its generators anew. "+
		"Let a hook tell it (--after-restore; in Terraform: hooks.after_restore); docs/randomness.md has one for each runtime",
		strings.Join(generators, ", "))}
}
