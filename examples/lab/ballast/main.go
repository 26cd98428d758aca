// Command ballast is an app that holds much memory and needs little of it: it fills as many MiB as its argument says,
// and then answers HTTP on port 80. With a second argument it reserves so many GiB of address space first, as databases, browsers and
// runtimes do. An answer takes a tenth of the memory, /all takes all of it, and both are 500 when
// what is there is not what was filled in: after a restore, memory can be wrong without anything crashing.
package main

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"strconv"
	"time"
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		slog.Error("ballast", "err", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	if len(args) != 1 && len(args) != 2 {
		return fmt.Errorf("arguments %q: want how many MiB to fill, and how many GiB to reserve", args)
	}
	mib, err := strconv.Atoi(args[0])
	if err != nil || mib < 1 {
		return fmt.Errorf("argument %q: want how many MiB to fill", args[0])
	}
	if len(args) == 2 {
		gib, err := strconv.Atoi(args[1])
		if err != nil || gib < 1 {
			return fmt.Errorf("argument %q: want how many GiB to reserve", args[1])
		}
		if err := reserve(gib << 30); err != nil {
			return err
		}
	}
	start := time.Now()
	m, err := fill(mib << 20)
	if err != nil {
		return err
	}
	slog.Info("filled", "MiB", mib, "took", time.Since(start).Round(time.Millisecond))
	config := net.ListenConfig{}
	config.SetMultipathTCP(false) // which CRIU can't freeze
	l, err := config.Listen(context.Background(), "tcp", ":80")
	if err != nil {
		return err
	}
	s := http.Server{Handler: m.handler(), ReadHeaderTimeout: 10 * time.Second}
	return s.Serve(l)
}

func (m *memory) handler() http.Handler {
	answer := func(right func() bool) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) {
			if !right() {
				http.Error(w, "The memory is not what was filled in.", http.StatusInternalServerError)
				return
			}
			fmt.Fprintln(w, "The memory is what was filled in.")
		}
	}
	mux := http.NewServeMux()
	mux.HandleFunc("/{$}", answer(func() bool { return m.sum(needed) == m.needed }))
	mux.HandleFunc("/guard", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, m.guard()) })
	mux.HandleFunc("/all", answer(func() bool { return m.sum(everything) == m.all }))
	return mux
}
