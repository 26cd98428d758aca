// Package goserver is a server in Go with timers and many goroutines.
package goserver

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"sync/atomic"
	"time"
)

const goroutines = 200

// Serve answers on port 8080 when all goroutines have done something since the request came. It returns when ctx ends.
func Serve(ctx context.Context) error {
	var beats [goroutines]atomic.Int64
	for i := range beats {
		go func() {
			ticker := time.NewTicker(time.Duration(i+1) * time.Millisecond)
			defer ticker.Stop()
			for range ticker.C {
				beats[i].Add(1)
			}
		}()
	}
	http.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		var before [goroutines]int64
		for i := range beats {
			before[i] = beats[i].Load()
		}
		for i := range beats {
			for beats[i].Load() == before[i] {
				select {
				case <-r.Context().Done():
					return
				case <-time.After(time.Millisecond):
				}
			}
		}
		fmt.Fprintln(w, "ok")
	})
	server := http.Server{Addr: ":8080", ReadHeaderTimeout: time.Minute}
	defer context.AfterFunc(ctx, func() { _ = server.Close() })()
	if err := server.ListenAndServe(); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}
