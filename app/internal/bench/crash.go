package bench

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"net/http"
	"os"
	"os/exec"
	"strconv"
	"sync"
	"time"

	"github.com/golang/snappy"

	"vmcluster/lib/prompb"
)

// CrashOptions say what to kill how often, and how much to write meanwhile.
type CrashOptions struct {
	Lab
	Peer     string // started by us, unless WriteURL is given
	WriteURL string
	ReadURL  string
	KillCmd  string
	StartCmd string

	Kills       int
	Every       time.Duration
	Writers     int
	Series      int // of each writer; a request holds one sample of each
	Pause       time.Duration
	ReadTimeout time.Duration
}

// RegisterFlags registers the flags of `vmbench crash`.
func (o *CrashOptions) RegisterFlags(fs *flag.FlagSet) {
	fs.StringVar(&o.Peer, "peer", "ours-cluster", "system to start and to kill, of "+PeerNames+"; the floors keep nothing")
	o.register(fs)
	fs.StringVar(&o.WriteURL, "write-url", "", "remote write URL of a running system, which is tested instead of one that is started")
	fs.StringVar(&o.ReadURL, "read-url", "", "URL before /api/v1 of that system")
	fs.StringVar(&o.KillCmd, "kill-cmd", "", "shell command that kills a storage process of that system with SIGKILL")
	fs.StringVar(&o.StartCmd, "restart-cmd", "", "shell command that starts it again and returns when it has been started")
	fs.IntVar(&o.Kills, "kills", 5, "how often a storage process is killed under load; afterwards all are killed at once")
	fs.DurationVar(&o.Every, "every", 3*time.Second, "time between kills")
	fs.IntVar(&o.Writers, "writers", 4, "clients that write at the same time")
	fs.IntVar(&o.Series, "series", 100, "series of each writer; a request holds one sample of each")
	fs.DurationVar(&o.Pause, "pause", 4*time.Millisecond, "pause of a writer between requests")
	fs.DurationVar(&o.ReadTimeout, "read-timeout", time.Minute, "how long to look for missing samples after the last restart")
}

func (o *CrashOptions) check() error {
	switch {
	case o.Kills < 0 || o.Writers < 1 || o.Series < 1:
		return errors.New("cannot test crashes: give at least one writer and one series, and no negative number of kills")
	case o.WriteURL == "":
		return nil
	case o.ReadURL == "" || o.KillCmd == "" || o.StartCmd == "":
		return errors.New("cannot test crashes of a running system: with -write-url, give -read-url, -kill-cmd and -restart-cmd as well")
	}
	return nil
}

// CrashResult is what became of the samples.
type CrashResult struct {
	Origin
	Kills            int      `json:"kills"`
	Seconds          float64  `json:"seconds"` // of writing
	AckedRequests    int64    `json:"acked_requests"`
	RefusedRequests  int64    `json:"refused_requests"` // answered otherwise or not at all; their samples may be there or not
	AckedSamples     int64    `json:"acked_samples"`
	Found            int64    `json:"found"`         // of the acknowledged, with the right value
	Lost             int64    `json:"lost"`          // acknowledged and not there
	Wrong            int64    `json:"wrong"`         // samples of another value, or at a time at which none was written
	FoundRefused     int64    `json:"found_refused"` // right samples of requests that were not acknowledged
	Duplicates       int64    `json:"duplicates"`    // samples that are there more than once
	LongestRequestMs float64  `json:"longest_request_ms"`
	LastRefusal      string   `json:"last_refusal,omitempty"`
	Examples         []string `json:"examples,omitempty"` // of what is lost or wrong
}

// Failed reports whether anything acknowledged is missing, or anything is wrong.
func (r *CrashResult) Failed() bool { return r.Lost > 0 || r.Wrong > 0 || r.AckedSamples == 0 }

// Crash writes, kills, and checks what was acknowledged.
func Crash(ctx context.Context, o CrashOptions) (*CrashResult, error) {
	if err := o.check(); err != nil {
		return nil, err
	}
	v, err := o.victim(ctx)
	if err != nil {
		return nil, err
	}
	res, err := o.crash(ctx, v)
	if err == nil && o.Out != "" {
		err = o.record(res)
	}
	return res, errors.Join(err, v.close())
}

func (o *CrashOptions) crash(ctx context.Context, v victim) (*CrashResult, error) {
	w := newCrashWriters(o, v)
	start := time.Now()
	w.start(ctx)
	killErr := o.killAll(ctx, v)
	w.stop()
	res := &CrashResult{Origin: newOrigin("crash", v.name()), Kills: o.Kills, Seconds: time.Since(start).Seconds()}
	res.Version = v.version()
	w.sum(res)
	if killErr != nil {
		return nil, killErr
	}
	o.logf("stopped writing after %d acknowledged requests; killing everything once more", res.AckedRequests)
	if err := v.killEverything(ctx); err != nil {
		return nil, err
	}
	o.logf("reading back")
	return res, w.check(ctx, res)
}

// killAll kills one storage process after the other under load.
func (o *CrashOptions) killAll(ctx context.Context, v victim) error {
	for i := range o.Kills {
		if err := pause(ctx, o.Every); err != nil {
			return err
		}
		o.logf("kill %d of %d", i+1, o.Kills)
		if err := v.kill(ctx, i); err != nil {
			return err
		}
	}
	return pause(ctx, o.Every)
}

// victim is a system that is killed.
type victim interface {
	name() string
	version() string
	writeURL() string
	readURL() string
	// kill kills storage process number i, modulo their number, and starts it again.
	kill(ctx context.Context, i int) error
	// killEverything kills all storage processes at once and starts them again.
	killEverything(ctx context.Context) error
	close() error
}

func (o *CrashOptions) victim(ctx context.Context) (victim, error) {
	if o.WriteURL != "" {
		return &commandVictim{o}, nil
	}
	l, err := o.prepare(o.Peer)
	if err != nil {
		return nil, err
	}
	s, err := l.launch(ctx, o.Peer)
	if err != nil {
		return nil, err
	}
	return &launchedVictim{peer: o.Peer, server: s}, nil
}

// launchedVictim is a system we have started.
type launchedVictim struct {
	peer   string
	server *server
}

func (v *launchedVictim) name() string     { return v.peer }
func (v *launchedVictim) version() string  { return v.server.version }
func (v *launchedVictim) writeURL() string { return v.server.writeURL }
func (v *launchedVictim) readURL() string  { return v.server.readURL }
func (v *launchedVictim) close() error     { return v.server.close() }

func (v *launchedVictim) kill(ctx context.Context, i int) error {
	return restartKilled(ctx, v.server.storage[i%len(v.server.storage):][:1])
}

func (v *launchedVictim) killEverything(ctx context.Context) error {
	return restartKilled(ctx, v.server.storage)
}

func restartKilled(ctx context.Context, processes []*process) error {
	for _, p := range processes {
		p.kill()
	}
	for _, p := range processes {
		if err := p.start(); err != nil {
			return err
		}
	}
	for _, p := range processes {
		if err := p.waitHealthy(ctx); err != nil {
			return err
		}
	}
	return nil
}

// commandVictim is a running system.
type commandVictim struct{ opts *CrashOptions }

func (v *commandVictim) name() string                             { return v.opts.WriteURL }
func (v *commandVictim) version() string                          { return "" }
func (v *commandVictim) writeURL() string                         { return v.opts.WriteURL }
func (v *commandVictim) readURL() string                          { return v.opts.ReadURL }
func (v *commandVictim) close() error                             { return nil }
func (v *commandVictim) killEverything(ctx context.Context) error { return v.kill(ctx, 0) }

func (v *commandVictim) kill(ctx context.Context, _ int) error {
	for _, command := range []string{v.opts.KillCmd, v.opts.StartCmd} {
		cmd := exec.CommandContext(ctx, "sh", "-c", command)
		// A restarted server inherits these; it must not keep us waiting for the end of a pipe.
		cmd.Stdout, cmd.Stderr = os.Stderr, os.Stderr
		if err := cmd.Run(); err != nil {
			return fmt.Errorf("cannot run %q: %w", command, err)
		}
	}
	return nil
}

// crashStepMs is the distance of a series' samples.
const crashStepMs = 1000

// crashValue returns the value of a sample, which tells it from the others: 52 random bits, all of
// which a server must keep, from a hash of its place (the finaliser of splitmix64).
func crashValue(writer, request, series int) float64 {
	x := uint64(writer)<<48 ^ uint64(series)<<32 ^ uint64(request)
	x += 0x9e3779b97f4a7c15
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return 1 + float64((x^x>>31)>>12)/(1<<52)
}

// crashWriters write until they are stopped and remember what was acknowledged.
type crashWriters struct {
	opts    *CrashOptions
	victim  victim
	run     string // value of a label, so that runs against one system do not mix
	startMs int64
	client  *http.Client
	cancel  context.CancelFunc
	wg      sync.WaitGroup
	writers []crashWriter
}

// crashWriter belongs to one goroutine until stop.
type crashWriter struct {
	labels  [][]prompb.Label // by series
	acked   []bool           // by request
	longest time.Duration    // of the acknowledged
	refusal string           // the last one
}

func newCrashWriters(o *CrashOptions, v victim) *crashWriters {
	w := &crashWriters{opts: o, victim: v, run: strconv.FormatUint(rand.Uint64(), 36), writers: make([]crashWriter, o.Writers)}
	w.startMs = time.Now().Add(-12 * time.Hour).Truncate(time.Hour).UnixMilli()
	w.client = &http.Client{Timeout: time.Minute, Transport: &http.Transport{MaxIdleConnsPerHost: o.Writers}}
	for i := range w.writers {
		for s := range o.Series {
			w.writers[i].labels = append(w.writers[i].labels, []prompb.Label{
				{Name: "__name__", Value: "vmbench_crash"}, {Name: "run", Value: w.run}, {Name: "series", Value: strconv.Itoa(s)}, {Name: "writer", Value: strconv.Itoa(i)},
			})
		}
	}
	return w
}

func (w *crashWriters) start(ctx context.Context) {
	ctx, w.cancel = context.WithCancel(ctx)
	for i := range w.writers {
		w.wg.Go(func() { w.write(ctx, i) })
	}
}

func (w *crashWriters) stop() {
	w.cancel()
	w.wg.Wait()
	w.client.CloseIdleConnections()
}

// write sends one request after the other; one that fails is not repeated.
func (w *crashWriters) write(ctx context.Context, i int) {
	c := &w.writers[i]
	var raw, body []byte
	for r := 0; ctx.Err() == nil; r++ {
		raw = raw[:0]
		for s, labels := range c.labels {
			sample := prompb.Sample{Timestamp: w.startMs + int64(r)*crashStepMs, Value: crashValue(i, r, s)}
			raw = prompb.AppendTimeSeries(raw, &prompb.TimeSeries[prompb.Label]{Labels: labels, Samples: []prompb.Sample{sample}})
		}
		body = snappy.Encode(body[:cap(body)], raw)
		start := time.Now()
		// A request that has been begun is finished: its answer says whether it counts.
		status, answer, err := postOnce(context.WithoutCancel(ctx), w.client, w.victim.writeURL(), body)
		ok := err == nil && status/100 == 2
		c.acked = append(c.acked, ok)
		wait := w.opts.Pause
		switch {
		case ok:
			c.longest = max(c.longest, time.Since(start))
		case err != nil:
			c.refusal, wait = err.Error(), 50*time.Millisecond
		default:
			c.refusal, wait = (&statusError{status, answer}).Error(), 50*time.Millisecond
		}
		_ = pause(ctx, wait) // the loop notices the end
	}
}

// sum counts the requests.
func (w *crashWriters) sum(res *CrashResult) {
	for i := range w.writers {
		c := &w.writers[i]
		for _, ok := range c.acked {
			if ok {
				res.AckedRequests++
			} else {
				res.RefusedRequests++
			}
		}
		res.LongestRequestMs = max(res.LongestRequestMs, milliseconds(c.longest))
		if c.refusal != "" {
			res.LastRefusal = c.refusal
		}
	}
	res.AckedSamples = res.AckedRequests * int64(w.opts.Series)
}
