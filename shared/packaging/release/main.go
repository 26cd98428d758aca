// Command release makes the files of a release out of a commit: packages, archives, the Terraform provider's repository, notices of
// licences, bills of materials, and checksums. It never builds what lies in the working tree, so that a release is what the commit
// says, and anybody can make it again, byte by byte.
//
// It is used in place of goreleaser, which needs hooks for half of it (man pages, notices, the repository of a provider), has four times
// as many packages to compile as nfpm, and in its present version needs a newer Go than this project. nfpm, on which goreleaser stands,
// makes the packages here as well.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"syscall"
)

func main() {
	var r release
	flag.StringVar(&r.commit, "commit", "HEAD", "what to release; its version goes by the tags of this repository")
	flag.StringVar(&r.out, "out", "out/release", "directory to put it in; what is there goes")
	flag.StringVar(&r.key, "key", "", "GnuPG key that signs the checksums; without one nothing is signed")
	flag.StringVar(&r.tools.nfpm, "nfpm", "nfpm", "program that makes packages")
	flag.StringVar(&r.tools.licenses, "go-licenses", "go-licenses", "program that finds licences")
	flag.StringVar(&r.tools.cyclonedx, "cyclonedx-gomod", "cyclonedx-gomod", "program that makes bills of materials")
	flag.BoolVar(&r.draft, "draft", false, "make only debs, without licences, to try them")
	flag.Parse()

	syscall.Umask(0o022) // modes are part of what is released
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := r.run(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "release:", err)
		os.Exit(1)
	}
	fmt.Printf("%s: version %s\n", r.out, r.version)
	if r.key == "" && !r.draft {
		fmt.Println("not signed: no key was given (make release KEY=…)")
	}
}
