package bench

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"math"
	"net/http"
	"sync"
	"time"
)

// IngestOptions say what to send where.
type IngestOptions struct {
	Dataset    string
	URL        string // of remote write
	Conns      int
	FromScrape int
	ToScrape   int     // to stop before
	Rate       float64 // samples per second at most; 0 is without limit
	Settle     time.Duration
	PIDs       []int // of the server
}

// RegisterFlags registers the flags of `vmbench ingest`, but for the process ids.
func (o *IngestOptions) RegisterFlags(fs *flag.FlagSet) {
	fs.StringVar(&o.Dataset, "dataset", "", "folder of the dataset")
	fs.StringVar(&o.URL, "url", "", "remote write URL, such as http://localhost:8480/insert/0/prometheus/api/v1/write")
	fs.IntVar(&o.Conns, "c", 4, "connections")
	fs.IntVar(&o.FromScrape, "from-scrape", 0, "first scrape to send")
	fs.IntVar(&o.ToScrape, "to-scrape", math.MaxInt, "scrape to stop before")
	fs.Float64Var(&o.Rate, "rate", 0, "samples per second to send at most; 0 is without limit")
	fs.DurationVar(&o.Settle, "settle", 0, "how long to wait after the last request before CPU time is read")
}

// IngestResult is the cost of ingestion.
type IngestResult struct {
	Samples     int64   `json:"samples"`
	Bodies      int64   `json:"bodies"`
	WallSeconds float64 `json:"wall_s"`
	PerSecond   float64 `json:"samples_per_s"`
	CPUSeconds  float64 `json:"cpu_s"`
	CPUPerM     float64 `json:"cpu_s_per_m"` // million samples
	ClientCPU   float64 `json:"client_cpu_s"`
	Retries     int64   `json:"retries"`
	P50Ms       float64 `json:"request_p50_ms"`
	P99Ms       float64 `json:"request_p99_ms"`
	MaxMs       float64 `json:"request_max_ms,omitempty"`
	After       Usage   `json:"after"`
	AnonPeak    int64   `json:"rss_anon_peak,omitempty"` // highest of many looks

	Memory []MemoryPoint `json:"memory,omitempty"`
}

// errStop ends the reading of a dataset early.
var errStop = errors.New("stop")

// Ingest replays a dataset.
func Ingest(ctx context.Context, o IngestOptions) (*IngestResult, error) {
	if o.Dataset == "" || o.URL == "" || o.Conns < 1 {
		return nil, errors.New("cannot ingest: give -dataset, -url and at least one connection")
	}
	meter, err := startMeter(o.PIDs)
	if err != nil {
		return nil, err
	}
	defer meter.cancel()
	var res IngestResult
	r := newReplay(ctx, &o)
	err = ReadBodies(o.Dataset, func(b Body) error { return r.send(&res, meter.start, b) })
	latencies, sendErr := r.finish(&res)
	if sendErr != nil {
		return nil, fmt.Errorf("cannot write to %s: %w", o.URL, sendErr)
	}
	if err != nil && !errors.Is(err, errStop) {
		return nil, err
	}
	if res.Samples == 0 {
		return nil, fmt.Errorf("dataset %q has no scrapes from %d to %d", o.Dataset, o.FromScrape, o.ToScrape)
	}
	err = meter.finish(ctx, o.Settle, &res, latencies)
	res.Memory = nil // its peak is enough
	return &res, err
}

// pause waits, unless the context ends before.
func pause(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// replay sends requests over several connections.
type replay struct {
	ctx    context.Context
	cancel context.CancelCauseFunc
	opts   *IngestOptions
	client *http.Client
	wg     sync.WaitGroup
	conns  []replayConn
}

// replayConn belongs to one goroutine until finish.
type replayConn struct {
	queue     chan Body
	latencies []float64 // milliseconds
	retries   int64
}

func newReplay(ctx context.Context, o *IngestOptions) *replay {
	r := &replay{opts: o, conns: make([]replayConn, o.Conns)}
	r.client = newWriteClient(o.Conns)
	r.ctx, r.cancel = context.WithCancelCause(ctx)
	for i := range r.conns {
		c := &r.conns[i]
		c.queue = make(chan Body, 4) // short, so that the shards stay together in time
		r.wg.Go(func() { r.run(c) })
	}
	return r
}

func (r *replay) run(c *replayConn) {
	for b := range c.queue {
		if r.ctx.Err() != nil {
			continue
		}
		start := time.Now()
		n, err := post(r.ctx, r.client, r.opts.URL, b.Data)
		if err != nil {
			r.cancel(err) // the first one counts
		}
		c.retries += n
		c.latencies = append(c.latencies, time.Since(start).Seconds()*1000)
	}
}

// send hands a request over to its connection. It returns errStop when there is no more to do.
func (r *replay) send(res *IngestResult, start time.Time, b Body) error {
	if b.Scrape < r.opts.FromScrape {
		return nil
	}
	if b.Scrape >= r.opts.ToScrape || r.ctx.Err() != nil {
		return errStop
	}
	if r.opts.Rate > 0 {
		due := start.Add(time.Duration(float64(res.Samples) / r.opts.Rate * float64(time.Second)))
		if pause(r.ctx, time.Until(due)) != nil {
			return errStop
		}
	}
	r.conns[b.Shard%len(r.conns)].queue <- b
	res.Samples += int64(b.Samples)
	res.Bodies++
	return nil
}

// finish waits for the last answers and returns the latencies and the first failure.
func (r *replay) finish(res *IngestResult) ([]float64, error) {
	for i := range r.conns {
		close(r.conns[i].queue)
	}
	r.wg.Wait()
	err := context.Cause(r.ctx)
	r.cancel(nil)
	r.client.CloseIdleConnections()
	var latencies []float64
	for i := range r.conns {
		latencies = append(latencies, r.conns[i].latencies...)
		res.Retries += r.conns[i].retries
	}
	return latencies, err
}

// retryFor is how long a request is sent again when the server asks for that.
const retryFor = time.Minute

// post sends one request, again and again if the server asks for that.
func post(ctx context.Context, client *http.Client, url string, data []byte) (retries int64, err error) {
	for start := time.Now(); ; retries++ {
		status, answer, err := postOnce(ctx, client, url, data)
		switch {
		case err != nil:
			return retries, err
		case status/100 == 2:
			return retries, nil
		case status != http.StatusTooManyRequests && status/100 != 5 || time.Since(start) > retryFor:
			return retries, fmt.Errorf("the server answered status %d: %.300s", status, answer)
		}
		if err := pause(ctx, 200*time.Millisecond); err != nil {
			return retries, err
		}
	}
}

// postOnce sends a remote write request once.
func postOnce(ctx context.Context, client *http.Client, url string, data []byte) (status int, answer []byte, err error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, url, bytes.NewReader(data))
	if err != nil {
		return 0, nil, err
	}
	req.Header.Set("Content-Type", "application/x-protobuf")
	req.Header.Set("Content-Encoding", "snappy")
	req.Header.Set("X-Prometheus-Remote-Write-Version", "0.1.0")
	resp, err := client.Do(req)
	if err != nil {
		return 0, nil, err
	}
	defer resp.Body.Close()
	answer, err = io.ReadAll(resp.Body)
	return resp.StatusCode, answer, err
}
