package logs

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"github.com/criu-docker/criu-docker/nomad-driver/foreign"
)

// errNoReader means that the task's logs are not collected any more. Resuming the task resumes its forwarder, too.
var errNoReader = errors.New("the task's log pipe has no reader")

// readerPatience is how long a missing reader is waited for: the agent may be restarting.
const readerPatience = time.Hour

// pipe is the writing end of a named pipe. When the reader goes away and another comes, it goes on with that one.
type pipe struct {
	ctx  context.Context
	path string
	file *os.File
}

// openPipe waits for a reader. It ends with ctx.
func openPipe(ctx context.Context, path string) (*pipe, error) {
	p := &pipe{ctx: ctx, path: path}
	if err := p.open(); err != nil {
		return nil, err
	}
	return p, nil
}

func (p *pipe) open() error {
	// The agent makes the pipe in the directory of logs below one that is mounted in the task: the task can replace all but
	// that one.
	logs := filepath.Dir(p.path)
	dir, path := filepath.Dir(logs), filepath.Join(filepath.Base(logs), filepath.Base(p.path))
	patience := time.After(readerPatience)
	for delay := time.Millisecond; ; delay = min(2*delay, time.Second) {
		// If this waited for a reader it would block for ever where no reader comes, and so would a write to a full pipe.
		f, err := foreign.OpenPipe(dir, path)
		if err == nil {
			p.file = f
			context.AfterFunc(p.ctx, func() { _ = f.SetWriteDeadline(time.Unix(1, 0)) })
			return nil
		}
		if !errors.Is(err, unix.ENXIO) { // ENXIO: no reader yet
			return fmt.Errorf("%w: %w", errNoReader, err)
		}
		select {
		case <-time.After(delay):
		case <-patience:
			return fmt.Errorf("%w: %w", errNoReader, err)
		case <-p.ctx.Done():
			return p.ctx.Err()
		}
	}
}

// Write blocks until everything is written, ctx ends, or no reader comes.
func (p *pipe) Write(b []byte) (int, error) {
	written := 0
	for {
		n, err := p.file.Write(b[written:])
		written += n
		if err == nil {
			return written, nil
		}
		if !errors.Is(err, unix.EPIPE) {
			return written, err
		}
		p.file.Close()
		if err := p.open(); err != nil {
			return written, err
		}
	}
}

func (p *pipe) Close() error { return p.file.Close() }
