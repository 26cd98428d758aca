// Package criu has a script, build.sh, that builds CRIU for distributions that lack a new one. There is nothing to import.
package criu
