package backup

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"sync/atomic"
	"time"

	"vmcluster/lib/codec"
	"vmcluster/lib/logger"
	"vmcluster/lib/metrics"
)

// Options are common to backups and restores.
type Options struct {
	Concurrency       int   // pieces of files under way at once; 10 by default
	MaxBytesPerSecond int64 // to and from the store; 0 means as fast as it goes
	Logger            *logger.Logger
	Metrics           *metrics.Set
	PieceBytes        int64 // size of pieces; 1 GiB by default
}

func (o *Options) setDefaults() {
	if o.Concurrency <= 0 {
		o.Concurrency = 10
	}
	if o.Logger == nil {
		o.Logger = logger.Discard()
	}
	if o.Metrics == nil {
		o.Metrics = metrics.NewSet()
	}
	if o.PieceBytes <= 0 {
		o.PieceBytes = 1 << 30
	}
}

// Stats tells what a run has done, in bytes.
type Stats struct {
	Files   int
	Bytes   int64 // of all files
	Moved   int64 // sent or loaded
	Copied  int64 // on the server
	Deleted int64
}

// each calls do for the items, several at once, until one fails, and returns the first error.
func each[T any](ctx context.Context, concurrency int, items []T, do func(ctx context.Context, item T) error) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var next atomic.Int64
	var wg sync.WaitGroup
	for range min(concurrency, len(items)) {
		wg.Go(func() {
			for ctx.Err() == nil {
				i := next.Add(1) - 1
				if i >= int64(len(items)) {
					return
				}
				if err := do(ctx, items[i]); err != nil {
					cancel(err)
				}
			}
		})
	}
	wg.Wait()
	return context.Cause(ctx)
}

// limiter spreads bytes over time. It is safe for concurrent use.
type limiter struct {
	perSecond int64 // 0: no limit
	mu        sync.Mutex
	free      time.Time // when what has gone has had its time
}

// wait returns when more bytes may go than n, which have.
func (l *limiter) wait(ctx context.Context, n int) error {
	if l.perSecond <= 0 {
		return ctx.Err()
	}
	l.mu.Lock()
	now := time.Now()
	if l.free.Before(now) {
		l.free = now
	}
	l.free = l.free.Add(time.Duration(float64(n) / float64(l.perSecond) * float64(time.Second)))
	pause := l.free.Sub(now)
	l.mu.Unlock()
	select {
	case <-time.After(pause):
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// maxRead is the most bytes that are read at once, so that a low limit does not come in bursts.
const maxRead = 64 << 10

// meter is a piece on its way: it is limited, counted, and gets a checksum.
type meter struct {
	ctx   context.Context
	r     io.Reader
	limit *limiter
	count func(n int)
	crc   uint32
}

// Read implements io.Reader.
func (m *meter) Read(p []byte) (int, error) {
	n, err := m.r.Read(p[:min(len(p), maxRead)])
	m.crc = codec.UpdateChecksum(m.crc, p[:n])
	m.count(n)
	if waitErr := m.limit.wait(m.ctx, n); waitErr != nil { // for what came, which may be less than there was room for
		err = waitErr
	}
	return n, err
}

// seekableMeter is a meter which starts again when its store does.
type seekableMeter struct {
	meter
	section *io.SectionReader
}

// Seek implements io.Seeker. The checksum is right when the piece has been read from its start.
func (m *seekableMeter) Seek(offset int64, whence int) (int64, error) {
	n, err := m.section.Seek(offset, whence)
	if err == nil && n == 0 {
		m.crc = 0
	}
	return n, err
}

// progress logs how far a run is, now and then.
type progress struct {
	log   *logger.Logger
	what  string // such as "uploaded"
	route string // such as: from "a" to "b"
	total int64
	done  atomic.Int64
	start time.Time
}

// every logs until the context ends; the caller waits for it.
func (p *progress) every(ctx context.Context, interval time.Duration) {
	ticker := time.NewTicker(interval)
	defer ticker.Stop()
	for {
		select {
		case <-ticker.C:
			p.say()
		case <-ctx.Done():
			return
		}
	}
}

func (p *progress) say() {
	done, elapsed := p.done.Load(), time.Since(p.start)
	left := "unknown"
	if done > 0 {
		left = time.Duration(float64(elapsed) / float64(done) * float64(max(0, p.total-done))).Round(time.Second).String()
	}
	percent := 100.0
	if p.total > 0 {
		percent = min(100, float64(done)/float64(p.total)*100)
	}
	p.log.Infof("%s %d out of %d bytes (%.2f%%) %s in %s; estimated time to completion: %s", p.what, done, p.total, percent, p.route, elapsed.Round(time.Millisecond), left)
}

// watched runs do while progress is logged.
func (p *progress) watched(ctx context.Context, do func() error) error {
	p.start = time.Now()
	ctx, cancel := context.WithCancel(ctx)
	var wg sync.WaitGroup
	wg.Go(func() { p.every(ctx, progressInterval) })
	err := do()
	cancel()
	wg.Wait()
	if err == nil {
		p.say()
	}
	return err
}

const progressInterval = 10 * time.Second

// closing joins the error of a Close to another one.
func closing(err *error, what string, c io.Closer) {
	if closeErr := c.Close(); closeErr != nil {
		*err = errors.Join(*err, fmt.Errorf("cannot close %s: %w", what, closeErr))
	}
}
