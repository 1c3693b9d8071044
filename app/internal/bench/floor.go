package bench

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"hash/maphash"
	"io"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/golang/snappy"

	"vmcluster/lib/prompb"
)

// FloorOptions say how far a floor server goes.
type FloorOptions struct {
	Addr string
	Mode string
}

// RegisterFlags registers the flags of `vmbench floor`.
func (o *FloorOptions) RegisterFlags(fs *flag.FlagSet) {
	fs.StringVar(&o.Addr, "addr", "127.0.0.1:8490", "address to listen at; takes remote write at /api/v1/write")
	fs.StringVar(&o.Mode, "mode", "decode", "how far to go: read, snappy, decode, or lookup, which also finds each series by a hash of its labels and keeps its last sample")
}

// ServeFloor serves remote write requests and does the least work with them, to
// learn the floor of the cost of ingestion on this machine. It ends with the context.
func ServeFloor(ctx context.Context, o FloorOptions) error {
	switch o.Mode {
	case "read", "snappy", "decode", "lookup":
	default:
		return fmt.Errorf("cannot serve with -mode=%s: give read, snappy, decode or lookup", o.Mode)
	}
	ln, err := net.Listen("tcp", o.Addr)
	if err != nil {
		return fmt.Errorf("cannot listen at -addr=%s: %w", o.Addr, err)
	}
	f := newFloor(o.Mode)
	server := &http.Server{Handler: f, ReadHeaderTimeout: time.Minute}
	stop := context.AfterFunc(ctx, func() { _ = server.Close() }) // there is nothing to lose
	defer stop()
	if err := server.Serve(ln); !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("cannot serve at -addr=%s: %w", o.Addr, err)
	}
	return nil
}

// floor is the handler. It counts what it decodes.
type floor struct {
	mode    string
	samples atomic.Int64
	pool    sync.Pool // of *floorBuffers
	seed    maphash.Seed
	parts   [256]floorPart // by hash, so that connections seldom meet
}

type floorPart struct {
	mu   sync.Mutex
	last map[uint64]prompb.Sample // by hash of the labels
}

type floorBuffers struct {
	body, raw []byte
	decoder   prompb.Decoder[prompb.Label]
}

func newFloor(mode string) *floor {
	f := &floor{mode: mode, seed: maphash.MakeSeed()}
	f.pool.New = func() any { return new(floorBuffers) }
	for i := range f.parts {
		f.parts[i].last = map[uint64]prompb.Sample{}
	}
	return f
}

func (f *floor) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	switch r.URL.Path {
	case "/api/v1/write":
		if err := f.take(r); err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		w.WriteHeader(http.StatusNoContent)
	case "/samples":
		_, _ = fmt.Fprintln(w, f.samples.Load()) // the client may have gone
	default:
		http.NotFound(w, r)
	}
}

func (f *floor) take(r *http.Request) error {
	if r.ContentLength < 0 || r.ContentLength > maxBodyBytes {
		return fmt.Errorf("cannot take a request of %d bytes: send its length, at most %d", r.ContentLength, maxBodyBytes)
	}
	b := f.pool.Get().(*floorBuffers)
	defer f.pool.Put(b)
	if int64(cap(b.body)) < r.ContentLength {
		b.body = make([]byte, r.ContentLength)
	}
	b.body = b.body[:r.ContentLength]
	if _, err := io.ReadFull(r.Body, b.body); err != nil || f.mode == "read" {
		return err
	}
	var err error
	if b.raw, err = snappy.Decode(b.raw[:cap(b.raw)], b.body); err != nil || f.mode == "snappy" {
		return err
	}
	b.decoder.Reset(b.raw)
	defer b.decoder.Reset(nil)
	n := 0
	for b.decoder.Next() {
		s := b.decoder.At()
		n += len(s.Samples)
		if f.mode == "lookup" && len(s.Samples) > 0 {
			f.keep(s)
		}
	}
	f.samples.Add(int64(n))
	return b.decoder.Err()
}

// keep replaces the last sample of the series.
func (f *floor) keep(s *prompb.TimeSeries[prompb.Label]) {
	var h maphash.Hash
	h.SetSeed(f.seed)
	for _, l := range s.Labels {
		_, _ = h.WriteString(l.Name) // never fails
		_ = h.WriteByte(0)           // never fails
		_, _ = h.WriteString(l.Value)
		_ = h.WriteByte(0)
	}
	key := h.Sum64()
	part := &f.parts[key%uint64(len(f.parts))]
	part.mu.Lock()
	part.last[key] = s.Samples[len(s.Samples)-1]
	part.mu.Unlock()
}
