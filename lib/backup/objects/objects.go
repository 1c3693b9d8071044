package objects

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"path"
	"strings"
	"sync"
	"time"

	"vmcluster/lib/errkind"
)

// Options are common to the stores.
type Options struct {
	Metadata          map[string]string // of every object
	DeleteAllVersions bool              // with an object go the earlier ones of its name
	PartBytes         int64             // most bytes in a request; 16 MiB by default
	Attempts          int               // of a request, and of a reader which does not get on; 8 by default
	MaxPause          time.Duration     // between attempts; 20 s by default
	Silence           time.Duration     // after which a connection is given up; 2 minutes by default

	// Dial makes connections; by default a net.Dialer does.
	Dial func(ctx context.Context, network, addr string) (net.Conn, error)
}

// SetDefaults fills in what is not set. A minute of trouble of the service is borne.
func (o *Options) SetDefaults() {
	if o.PartBytes <= 0 {
		o.PartBytes = 16 << 20
	}
	if o.Attempts <= 0 {
		o.Attempts = 8
	}
	if o.MaxPause <= 0 {
		o.MaxPause = 20 * time.Second
	}
	if o.Silence <= 0 {
		o.Silence = 2 * time.Minute
	}
}

// Pause waits before the next attempt, after so many which have failed: half a second and then twice as long each time, or up to half as long.
func (o *Options) Pause(ctx context.Context, failed int) error {
	pause := min(o.MaxPause, 500*time.Millisecond<<min(failed-1, 16))
	timer := time.NewTimer(pause - time.Duration(rand.Int64N(int64(pause)/2+1)))
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Location is a place in a bucket, where the objects of a store are.
type Location struct {
	Bucket string
	Dir    string // without slashes at its ends; empty: all of the bucket
}

// ParseLocation parses what follows the :// of a URL.
func ParseLocation(text string) (Location, error) {
	bucket, dir, _ := strings.Cut(text, "/")
	if bucket == "" {
		return Location{}, errkind.New(errkind.BadRequest, "the name of a bucket or container is missing, want bucket/directory")
	}
	dir = strings.Trim(dir, "/")
	if dir != "" && path.Clean(dir) != dir || dir == ".." || strings.HasPrefix(dir, "../") {
		return Location{}, errkind.New(errkind.BadRequest, "the directory %q has empty elements, or . or ..", dir)
	}
	return Location{Bucket: bucket, Dir: dir}, nil
}

// String returns the text of which the location was made.
func (l Location) String() string { return strings.TrimSuffix(l.Bucket+"/"+l.Dir, "/") }

// Prefix is what the names of all objects of the store begin with.
func (l Location) Prefix() string {
	if l.Dir == "" {
		return ""
	}
	return l.Dir + "/"
}

// Name returns the name in the bucket of an object of the store.
func (l Location) Name(key string) string { return l.Prefix() + key }

// Key returns the key of an object with a name that has the prefix.
func (l Location) Key(name string) string { return strings.TrimPrefix(name, l.Prefix()) }

// Part is a piece of a body.
type Part struct {
	Number int // from 0
	Offset int64
	Bytes  []byte
	Last   bool

	lease *lease
}

// lease ends when the memory of a part is used for something else. A request which has been answered early may still be reading its body then.
type lease struct {
	mu   sync.Mutex
	over bool
}

func (l *lease) end() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.over = true
}

// leased reads bytes of a part while they are there.
type leased struct {
	*lease
	r *bytes.Reader
}

// Reader returns a reader for bytes that are of the part or never change. All requests read by it.
func (p *Part) Reader(data []byte) io.ReadSeekCloser {
	return &leased{lease: p.lease, r: bytes.NewReader(data)}
}

// Read implements io.Reader.
func (l *leased) Read(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.over {
		return 0, io.ErrClosedPipe
	}
	return l.r.Read(p)
}

// Seek implements io.Seeker.
func (l *leased) Seek(offset int64, whence int) (int64, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.r.Seek(offset, whence)
}

// Close implements io.Closer.
func (l *leased) Close() error { return nil }

// Buffers hands out memory for parts.
type Buffers struct{ pool sync.Pool }

// Each reads a body and calls send for its parts, one after the other: one if the body is not longer than partBytes, and never none.
func (b *Buffers) Each(body io.Reader, size, partBytes int64, send func(p Part) error) error {
	buf, _ := b.pool.Get().(*[]byte)
	if n := min(size, partBytes); buf == nil || int64(cap(*buf)) < n {
		fresh := make([]byte, n)
		buf = &fresh
	}
	defer b.pool.Put(buf)
	for p := (Part{}); ; p.Number++ {
		n := min(partBytes, size-p.Offset)
		p.Bytes = (*buf)[:n]
		if got, err := io.ReadFull(body, p.Bytes); err != nil {
			return fmt.Errorf("cannot read what is to be sent, at byte %d of %d: %w", p.Offset+int64(got), size, err)
		}
		p.Last, p.lease = p.Offset+n == size, &lease{}
		err := send(p)
		p.lease.end()
		if err != nil || p.Last {
			return err
		}
		p.Offset += n
	}
}

// PartBytes returns how long parts are of which there may be most at most: as long as they should be, unless the object is very large.
func PartBytes(size, partBytes, most int64) int64 {
	return max(partBytes, (size+most-1)/most)
}
