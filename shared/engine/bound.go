package engine

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"regexp"
	"time"
)

// callTimeout bounds how long the engine may take to begin an answer, for calls that have no bound of their own. The engine
// answers within milliseconds unless it waits for a container that is being started or frozen.
const callTimeout = 2 * time.Minute

// ErrHangs means that the engine is there and does not answer.
var ErrHangs = errors.New("docker engine does not answer")

// patient matches calls that take as long as what they are about, and that their callers bound: starts and stops, freezes,
// removals, pulls, and streams.
var patient = regexp.MustCompile(`/(start|stop|restart|wait|checkpoints|attach|logs|events|stats|exec|build|images/(create|load|get)|containers/[^/]+/archive)$`)

// bounded gives up on an engine that does not begin its answer in time.
type bounded struct {
	http.RoundTripper
	timeout time.Duration
}

func (b bounded) RoundTrip(req *http.Request) (*http.Response, error) {
	if req.Method == http.MethodDelete || patient.MatchString(req.URL.Path) {
		return b.RoundTripper.RoundTrip(req)
	}
	ctx, cancel := context.WithCancelCause(req.Context())
	timer := time.AfterFunc(b.timeout, func() {
		cancel(fmt.Errorf("%w: %s %s took longer than %s", ErrHangs, req.Method, req.URL.Path, b.timeout))
	})
	resp, err := b.RoundTripper.RoundTrip(req.WithContext(ctx))
	timer.Stop()
	if err != nil {
		if cause := context.Cause(ctx); errors.Is(cause, ErrHangs) {
			err = cause
		}
		cancel(nil)
		return nil, err
	}
	resp.Body = body{resp.Body, cancel}
	return resp, nil
}

// body ends the call's context when it is closed.
type body struct {
	io.ReadCloser
	cancel context.CancelCauseFunc
}

func (b body) Close() error {
	defer b.cancel(nil)
	return b.ReadCloser.Close()
}
