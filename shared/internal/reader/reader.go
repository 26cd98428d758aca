// Package reader wraps readers for copies that must know why they ended.
package reader

import (
	"context"
	"errors"
	"io"
)

// WithContext returns a reader of r that fails with the context's cause once ctx has ended, so that a copy stops.
func WithContext(ctx context.Context, r io.Reader) io.Reader { return bound{ctx, r} }

type bound struct {
	ctx context.Context //nolint:containedctx // lives as long as one copy
	r   io.Reader
}

func (b bound) Read(p []byte) (int, error) {
	if b.ctx.Err() != nil {
		return 0, context.Cause(b.ctx)
	}
	return b.r.Read(p)
}

// Keeper remembers the error, other than io.EOF, that ended its reader: what reads through it may report another.
type Keeper struct {
	R   io.Reader
	Err error
}

// Read implements io.Reader.
func (k *Keeper) Read(p []byte) (int, error) {
	n, err := k.R.Read(p)
	if err != nil && !errors.Is(err, io.EOF) {
		k.Err = err
	}
	return n, err
}
