package build

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/docker/docker/api/types/container"

	"github.com/criu-docker/criu-docker/shared/engine"
)

const (
	defaultInterval = 100 * time.Millisecond
	defaultTimeout  = 5 * time.Minute
	// attemptTimeout bounds one attempt of a probe, and one warm-up request.
	attemptTimeout = 30 * time.Second
	// longestLine is how much of a container's output a log probe looks at as one line.
	longestLine = 1 << 20
	// longestQuote is how many bytes of an app's answer an error quotes.
	longestQuote = 200
)

// errOutputEnded means that no line of output matched, and that there will be no more.
var errOutputEnded = fmt.Errorf("%w: its output ended", ErrNotReady)

// Wait returns when a running container is ready; ErrNotReady when its time is over or it has ended.
func (p Probe) Wait(ctx context.Context, eng *engine.Engine, id string) error {
	if err := p.validate(); err != nil {
		return err
	}
	c, err := eng.Client.ContainerInspect(ctx, id)
	if err != nil {
		return fmt.Errorf("ready: %w", err)
	}
	addr, err := address(ctx, eng, c)
	if err != nil {
		return err
	}
	return p.wait(ctx, eng, id, addr)
}

// wait returns when the container is ready; ErrNotReady when its time is over or it has ended.
func (p Probe) wait(ctx context.Context, eng *engine.Engine, id, addr string) error {
	timeout := p.Timeout
	if timeout == 0 {
		timeout = defaultTimeout
	}
	if addr == "" && (p.Type == ProbeHTTP || p.Type == ProbeTCP) {
		return fmt.Errorf("ready: the container has no network, so that %s cannot reach it: use an exec or log probe", p.Type)
	}
	ctx, cancel := context.WithTimeoutCause(ctx, timeout, fmt.Errorf("%w within %s", ErrNotReady, timeout))
	defer cancel()
	var pollErr error
	polled := make(chan struct{})
	go func() {
		pollErr = p.poll(ctx, eng, id, addr)
		close(polled)
	}()
	defer func() {
		cancel()
		<-polled
	}()

	// Either the probe succeeds or the container ends; whichever is first.
	exited, failed := eng.Client.ContainerWait(ctx, id, container.WaitConditionNotRunning)
	for answered := polled; ; {
		select {
		case <-answered:
			if !errors.Is(pollErr, errOutputEnded) {
				return pollErr
			}
			answered = nil // the container ends as well, and its exit code says more
		case status := <-exited:
			return fmt.Errorf("%w: it ended with exit code %d", ErrNotReady, status.StatusCode)
		case err := <-failed:
			overdue := ctx.Err() != nil
			cancel()
			<-polled
			if pollErr == nil || overdue || errors.Is(pollErr, ErrNotReady) {
				return pollErr // what the app has answered says more than that its time is over
			}
			return fmt.Errorf("wait for the container: %w", err)
		}
	}
}

func (p Probe) poll(ctx context.Context, eng *engine.Engine, id, addr string) error {
	if p.Type == ProbeLog {
		return p.follow(ctx, eng, id)
	}
	interval := p.Interval
	if interval == 0 {
		interval = defaultInterval
	}
	tick := time.NewTicker(interval)
	defer tick.Stop()
	var last error
	for {
		err := p.attempt(ctx, eng, id, addr)
		if err == nil {
			return nil
		}
		if last == nil || ctx.Err() == nil { // one that was cut off says less than the one before
			last = err
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return fmt.Errorf("%w: %w", context.Cause(ctx), last)
		}
	}
}

func (p Probe) attempt(ctx context.Context, eng *engine.Engine, id, addr string) error {
	ctx, cancel := context.WithTimeout(ctx, attemptTimeout)
	defer cancel()
	switch p.Type {
	case ProbeHTTP:
		return WarmupRequest{Port: p.Port, Path: p.Path, Status: p.Status}.once(ctx, addr, p.Port, func(status int) bool {
			return status/100 == 2 || status/100 == 3
		})
	case ProbeTCP:
		conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", net.JoinHostPort(addr, strconv.Itoa(p.Port)))
		if err != nil {
			return err
		}
		return conn.Close()
	default:
		return eng.Exec(ctx, id, p.Command)
	}
}

// follow reads the container's output until a line matches.
func (p Probe) follow(ctx context.Context, eng *engine.Engine, id string) error {
	pattern, err := regexp.Compile(p.Pattern)
	if err != nil {
		return err
	}
	out, err := eng.Output(ctx, id, container.LogsOptions{Follow: true})
	if err != nil {
		return err
	}
	defer out.Close()
	lines := bufio.NewScanner(out)
	lines.Buffer(nil, longestLine)
	for lines.Scan() {
		if pattern.Match(lines.Bytes()) {
			return nil
		}
	}
	switch err := lines.Err(); {
	case ctx.Err() != nil:
		return fmt.Errorf("%w: no line of output matched %q", context.Cause(ctx), p.Pattern)
	case err != nil:
		return fmt.Errorf("ready: the container's output: %w", err)
	default:
		return fmt.Errorf("%w: no line matched %q", errOutputEnded, p.Pattern)
	}
}

func (p Probe) validate() error {
	switch p.Type {
	case ProbeHTTP, ProbeTCP:
		if p.Port < 1 || p.Port > 65535 {
			return fmt.Errorf("ready: port = %d: want the container port that the app listens on, 1 to 65535", p.Port)
		}
		if p.Path != "" && !strings.HasPrefix(p.Path, "/") {
			return fmt.Errorf("ready: path = %q: want a path that begins with a slash", p.Path)
		}
	case ProbeExec:
		if len(p.Command) == 0 {
			return errors.New("ready: command is empty: give the command that exits 0 when the app is ready")
		}
	case ProbeLog:
		if _, err := regexp.Compile(p.Pattern); err != nil || p.Pattern == "" {
			return fmt.Errorf("ready: pattern = %q: want a regular expression that matches a line of the app's output", p.Pattern)
		}
	default:
		return fmt.Errorf("ready: type = %q: want %s, %s, %s or %s", p.Type, ProbeHTTP, ProbeTCP, ProbeExec, ProbeLog)
	}
	return nil
}

// send sends the request as often as asked.
func (w WarmupRequest) send(ctx context.Context, addr string, defaultPort int) error {
	for range max(w.Count, 1) {
		ctx, cancel := context.WithTimeout(ctx, attemptTimeout)
		err := w.once(ctx, addr, defaultPort, func(status int) bool { return status < 500 })
		cancel()
		if err != nil {
			return err
		}
	}
	return nil
}

// once sends the request on a connection of its own, which is closed afterwards: none is to be frozen.
func (w WarmupRequest) once(ctx context.Context, addr string, defaultPort int, acceptable func(status int) bool) error {
	port, path, method := w.Port, w.Path, w.Method
	if port == 0 {
		port = defaultPort
	}
	if path == "" {
		path = "/"
	}
	if method == "" {
		method = http.MethodGet
	}
	url := "http://" + net.JoinHostPort(addr, strconv.Itoa(port)) + path
	req, err := http.NewRequestWithContext(ctx, method, url, strings.NewReader(w.Body))
	if err != nil {
		return err
	}
	for name, value := range w.Header {
		if strings.EqualFold(name, "Host") {
			req.Host = value
		}
		req.Header.Set(name, value)
	}
	client := http.Client{
		Transport:     &http.Transport{DisableKeepAlives: true},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	resp, err := client.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	start, err := io.ReadAll(io.LimitReader(resp.Body, longestQuote))
	if err == nil {
		_, err = io.Copy(io.Discard, resp.Body)
	}
	if err != nil {
		return fmt.Errorf("%s %s: %w", method, path, err)
	}
	if w.Status != 0 && resp.StatusCode == w.Status || w.Status == 0 && acceptable(resp.StatusCode) {
		return nil
	}
	if line, _, _ := strings.Cut(strings.TrimSpace(string(start)), "\n"); line != "" {
		return fmt.Errorf("%s %s answered %s: %q", method, path, resp.Status, line)
	}
	return fmt.Errorf("%s %s answered %s", method, path, resp.Status)
}
